#!/usr/bin/python3
"""NVIDIA's own library, where it is: it answers without a GPU what can be asked without one."""
import ctypes
import os
import site
import unittest

import fakes
from fakes import at, linked_to, run

PLACES = ["/usr/local/cuda/lib/libnccl.so.2", "/usr/lib/x86_64-linux-gnu/libnccl.so.2",
          *(os.path.join(folder, "nvidia/nccl/lib/libnccl.so.2") for folder in site.getsitepackages())]


def setUpModule():
    genuine = next((path for path in PLACES if os.path.exists(path)), None)
    if genuine is None:
        raise unittest.SkipTest("no libnccl.so.2 of NVIDIA's here: not in " + ", ".join(PLACES))
    fakes.stub_in("alone")
    fakes.stub_in("whole", core=[])
    fakes.compile_c("program", ["client.c", "calls.c"], "-pthread", "-Wl,-z,lazy", *linked_to(genuine))
    Genuine.file = genuine


class Genuine(unittest.TestCase):
    file = None

    def version(self):
        version = ctypes.c_int()
        ctypes.CDLL(self.file).ncclGetVersion(ctypes.byref(version))
        return version.value

    def calls(self, *words, stub="alone", **environment):
        return run([at("program"), *words], at(stub, "libslimccl-preload.so"), NCCL_DEBUG="NONE",
                   NCCL_SOCKET_IFNAME="lo", **environment)

    def test_answers_through_us(self):
        got = self.calls("GetVersion", "GetErrorString", "GetUniqueId", SLIMCCL_OVERLAY="off")
        self.assertEqual(got, (0, [f"version {self.version()}", "invalid usage (run with NCCL_DEBUG=WARN for details)",
                                   "the id is within 40 bytes"], []))

    def test_its_errors_are_its_own(self):
        got = self.calls("AllGather", "GetLastError", SLIMCCL_OVERLAY="off")
        self.assertEqual(got, (0, ["AllGather returned 4", "AllGather : comm argument is NULL"], []))

    def test_its_calls_of_its_own_names_do_not_reach_the_core(self):
        """ncclBcast calls ncclBroadcast by its public name."""
        got = self.calls("Bcast", stub="whole", FAKE_TRACE="1")
        self.assertEqual(got, (0, ["core opened for 0.1.0", "core ncclBcast", "Bcast returned 4"], []))


if __name__ == "__main__":
    fakes.harness.main()
