#!/usr/bin/python3
"""What nvcc made of the kernels: registers, spills and stack of each on every architecture, and no
instruction that rounds otherwise than the host does. What breaks these rules is seen to.

usage: resources_test.py BATCH_H KERNELS_CU [FATBIN REPORT PTX_80 PTX_90 PTX_100 NVCC FLAGS...]
Without nvcc: exit code 77.
"""
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
REGISTERS = 32  # what lets a multiprocessor hold 2048 threads
PTX_KIND = 1
# An instruction with its modifiers, outside of names of registers and directives.
OPCODE = re.compile(r"(?<![\w.%$])[a-z]\w*(?:\.\w+(?:::\w+)*)+")
FLOAT_TYPE = re.compile(r"\.(?:[bt]?f\d+(?:x\d+)?|u?e\d+m\d+(?:x\d+)?)\b")
# Moves, comparisons, and arithmetic on fp32 that rounds once, to the nearest, as the host's does.
ALLOWED_FLOAT = re.compile(
    r"(?:mov|selp|copysign|abs|neg|min|max|ld\.(?:param|shared|global(?:\.nc)?)(?:\.v[24])?"
    r"|st\.(?:shared|global)(?:\.v[24])?|setp\.(?:eq|ne|lt|le|gt|ge)u?|(?:add|sub|mul|div|rcp)\.rn"
    r"|cvt\.r[nz]i\.[su]32)\.f32|cvt\.rn\.f32\.[su](?:8|16|32)")

arguments, sys.argv = sys.argv[1:], sys.argv[:1]
if len(arguments) == 2:
    print("SKIPPED: built without nvcc, so there are no kernels")
    sys.exit(77)
BATCH, SOURCE, FATBIN, REPORT, PTX_80, PTX_90, PTX_100, NVCC, *FLAGS = arguments


def read(path):
    with open(path) as file:
        return file.read()


KERNELS = sorted(set(re.findall(r'"(slimccl_fold_to_\w+)"', read(BATCH))))


def resource_complaints(report):
    """What in ptxas's report is not as it should be."""
    seen, complaints = set(), []
    for part in report.split("Compiling entry function ")[1:]:
        kernel, architecture = re.match(r"'(\w+)' for '(\w+)'", part).groups()
        seen.add((kernel, architecture))
        counts = {what: int(count) for count, what in re.findall(
            r"(\d+) (registers|bytes stack frame|bytes spill stores|bytes spill loads"
            r"|bytes cumulative stack size|bytes lmem)", part)}
        limits = {"registers": REGISTERS, "bytes stack frame": 0, "bytes spill stores": 0,
                  "bytes spill loads": 0}
        complaints += [f"{kernel} on {architecture}: {what} unknown"
                       for what in limits if what not in counts]
        complaints += [f"{kernel} on {architecture}: {count} {what}"
                       for what, count in counts.items() if count > limits.get(what, 0)]
    wanted = {(kernel, architecture) for kernel in KERNELS for architecture in ARCHITECTURES}
    complaints += [f"{kernel} on {architecture}: missing" for kernel, architecture in wanted - seen]
    complaints += [f"{kernel} on {architecture}: unexpected" for kernel, architecture in seen - wanted]
    return complaints


def ptx_complaints(ptx):
    entries = sorted(re.findall(r"\.entry\s+(\w+)", ptx))
    complaints = [] if entries == KERNELS else [f"kernels {entries}, wanted {KERNELS}"]
    for line in ptx.splitlines():
        code = line.partition("//")[0]
        inexact = [opcode for opcode in OPCODE.findall(code)
                   if FLOAT_TYPE.search(opcode) and not ALLOWED_FLOAT.fullmatch(opcode)]
        if inexact or re.search(r"\.local\b", code):
            complaints.append(line.strip())
    return complaints


def lines_of(ptx):
    """The text without comments and spaces, which a fatbin leaves out."""
    lines = (" ".join(line.partition("//")[0].split()) for line in ptx.splitlines())
    return [line for line in lines if line]


def ptx_images(fatbin):
    """The PTX texts in a fatbin, as tests/cuda/emulated/fatbin.cc reads it."""
    at, texts = struct.unpack_from("<H", fatbin, 6)[0], []
    while at < len(fatbin):
        kind, _, header, size = struct.unpack_from("<HHIQ", fatbin, at)
        if kind == PTX_KIND:
            texts.append(fatbin[at + header:at + header + size].rstrip(b"\0").decode())
        at += header + size
    return texts


