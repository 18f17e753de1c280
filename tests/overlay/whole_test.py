#!/usr/bin/python3
"""The stub with the core that was built beside it, and with our own library as the real NCCL."""
import os
import unittest

import fakes
from fakes import at, linked_to, run

CORE = os.path.join(os.path.dirname(fakes.STUB), "libslimccl-core.so")
STANDALONE = os.path.join(fakes.harness.BUILD, "src", "libslimccl.so.0")
MAKE_USE_END = ["GetUniqueId", "CommInitAll", "AllGather", "GroupStart", "AllReduce", "GroupEnd", "CommFinalize",
                "CommDestroy"]


def setUpModule():
    real = fakes.fake_nccl("lib/libnccl.so.2", "real")
    fakes.compile_c("program", ["client.c", "calls.c"], "-pthread", *linked_to(real))
    fakes.compile_c("allocations", ["allocations.c"], *linked_to(real))
    fakes.compile_c("standalone", ["client.c", "calls.c"], "-pthread", *linked_to(STANDALONE))


@unittest.skipUnless(os.path.exists(CORE), "libslimccl-core.so is not built")
class TheCore(unittest.TestCase):
    def test_a_life_goes_through_it_unchanged(self):
        untagged = {"FAKE_TRACE": "1", "SLIMCCL_LOG": "warn", "SLIMCCL_ID_TAG": "0"}
        without = run([at("program"), *MAKE_USE_END], **untagged)
        preloaded = run([at("program"), *MAKE_USE_END], fakes.STUB, **untagged)
        self.assertEqual(preloaded, without)

    def test_a_forwarded_call_allocates_nothing(self):
        code, lines, _ = run([at("allocations")], fakes.STUB)
        self.assertEqual((code, lines), (0, ["first call: some, a thousand more: 0"]))

    def test_its_children_and_its_threads(self):
        code, lines, errors = run([at("program"), "AllGather", "fork", "threads", "AllGather"], fakes.STUB,
                                  FAKE_TRACE="1", SLIMCCL_LOG="warn")
        self.assertEqual((code, lines, errors), (0, ["real ncclAllGather"] * 3, []))


class Standalone(unittest.TestCase):
    """libslimccl.so in the place of NVIDIA's: linked, or preloaded after the stub."""

    def lives(self, program, preload):
        code, lines, errors = run([at(program), *MAKE_USE_END], preload, SLIMCCL_LOG="none")
        self.assertEqual((code, lines, errors), (0, ["the id is longer than 40 bytes"], []))

    def test_linked(self):
        self.lives("standalone", None)
        self.lives("standalone", fakes.stub_in("alone"))

    def test_preloaded_after_the_stub(self):
        self.lives("program", STANDALONE)
        self.lives("program", f"{fakes.stub_in('alone')}:{STANDALONE}")

    @unittest.skipUnless(os.path.exists(CORE), "libslimccl-core.so is not built")
    def test_linked_through_the_core(self):
        code, lines, _ = run([at("standalone"), *MAKE_USE_END], fakes.STUB, SLIMCCL_LOG="warn")
        self.assertEqual((code, lines), (0, ["the id is longer than 40 bytes"]))


if __name__ == "__main__":
    fakes.harness.main()
