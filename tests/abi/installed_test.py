#!/usr/bin/python3
"""What a stranger does with an installed SlimCCL: includes its headers from C and C++ without CUDA,
links a program through pkg-config, and puts the library in the place of libnccl.so.2.

usage: installed_test.py BUILD
"""
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))
import harness  # noqa: E402

BUILD = sys.argv.pop()
CLIENT = os.path.join(HERE, "nccl_client.c")
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
# No include or library path of the caller's may help.
CLEAN = {name: value for name, value in os.environ.items()
         if name not in ("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH",
                         "LD_LIBRARY_PATH", "LD_PRELOAD", "PKG_CONFIG_PATH", "DESTDIR")}


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = os.path.join(cls.folder.name, "root")
        cls.run_it("/usr/bin/meson", "install", "-C", BUILD, "--no-rebuild", "--quiet",
                   "--destdir", cls.root)
        files = {name: path for path, _, names in os.walk(cls.root) for name in names}
        cls.headers = files["nccl.h"]
        cls.libraries = files["libslimccl.so"]
        cls.pkgconfig = {"PKG_CONFIG_PATH": files["slimccl.pc"], "PKG_CONFIG_SYSROOT_DIR": cls.root}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def run_it(cls, *command, expected=0, **env):
        result = subprocess.run(command, env={**CLEAN, **env}, stdin=subprocess.DEVNULL, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        if result.returncode != expected:
            raise AssertionError(f"{' '.join(command)}: exit code {result.returncode}, expected "
                                 f"{expected}\n{result.stdout}")
        return result.stdout

    def path(self, *names):
        return os.path.join(self.folder.name, *names)

    def test_each_header_alone_is_strict_c_and_cxx(self):
        for header in sorted(os.listdir(self.headers)):
            for compiler, language in (("gcc", "c11"), ("g++", "c++11"), ("g++", "c++20")):
                with self.subTest(header=header, language=language):
                    self.run_it(compiler, f"-std={language}", *STRICT, "-fsyntax-only", "-x",
                                "c" if compiler == "gcc" else "c++",
                                "-I", os.path.dirname(self.headers),
                                "-include", f"slimccl/{header}", "/dev/null")

    def test_a_c_program_links_through_pkg_config(self):
        flags = self.run_it("pkg-config", "--cflags", "--libs", "slimccl", **self.pkgconfig).split()
        self.run_it("gcc", "-std=c11", *STRICT, CLIENT, *flags, "-o", self.path("linked"))
        self.run_it(self.path("linked"), LD_LIBRARY_PATH=self.libraries)

    def test_the_library_takes_the_place_of_libnccl(self):
        for folder in ("stub", "ours"):
            os.mkdir(self.path(folder))
        stub = self.path("stub", "libnccl.so.2")
        functions = ("GetVersion", "GetErrorString", "GetUniqueId", "CommInitRank", "AllReduce",
                     "CommDestroy")
        with open(self.path("stub.c"), "w") as source:
            source.writelines(f"long nccl{name}(void) {{ return 0; }}\n" for name in functions)
        self.run_it("gcc", "-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", self.path("stub.c"),
                    "-o", stub)
        os.symlink("libnccl.so.2", self.path("stub", "libnccl.so"))
        os.symlink(os.path.join(self.libraries, "libslimccl.so"), self.path("ours", "libnccl.so.2"))
        program = self.path("user")
        self.run_it("gcc", "-std=c11", *STRICT, "-I", os.path.dirname(self.headers), CLIENT,
                    "-L", self.path("stub"), "-lnccl", "-o", program)
        # The stub knows no version: what follows is not its doing.
        self.run_it(program, expected=1, LD_LIBRARY_PATH=self.path("stub"))
        self.run_it(program, LD_LIBRARY_PATH=f"{self.path('ours')}:{self.path('stub')}")


if __name__ == "__main__":
    harness.main()
