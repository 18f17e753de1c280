#!/usr/bin/python3
"""What libslimccl-core.so is: it is loaded into programs with C++ libraries of their own, on machines older than ours."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cluster"))
import harness  # noqa: E402

CORE = os.path.join(harness.BUILD, "plugin", "preload", "core", "libslimccl-core.so")
OLDEST_GLIBC = (2, 34)


def output_of(*command):
    return subprocess.run([*command, CORE], check=True, text=True, stdout=subprocess.PIPE).stdout


class File(unittest.TestCase):
    def test_exports_one_name(self):
        names = [line.split()[-1] for line in output_of("nm", "-D", "--defined-only").splitlines()]
        self.assertEqual(names, ["slimccl_overlay_open"])

    def test_needs_the_c_library_only(self):
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-dW")))
        self.assertLessEqual(needed, {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})

    def test_asks_an_old_glibc_for_what_it_has(self):
        for line in output_of("nm", "-D", "--undefined-only").splitlines():
            kind, name = line.split()[-2:]
            version = re.search(r"@GLIBC_([\d.]+)$", name)
            if version:
                self.assertLessEqual(tuple(map(int, version[1].split("."))), OLDEST_GLIBC, name)
            else:
                self.assertEqual(kind, "w", f"{name} is of no known library")

    def test_stays_once_it_is_loaded(self):
        self.assertIn("NODELETE", output_of("readelf", "-dW"))


if __name__ == "__main__":
    harness.main()
