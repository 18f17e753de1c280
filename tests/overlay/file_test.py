#!/usr/bin/python3
"""What the preloaded file is: it is loaded into every program of a job, on machines older than ours."""
import os
import re
import subprocess
import unittest

import fakes

OLDEST_GLIBC = (2, 34)


def output_of(*command):
    return subprocess.run([*command, fakes.STUB], check=True, text=True, stdout=subprocess.PIPE).stdout


class File(unittest.TestCase):
    def test_exports_the_hooked_names_only(self):
        with open(os.path.join(fakes.HERE, "exports.txt")) as file:
            wanted = [line.strip() for line in file if not line.startswith("#")]
        got = [line.split()[-1] for line in output_of("nm", "-D", "--defined-only").splitlines()]
        self.assertEqual(sorted(got), sorted(wanted))
        self.assertLessEqual(len(got), 45)

    def test_compiles_without_a_warning(self):
        sources = [os.path.join(fakes.ROOT, "plugin/preload", name + ".c") for name in ("stub", "find", "known", "load")]
        result = subprocess.run(
            ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", '-DSLIMCCL_VERSION="0"',
             '-DSLIMCCL_STUB_SONAME="x"', f"-I{fakes.ROOT}/include", "-fPIC", "-shared", "-o", fakes.at("x.so"), *sources],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_needs_the_c_library_only(self):
        self.assertEqual(re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-dW")), ["libc.so.6"])

    def test_runs_nothing_when_it_is_loaded_or_unloaded(self):
        dynamic = output_of("readelf", "-dW")
        self.assertFalse(re.findall(r"\((?:PRE)?(?:INIT|FINI)\w*\)", dynamic))
        self.assertIn("NODELETE", dynamic)

    def test_asks_for_no_newer_c_library(self):
        versions = re.findall(r"@GLIBC_([\d.]+)", output_of("nm", "-D", "--undefined-only"))
        self.assertTrue(versions)
        newest = max(tuple(int(part) for part in version.split(".")) for version in versions)
        self.assertLessEqual(newest, OLDEST_GLIBC)

    def test_every_undefined_name_is_the_c_librarys(self):
        undefined = output_of("nm", "-D", "--undefined-only").split("\n")
        self.assertEqual([line for line in undefined if line and "@GLIBC_" not in line], [])


if __name__ == "__main__":
    fakes.harness.main()