def compiled(*options, source=SOURCE):
    """What nvcc writes with other options, and what ptxas says."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "out")
        result = subprocess.run([NVCC, *FLAGS, *options, "-o", path, source], check=True, timeout=100,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(path, "rb") as file:
            return file.read(), result.stdout


class Resources(unittest.TestCase):
    def test_each_kernel_fits_on_each_architecture(self):
        self.assertEqual(resource_complaints(read(REPORT)), [])

    def test_a_change_of_any_number_is_seen(self):
        report = read(REPORT)
        for old, new in ((r"Used \d+ registers", "Used 33 registers"),
                         ("0 bytes stack frame", "8 bytes stack frame"),
                         ("0 bytes spill stores", "4 bytes spill stores"),
                         ("0 bytes spill loads", "4 bytes spill loads"),
                         ("'sm_90'", "'sm_89'"), ("_to_q4s'", "_to_q5'"), ("bytes stack", "stack")):
            changed, count = re.subn(old, new, report, count=1)
            self.assertEqual(count, 1, old)
            self.assertNotEqual(resource_complaints(changed), [], old)
        self.assertEqual(len(resource_complaints("")), len(KERNELS) * len(ARCHITECTURES))

    def test_a_kernel_that_uses_the_stack_is_seen(self):
        body = "float a[64]; for (int i = 0; i < 64; ++i) a[int(x[i]) & 63] = i; x[0] = a[int(x[1]) & 63];"
        with tempfile.NamedTemporaryFile("w", suffix=".cu") as file:
            file.write(f'extern "C" __global__ void {KERNELS[0]}(float* x) {{ {body} }}\n')
            file.flush()
            _, report = compiled("--cubin", "-arch=sm_80", "--resource-usage", source=file.name)
        self.assertIn(f"{KERNELS[0]} on sm_80: 256 bytes stack frame", resource_complaints(report))


class Instructions(unittest.TestCase):
    def test_every_operation_rounds_as_the_hosts(self):
        for path in (PTX_80, PTX_90, PTX_100):
            self.assertEqual(ptx_complaints(read(path)), [], path)

    def test_the_texts_are_those_that_the_fatbin_is_made_of(self):
        with open(FATBIN, "rb") as file:
            images = [lines_of(text) for text in ptx_images(file.read())]
        self.assertEqual(len(images), 2)
        for image, path in zip(images, (PTX_80, PTX_100)):
            self.assertTrue(image == lines_of(read(path)), f"{path} is not the fatbin's text")
        for path, target in ((PTX_80, "sm_80"), (PTX_90, "sm_90"), (PTX_100, "sm_100")):
            self.assertIn(f".target {target}", lines_of(read(path)))

    def test_each_float_instruction_that_is_not_known_to_be_exact_is_seen(self):
        text = read(PTX_100)

        def complaints_with(line):
            return ptx_complaints(text.replace("\tret;", f"\t{line}\n\tret;", 1))

        for opcode in ("div.full.f32", "add.f32", "add.rz.f32", "mul.rm.f32", "sub.rp.f32",
                       "add.rn.sat.f32", "add.rn.ftz.f32", "rcp.approx.f32", "sqrt.approx.f32",
                       "mad.rn.f32", "fma.rn.f32", "add.rn.f32x2", "add.rn.f64", "add.rn.bf16x2",
                       "cvt.rz.bf16.f32", "cvt.rn.f32.f16", "cvt.rn.satfinite.e4m3x2.f32",
                       "cvt.sat.f32.f32", "setp.lt.ftz.f32", "min.ftz.f32", "ld.local.f32",
                       "ld.local.u32", "red.global.add.f32"):
            for line in (f"{opcode} %f1, %f2;", f"@%p1 {opcode} %f1, %f2;",
                         f"{{ .reg .b16 a; {opcode} a; }}"):
                self.assertEqual(complaints_with(line), [line])
        for opcode in ("add.rn.f32", "setp.neu.f32", "cvt.rn.f32.s8", "ld.global.nc.v4.f32",
                       "mul.lo.s32"):
            self.assertEqual(complaints_with(f"{opcode} %f1, %f2;"), [])

    def test_fast_arithmetic_is_seen(self):
        ptx, _ = compiled("--ptx", "-arch=compute_80", "--use_fast_math")
        self.assertRegex("\n".join(ptx_complaints(ptx.decode())), r"\.ftz|\.approx")

    def test_a_fused_operation_is_seen(self):
        with tempfile.NamedTemporaryFile("w", suffix=".cu") as file:
            file.write("__global__ void k(float* x) { x[0] = x[1] * x[2] + x[3]; }\n")
            file.flush()
            ptx, _ = compiled("--ptx", "-arch=compute_80", "--fmad=true", source=file.name)
            self.assertIn("fma.rn", "\n".join(ptx_complaints(ptx.decode())))
            ptx, _ = compiled("--ptx", "-arch=compute_80", source=file.name)
            self.assertNotIn("fma.rn", "\n".join(ptx_complaints(ptx.decode())))


if __name__ == "__main__":
    harness.main()
