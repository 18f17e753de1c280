#!/usr/bin/python3
"""The wheel: what is in it, that pip installs it without a network, that it serves from there."""
import base64
import csv
import glob
import hashlib
import io
import os
import subprocess
import sys
import unittest
import zipfile

import paths

WHEELS = glob.glob(os.path.join(paths.harness.BUILD, "plugin", "python", "slimccl-*.whl"))
TOOL = os.path.join(paths.PLUGIN, "build_wheel.py")


class Contents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with zipfile.ZipFile(WHEELS[0]) as wheel:
            cls.files = {name: wheel.read(name) for name in wheel.namelist()}

    def test_has_the_package_and_both_libraries_and_nothing_else(self):
        package = [f"slimccl/{name}" for name in os.listdir(os.path.join(paths.SITE, "slimccl"))
                   if name.endswith(".py")]
        info = "slimccl-0.1.0.dist-info"
        self.assertEqual(sorted(self.files), sorted([
            *package, *(f"slimccl/lib/libslimccl-{name}.so" for name in ("preload", "core")),
            *(f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt"))]))

    def test_the_libraries_are_those_of_the_build(self):
        for path in (paths.PRELOAD, paths.CORE):
            with open(path, "rb") as file:
                self.assertEqual(self.files[f"slimccl/lib/{os.path.basename(path)}"], file.read())

    def test_record_has_every_file_with_its_checksum(self):
        name = "slimccl-0.1.0.dist-info/RECORD"
        lines = list(csv.reader(io.StringIO(self.files[name].decode())))
        self.assertEqual(sorted(line[0] for line in lines), sorted(self.files))
        for path, checksum, size in lines:
            if path == name:
                self.assertEqual((checksum, size), ("", ""))
                continue
            digest = base64.urlsafe_b64encode(hashlib.sha256(self.files[path]).digest())
            self.assertEqual(checksum, "sha256=" + digest.decode().rstrip("="), path)
            self.assertEqual(int(size), len(self.files[path]))

    def test_the_same_files_make_the_same_wheel(self):
        again = paths.at(os.path.basename(WHEELS[0]))
        self.assertEqual(self.build(again)[0], 0)
        with open(again, "rb") as one, open(WHEELS[0], "rb") as other:
            self.assertEqual(one.read(), other.read())

    def build(self, output):
        return paths.run(sys.executable, TOOL, "--preload", paths.PRELOAD, "--core", paths.CORE,
                         output)

    def test_a_name_that_promises_too_much(self):
        tag = "py3-none-manylinux_2_"
        for name, words in ((f"slimccl-0.1.0-{tag}17_x86_64.whl", "2_17_x86_64 promises 2.17"),
                            (f"slimccl-0.2.0-{tag}34_x86_64.whl", "has no slimccl-0.2.0"),
                            ("slimccl.whl", "is no name of a wheel")):
            code, _, errors = self.build(paths.at(name))
            self.assertEqual(code, 1)
            self.assertIn(words, errors)


class Installed(unittest.TestCase):
    """In a fresh virtual environment, by pip."""

    @classmethod
    def setUpClass(cls):
        cls.bin = paths.at("venv", "bin")
        made = subprocess.run([sys.executable, "-m", "venv", paths.at("venv")], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if made.returncode:
            raise unittest.SkipTest(f"no virtual environments here: {made.stdout.strip()}")
        code, output, errors = paths.run(
            os.path.join(cls.bin, "python"), "-m", "pip", "install", "--no-deps", "--no-index",
            "--disable-pip-version-check", WHEELS[0])
        assert code == 0, output + errors

    def run_it(self, *arguments, **env):
        env.setdefault("SLIMCCL_BUILD", "/no/build")
        return paths.run(os.path.join(self.bin, "slimccl-run"), *arguments, env=env)

    def test_help(self):
        code, output, errors = self.run_it("--help")
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("slimccl-run torchrun", output)

    def test_preloads_its_own_file(self):
        code, output, errors = self.run_it("sh", "-c", "echo $LD_PRELOAD; cat /proc/self/maps")
        self.assertEqual((code, errors), (0, ""))
        file = output.split("\n")[0]
        self.assertRegex(file, f"^{paths.at('venv')}/.*/slimccl/lib/libslimccl-preload.so$")
        self.assertIn(os.path.realpath(file), output.split("\n", 1)[1])

    def test_the_library_serves_in_a_process_under_it_only(self):
        python = os.path.join(self.bin, "python")
        code = "import slimccl; print(slimccl.is_active())"
        self.assertEqual(self.run_it(python, "-c", code)[:2], (0, "True\n"))
        self.assertEqual(self.run_it(python, "-c", code, SLIMCCL_OVERLAY="off")[:2], (0, "False\n"))
        self.assertEqual(paths.run(python, "-c", code), (0, "False\n", ""))

    def test_another_python_that_has_torch_but_not_the_package(self):
        paths.write("", "elsewhere", "torch", "__init__.py")
        paths.write("Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n", "elsewhere",
                    "torch-2.9.0.dist-info", "METADATA")
        code, _, errors = self.run_it(sys.executable, "-c", "", PYTHONPATH=paths.at("elsewhere"))
        self.assertEqual(code, 2)
        self.assertIn(f"{sys.executable} has torch, but not the package slimccl", errors)

    def test_pip_takes_it_away_again(self):
        pip = (os.path.join(self.bin, "python"), "-m", "pip")
        self.addCleanup(self.setUpClass)
        self.assertEqual(paths.run(*pip, "uninstall", "-y", "slimccl")[0], 0)
        self.assertFalse(glob.glob(paths.at("venv", "lib", "*", "site-packages", "slimccl*")))


if __name__ == "__main__":
    if not WHEELS:
        print("SKIPPED: no wheel is built without nvcc, since its core would have no kernels; ./dev build fetches nvcc")
        sys.exit(77)
    paths.harness.main()
