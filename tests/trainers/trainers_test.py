#!/usr/bin/python3
"""Real trainers, unmodified, on emulated GPUs of two pretend nodes: with our overlay preloaded
every loss and every parameter must have the bits that they have without it."""
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402
import launch  # noqa: E402
import torchrun  # noqa: E402

STEPS = 10
STARTED = re.compile(r"overlay \S+ over NCCL ")
COUNTED = re.compile(r"overlay: \d+ communicators, forwarded (\d+) calls")


class Stubs(unittest.TestCase):
    """Of a wheel with one library that calls a function of libcublas and one of libcudnn."""

    CALLER = "int cublasCreate_v2(void); int cudnnGetVersion(void);\n" \
             "int version(void) { return cudnnGetVersion(); }\n" \
             "int create(void) { return cublasCreate_v2(); }\n"

    def build(self, folder, name, source, *flags):
        path = os.path.join(folder, name)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, f"-Wl,-soname,{name}", "-x", "c",
                        "-", "-x", "none", *flags], input=source, text=True, check=True)
        return path

    def test_a_stub_that_is_called_tells_its_name_and_fails(self):
        with tempfile.TemporaryDirectory() as real, tempfile.TemporaryDirectory() as wheel:
            needed = []
            for name, function in (("libcublas.so.13", "cublasCreate_v2"),
                                   ("libcudnn.so.9", "cudnnGetVersion")):
                with open(os.path.join(real, "map"), "w", encoding="utf-8") as file:
                    file.write(f"{name} {{ global: {function}; }};")
                needed.append(self.build(real, name, f"int {function}(void) {{ return 0; }}",
                                         f"-Wl,--version-script,{real}/map"))
            caller = self.build(wheel, "libcaller.so", self.CALLER, *needed)
            stubs = os.path.join(wheel, "stubs")
            make = os.path.join(torchrun.HERE, "make_stubs.py")
            subprocess.run([sys.executable, make, wheel, stubs], check=True)
            code = f"import ctypes; c = ctypes.CDLL('{caller}'); print(c.version(), c.create())"
            result = subprocess.run([sys.executable, "-c", code], check=True, text=True,
                                    env={**os.environ, "LD_LIBRARY_PATH": stubs},
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(result.stdout.split(), ["91900", "1"])
        self.assertRegex(result.stderr, torchrun.COMPLAINT)
        self.assertIn("libcublas.so.13: cublasCreate_v2 was called", result.stderr)


def require(trainer=None):
    """Skips the test if a trainer cannot be run here, or fails it where it must be possible."""
    reason = torchrun.missing(trainer)
    if reason and os.environ.get("TRAINERS_REQUIRED"):
        raise RuntimeError(reason)
    if reason:
        raise unittest.SkipTest(reason)


class Operators(unittest.TestCase):
    def test_cpu_kernels_behind_cuda_operators(self):
        require()
        output, code = torchrun.run_alone(os.path.join(torchrun.HERE, "operators.py"))
        self.assertEqual(code, 0, output)
        self.assertEqual(torchrun.COMPLAINT.findall(output), [])


class TrainerTest(unittest.TestCase):
    """Two nodes of two ranks: network namespaces if this is root, else this host pretends them."""

    steps = STEPS

    @classmethod
    def setUpClass(cls):
        require()
        namespaces = os.getuid() == 0 and not os.environ.get("TRAINERS_ONE_HOST")
        cls.cluster = f"t{os.getpid()}" if namespaces else None
        if cls.cluster:
            launch.cluster_up(cls.cluster, 2)
        cls.plain = {}  # runs without preload, by trainer and arguments

    @classmethod
    def tearDownClass(cls):
        if cls.cluster:
            launch.cluster(cls.cluster, "down")

    def run_trainer(self, trainer, how, arguments=(), preload=None, env=None, steps=None):
        require(trainer)
        steps = steps or self.steps
        name = "-".join([trainer, *(word.strip("-") for word in arguments), how])
        done = torchrun.run(trainer, ["--steps", steps, *arguments], name, cluster=self.cluster,
                            preload=preload, env=env)
        print(f"   {name}: {done.seconds:.1f} s, last loss {done.losses[-1]}", flush=True)
        self.assertEqual(len(done.losses), steps, done.text)
        self.assertEqual(len(done.ranks), 4)
        return done

    def plain_run(self, trainer, arguments=()):
        key = (trainer, *arguments)
        if key not in self.plain:
            self.plain[key] = self.run_trainer(trainer, "plain", arguments)
        return self.plain[key]

    def assert_same_bits(self, one, other):
        self.assertEqual(one.losses, other.losses, f"{one.folder} and {other.folder}")
        self.assertEqual(one.parameters, other.parameters, f"{one.folder} and {other.folder}")


class Repeats(TrainerTest):
    """What the comparison with the overlay stands on: the streams' delays change nothing."""

    def twice(self, trainer, arguments=()):
        first = self.plain_run(trainer, arguments)
        losses = [float.fromhex(loss) for loss in first.losses]
        self.assertLess(losses[-1], losses[0], "it does not learn")
        self.assert_same_bits(first, self.run_trainer(trainer, "again", arguments))

    def test_fsdp2(self):
        self.twice("fsdp2")

    def test_zero3(self):
        self.twice("zero")


class Overlay(TrainerTest):
    def compare(self, trainer, arguments=(), how="preload", env=None):
        if not os.path.exists(torchrun.PRELOAD):
            self.skipTest(f"no overlay to preload: {torchrun.PRELOAD} is not built")
        done = self.run_trainer(trainer, how, arguments, torchrun.PRELOAD, env)
        self.assertRegex(done.text, STARTED)
        for rank, text in enumerate(done.ranks):
            forwarded = [int(count) for count in COUNTED.findall(text)]
            self.assertEqual(len(forwarded), 1, f"rank {rank}: {text}")
            self.assertGreater(forwarded[0], 0, f"rank {rank}")
        self.assert_same_bits(self.plain_run(trainer, arguments), done)
        return done

    def test_fsdp2(self):
        self.compare("fsdp2")

    def test_fsdp2_bf16(self):
        self.compare("fsdp2", ("--bf16",))

    def test_fsdp1(self):
        self.compare("fsdp1")

    def test_ddp(self):
        self.compare("ddp")

    def test_zero3(self):
        self.compare("zero")

    def test_kernels_that_fail_to_load_on_one_rank(self):
        done = self.compare("ddp", how="kernels", env={
            "SLIMCCL_PROFILE": "audit", "SLIMCCL_EMULATED_FAIL": "cuLibraryLoadData:1:209:2"})
        self.assertRegex(done.text, r"WARN overlay: .*the CUDA kernels cannot be used: .*rank 2: "
                                    r"cuLibraryLoadData failed.*; this communicator is exact")
        self.assertRegex(done.text, r"exact: \d+ \(CUDA kernels\)")


if __name__ == "__main__":
    harness.main()
