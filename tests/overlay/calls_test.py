#!/usr/bin/python3
"""Calls of programs and plugins reach the right NCCL, through the core where there is one."""
import os
import re
import shutil
import unittest

import fakes
from fakes import at, fake_nccl, library, linked_to, run, stub_in

PROGRAM = ["client.c", "calls.c"]


def setUpModule():
    real = fake_nccl("lib/libnccl.so.2", "real")
    fakes.compile_c("program", PROGRAM, "-pthread", *linked_to(real))
    fakes.compile_c("host", ["client.c"], "-pthread")
    library("plugin.so", ["calls.c"], *linked_to(real))
    stub_in("alone")
    stub_in("whole", core=[])


class Calls(unittest.TestCase):
    def calls(self, command, *words, stub="whole", lines, errors=(), code=0, **environment):
        """Runs it with the stub; errors are patterns, one for each line of stderr."""
        environment.setdefault("FAKE_TRACE", "1")
        preload = at(stub, "libslimccl-preload.so") if stub else None
        got = run([at(command), *words], preload, **environment)
        self.assertEqual((got[0], got[1]), (code, lines), got)
        self.assertEqual(len(got[2]), len(errors), got)
        for line, pattern in zip(got[2], errors):
            self.assertRegex(line, pattern)


OPENED = "core opened for 0.1.0"
WARN = r"^\S+:\d+:\d+ SLIMCCL WARN "


class Core(Calls):
    def test_every_call_goes_through_it(self):
        self.calls("program", "AllGather", "GroupStart", "GroupEnd", lines=[
            OPENED, "core ncclAllGather", "real ncclAllGather", "core ncclGroupStart",
            "real ncclGroupStart", "core ncclGroupEnd", "real ncclGroupEnd"])

    def test_off_forwards_without_it_and_says_nothing(self):
        self.calls("program", "AllGather", "state", SLIMCCL_OVERLAY="off", lines=[
            "real ncclAllGather", "files 3 threads 1 core not mapped cuda not mapped"])

    def test_nothing_is_loaded_before_the_first_call(self):
        self.calls("program", "GetVersion", "state", lines=[
            "version 22809", "files 3 threads 1 core not mapped cuda not mapped"])

    def test_without_its_file_calls_are_exact_and_one_line_says_so(self):
        self.calls("program", "AllGather", "AllReduce", stub="alone",
                   lines=["real ncclAllGather", "real ncclAllReduce"],
                   errors=[WARN + r".*alone/libslimccl-core.so.*NCCL calls stay exact.*SLIMCCL_OVERLAY=off$"])


if __name__ == "__main__":
    fakes.harness.main()
