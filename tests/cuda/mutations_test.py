#!/usr/bin/python3
"""Each mistake in the CUDA kernels that is listed here makes the twin's test fail.

usage: mutations_test.py SOURCE_ROOT COMPILER LIBRARY...

A copy of the kernels with one replacement is compiled as the twin is (tests/cuda/twin/meson.build),
and linked in place of the right kernels with LIBRARY...: the test, the twin, the core. A text that
is not found as often as stated is a failure: the list follows the kernels.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import harness  # noqa: E402

TIMEOUT_S = 100
FLAGS = ["-std=c++20", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
FOLDER = "src/quant/cuda"  # whose code is the kernels' alone, not the host's

# Name: file, old text, new text, how often the old text is there.
MUTATIONS = {
    "no_barrier": ("encode.cuh", "  __syncthreads();\n", "", 1),
    "q8_codes_truncated": ("encode.cuh", "Q8::code_of(sums[i], inverse)",
                           "static_cast<int8_t>(sums[i] * inverse)", 1),
    "bf16_truncated": ("encode.cuh", "kBf16 ? float_to_bf16(sum)",
                       "kBf16 ? static_cast<uint16_t>(bits_of(sum) >> 16)", 1),
    "always_wide": ("plain.cuh", "count == kElems && is_wide(from)", "count == kElems", 2),
    "always_wide_stores": ("plain.cuh", "count == kElems && is_wide(into)", "count == kElems", 2),
    "wide_beyond_the_end": ("plain.cuh", "count == kElems && is_wide(", "is_wide(", 4),
    "scaled_result": ("fold.cuh", "? sums[i] : 0.0f", "? sums[i] * 1.0000001f : 0.0f", 1),
    "min_for_max": ("encode.cuh", "return a > b ? a : b;", "return a < b ? a : b;", 1),
    "subtracts": ("decode.cuh", "return sum + value * scale;", "return sum - value * scale;", 1),
    "contracted": ("decode.cuh", "return sum + value * scale;",
                   "return __builtin_fmaf(value, scale, sum);", 1),
    "sum_begins_with_plus_zero": ("fold.cuh", "sums[i] = -0.0f;", "sums[i] = 0.0f;", 1),
    "wrong_lane_in_pairs": ("encode.cuh", "first_four, 2);", "first_four, 1);", 1),
    "a_lane_left_out_of_the_maximum": ("encode.cuh", "uint32_t step = 1;", "uint32_t step = 2;", 1),
    "payload_of_nan_kept": ("encode.cuh", "bits_of(canonical(sums[i]))", "bits_of(sums[i])", 1),
    "q8_products_not_clamped": ("decode.cuh", "clamp_to_finite(difference(code, 128) * factor)",
                                "(difference(code, 128) * factor)", 1),
    "q4s_products_not_clamped": ("decode.cuh", "clamp_to_finite(difference(code, 8) * factor)",
                                 "(difference(code, 8) * factor)", 1),
    "padding_of_codes_left": ("encode.cuh", "if (place.first / kLine * kLine >= place.elems)",
                              "if (place.first >= place.elems)", 2),
    "padding_of_factors_left": ("encode.cuh", "place.superblock == last && padding",
                                "false && padding", 1),
    "nothing_saturates": ("encode.cuh", "if (saturate) sum", "if (false) sum", 1),
    "a_copy_is_a_sum": ("fold.cuh", "return is_plain(kTo) && job.runs", "return false && job.runs", 1),
    "one_run_only": ("fold.cuh", "first + job.runs;", "first + 1;", 1),
    "device_scale_ignored": ("fold.cuh", "if (!run.device_scaled) return", "if (true) return", 1),
    "device_scale_of_all": ("fold.cuh", "if (!run.device_scaled) return",
                            "if (batch.device_scale == nullptr) return", 1),
    "device_scale_always_fp16": ("fold.cuh", "== Form::kBf16 ? bf16_to_float(half)",
                                 "== Form::kQ8 ? bf16_to_float(half)", 1),
    "copies_look_at_the_other_scale": ("fold.cuh", "scale_of(batch, run) == 1.0f",
                                       "run.scale == 1.0f", 1),
    "first_job_only": ("fold.cuh", "return batch.jobs[low];", "return batch.jobs[0];", 1),
}


class Builder:
    def __init__(self, root, compiler, libraries):
        self.root, self.compiler, self.libraries = root, compiler.split(), libraries
        self.folder = tempfile.TemporaryDirectory(prefix="slimccl-mutations-")

    def mutant(self, name, file, old, new, count):
        """A folder with the changed kernels, laid out as the source tree."""
        top = os.path.join(self.folder.name, name)
        copy = os.path.join(top, FOLDER)
        shutil.copytree(os.path.join(self.root, FOLDER), copy)
        path = os.path.join(copy, file)
        with open(path) as source:
            text = source.read()
        if old and text.count(old) != count:
            raise AssertionError(f"{FOLDER}/{file} has {text.count(old)} times {old!r}, not {count}: "
                                 "bring the list of mutations up to date")
        with open(path, "w") as source:
            source.write(text.replace(old, new) if old else text)
        return top

    def run(self, name, mutation):
        """Exit code and output of the twin's test over the changed kernels."""
        top = self.mutant(name, *mutation)
        program = os.path.join(top, "test")
        includes = [f"-I{os.path.join(folder, part)}" for part in ("src", "include", "tests")
                    for folder in (top, self.root)]
        # The first definition of the kernels is linked; the right ones stay in their library.
        subprocess.run([*self.compiler, *FLAGS, *includes,
                        os.path.join(self.root, "tests/cuda/twin/kernels.cc"), *self.libraries,
                        "-o", program], check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        env = {key: value for key, value in os.environ.items() if not key.startswith("GTEST_")}
        result = subprocess.run([program, "--gtest_fail_fast"], env=env, timeout=TIMEOUT_S,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
        return result.returncode, result.stdout


class Mutations(unittest.TestCase):
    builder = None

    @classmethod
    def setUpClass(cls):
        pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        unchanged = ("fold.cuh", "", "", 0)  # no text to replace
        cls.results = {name: pool.submit(cls.builder.run, name, mutation)
                       for name, mutation in {"unchanged": unchanged, **MUTATIONS}.items()}

    def output_of(self, name):
        try:
            return self.results[name].result()
        except subprocess.CalledProcessError as error:
            self.fail(f"{' '.join(error.cmd)}\n{error.output}")

    def test_unchanged_kernels_pass(self):
        code, output = self.output_of("unchanged")
        self.assertEqual(code, 0, output)

    def fails(self, name):
        code, output = self.output_of(name)
        self.assertNotEqual(code, 0, "the twin's test passed")
        self.assertTrue("[  FAILED  ]" in output or "cuda twin: " in output, output)
        lines = [line for line in output.splitlines() if "Failure" in line or "cuda twin: " in line]
        print(f"{name}: {lines[0] if lines else output.splitlines()[-1]}")


for mutation_name in MUTATIONS:
    setattr(Mutations, f"test_{mutation_name}",
            lambda self, name=mutation_name: self.fails(name))


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    root, compiler, *libraries = sys.argv[1:]
    del sys.argv[1:]
    if shutil.which(compiler.split()[0]) is None:
        print(f"SKIPPED: the compiler {compiler} is not here any more")
        sys.exit(77)
    Mutations.builder = Builder(root, compiler, libraries)
    with Mutations.builder.folder:
        harness.main()


if __name__ == "__main__":
    main()
