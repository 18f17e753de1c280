#!/usr/bin/python3
"""driver_test.cc notices wrong kernels: it runs on emulated drivers that are linked with mutated twins.

usage: driver_mutations_test.py SOURCE_ROOT COMPILER DRIVER_TEST LIBRARY...

LIBRARY... is what the emulated libcuda.so.1 is made of: its own archive and the twin's. How the
kernels are changed is mutations_test.py's.
"""
import os
import shutil
import subprocess
import sys
import unittest

from mutations_test import FLAGS, MUTATIONS, TIMEOUT_S, Builder, harness

# Name: how it shows.
SEEN = {"scaled_result": "FoldsOfAllCodecsOnTwoStreamsGiveTheHostsBits",
        "always_wide": "not aligned to its size"}


class EmulatorBuilder(Builder):
    def __init__(self, root, compiler, driver_test, libraries):
        super().__init__(root, compiler, libraries)
        self.driver_test = driver_test

    def run(self, name, mutation):
        """Exit code and output of the driver's test on a driver with the changed kernels."""
        top = self.mutant(name, *mutation)
        driver = os.path.join(top, "libcuda.so.1")
        includes = [f"-I{os.path.join(folder, part)}" for part in ("src", "include", "tests")
                    for folder in (top, self.root)]
        # The first definition of the kernels is linked; the right ones stay in their library.
        subprocess.run([*self.compiler, *FLAGS, "-shared", "-fPIC", "-fvisibility=hidden", *includes,
                        os.path.join(self.root, "tests/cuda/twin/kernels.cc"), *self.libraries,
                        "-pthread", "-Wl,-soname,libcuda.so.1", "-o", driver], check=True, timeout=TIMEOUT_S,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True)
        env = {key: value for key, value in os.environ.items() if not key.startswith("GTEST_")}
        result = subprocess.run([self.driver_test], env={**env, "SLIMCCL_TEST_LIBCUDA": driver},
                                timeout=TIMEOUT_S, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return result.returncode, result.stdout


class DriverMutations(unittest.TestCase):
    builder = None

    def test_unchanged_kernels_pass(self):
        unchanged = ("fold.cuh", "#pragma once", "#pragma once", 1)
        code, output = self.builder.run("unchanged", unchanged)
        self.assertEqual(code, 0, output)
        self.assertIn("[  PASSED  ]", output)

    def test_wrong_kernels_fail(self):
        for name, how in SEEN.items():
            code, output = self.builder.run(name, MUTATIONS[name])
            self.assertNotEqual(code, 0, f"{name}: the driver's test passed")
            self.assertRegex(output, rf"(?s)(FAILED.*{how}|{how})", name)


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    root, compiler, driver_test, *libraries = sys.argv[1:]
    del sys.argv[1:]
    if shutil.which(compiler.split()[0]) is None:
        print(f"SKIPPED: the compiler {compiler} is not here any more")
        sys.exit(77)
    skipped = subprocess.run([driver_test, "--gtest_filter=*TwoStreamsGive*"], stdin=subprocess.DEVNULL,
                             env={**os.environ, "GTEST_OUTPUT": ""}, stdout=subprocess.PIPE, text=True)
    if "[  SKIPPED ]" in skipped.stdout:
        print("SKIPPED: driver_test is skipped itself: built without nvcc, or not for x86-64")
        sys.exit(77)
    DriverMutations.builder = EmulatorBuilder(root, compiler, driver_test, libraries)
    with DriverMutations.builder.folder:
        harness.main()


if __name__ == "__main__":
    main()
