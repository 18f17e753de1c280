#!/usr/bin/python3
"""Programs that have nothing to do with NCCL do not notice the preloaded file."""
import os
import unittest

import fakes
from fakes import at, run

STATE = "files 3 threads 1 core not mapped cuda not mapped"


def setUpModule():
    fakes.stub_in("whole", core=[])
    fakes.compile_c("host", ["client.c"], "-pthread")
    fakes.compile_c("static_host", ["bystander_main.c"], "-static")


class Bystanders(unittest.TestCase):
    def assertUnchanged(self, command, code=0):
        without, preloaded = run(command), run(command, at("whole/libslimccl-preload.so"), FAKE_TRACE="1")
        self.assertEqual(preloaded, without)
        self.assertEqual(preloaded[0], code)
        self.assertEqual(preloaded[2], [])
        return preloaded[1]

    def test_true(self):
        self.assertEqual(self.assertUnchanged(["/bin/true"]), [])

    def test_shell(self):
        lines = self.assertUnchanged(["/bin/sh", "-c", "/bin/echo one; /bin/cat /dev/null; exit 3"], code=3)
        self.assertEqual(lines, ["one"])

    def test_python(self):
        self.assertEqual(self.assertUnchanged(["/usr/bin/python3", "-c", "import ctypes, ssl; print(6 * 7)"]), ["42"])

    def test_compiler(self):
        self.assertUnchanged(["cc", "-c", os.path.join(fakes.HERE, "bystander.c"), "-o", at("bystander.o")])

    def test_static_program(self):
        self.assertEqual(self.assertUnchanged([at("static_host")]), ["static"])

    def test_open_files_threads_and_mappings(self):
        self.assertEqual(self.assertUnchanged([at("host"), "state"]), [STATE])

    def test_fork_without_exec(self):
        self.assertEqual(self.assertUnchanged([at("host"), "fork", "state"]), [STATE])

    def test_child_in_another_folder_of_a_relative_path(self):
        """The loader itself complains there; the program runs as it would."""
        command = ["/bin/sh", "-c", "cd / && /bin/echo one; exit 3"]
        code, lines, errors = run(command, "./libslimccl-preload.so", cwd=at("whole"))
        self.assertEqual((code, lines), (3, ["one"]))
        self.assertEqual([line for line in errors if not line.startswith("ERROR: ld.so:")], [])

    def test_no_system_call_of_its_own(self):
        """But for those by which the loader maps it: what true does otherwise is what it always does."""
        if not os.path.exists("/usr/bin/strace"):
            self.skipTest("no strace here")
        trace = ["/usr/bin/strace", "-f", "-o", at("trace")]
        run([*trace, "/bin/true"], None)
        with open(at("trace")) as file:
            without = [line.split("(")[0].split()[-1] for line in file]
        run([*trace, "-E", "LD_PRELOAD=" + at("whole/libslimccl-preload.so"), "/bin/true"])
        with open(at("trace")) as file:
            preloaded = [line.split("(")[0].split()[-1] for line in file]
        self.assertEqual(preloaded[-2:], without[-2:])
        self.assertEqual([call for call in preloaded if call in ("clone", "clone3", "socket", "write", "brk")],
                         [call for call in without if call in ("clone", "clone3", "socket", "write", "brk")])


if __name__ == "__main__":
    fakes.harness.main()
