#!/usr/bin/python3
"""Each rule of the emulated driver and runtime that is listed here has a test that keeps it.

usage: strictness_test.py SOURCE_ROOT COMPILER TEST_FOLDER CUDA_INCLUDE LIBCUDA_PART... -- LIBCUDART_PART...

The sources are changed so that SLIMCCL_RULE=n takes rule n out, and linked before the right ones into
a libcuda.so.1 and a libcudart.so.13; the rule's test must fail on these. A text that is not there once
is a failure too: the list follows the sources.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cluster"))
import harness  # noqa: E402

COMPILER_S, TEST_S = 300, 60
FLAGS = ["-std=c++20", "-O0", "-shared", "-fPIC", "-w"]
PRELUDE = """#include <cstdlib>
static bool taken_out(int rule) {
  static const char* const which = std::getenv("SLIMCCL_RULE");
  return which != nullptr && std::atoi(which) == rule;
}
"""

# File, old text, what stands in its place without the rule, program, test. A text that ends in a
# semicolon is statements, any other an expression.
RULES = [
    ("emulated/stream.cc", "coming_.erase(ticket);",
     "coming_.erase(coming_.begin(), coming_.upper_bound(ticket));",
     "stream", "ALaterRecordingElsewhereDoesNotEndAWait"),
    ("emulated/calls_event.cc", 'event->wait(ticket, "an event, in a stream");', "",
     "stream", "WhatIsNotOrderedGoesWrong"),
    ("emulated/calls_event.cc", "require(&event->context == &stream->context, CUDA_ERROR_INVALID_HANDLE);",
     "", "stream", "AnotherDevicesStreamIsRefused"),
    ("emulated/state.cc", "require(&stream->context == &context, CUDA_ERROR_INVALID_HANDLE);", "",
     "stream", "AnotherDevicesStreamIsRefused"),
    ("emulated/state.cc", "stream.blocking && !stream_0->idle()", "false",
     "stream", "BlockingStreamsTakeTurnsWithTheDefaultStream"),
    ("emulated/state.cc", "stream.blocking && !stream_0->idle()", "!stream_0->idle()",
     "stream", "NonBlockingStreamsDoNot"),
    ("emulated/state.cc", "own.by_context[&context]", "shared[&context]",
     "stream", "EachThreadHasAStreamOfItsOwn"),
    ("emulated/state.cc", "if (on_host_function_thread()) return CUDA_ERROR_NOT_PERMITTED;", "",
     "stream", "AHostFunctionMayNotCallTheRuntime"),
    ("emulated/state.cc", "rank == settings().rank", "true",
     "runtime", "AnErrorIsInjectedInOneRankOnly"),
    ("emulated/calls_memory.cc", 'synchronize(current(), "a registration of memory");', "",
     "stream", "AllocationAndReleaseWaitForTheDevice"),
    ("emulated/copies.cc", "memory().is_pinned(from, bytes)", "true",
     "stream", "OnlyPageableMemoryMayBeChangedAfterTheCall"),
    ("emulated/copies.cc", "memory().is_pinned(from, bytes)", "false",
     "stream", "OnlyPageableMemoryMayBeChangedAfterTheCall"),
    ("emulated/memory.cc", "PROT_NONE", "PROT_READ | PROT_WRITE",
     "memory", "AStandInForKernelsReachesTheBytes"),
    ("emulated/memory.cc", "meets_next || holds(pinned_, address, 1)", "false",
     "memory", "PointersTellWhereTheyAre"),
    ("emulated/capture.cc", "own || global", "false", "capture", "AllocationAndReleaseAreErrors"),
    ("emulated/capture.cc", "own || global", "true", "capture", "TheThreadsModeSaysWhatIsForbidden"),
    ("emulated/capture.cc", "own || global", "own", "capture", "TheThreadsModeSaysWhatIsForbidden"),
    ("emulated/capture.cc", "forbid_beside_stream_0(stream);\n  if (stream.capture == nullptr) return false;",
     "if (stream.capture == nullptr) return false;",
     "capture", "TheLegacyStreamIsAnErrorBesideABlockingStream"),
    ("emulated/capture.cc", "require(joined, CUDA_ERROR_STREAM_CAPTURE_UNJOINED);", "",
     "capture", "EventsDrawOtherStreamsIn"),
    ("emulated/capture.cc", "invalidate(*stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);",
     "return false;", "capture", "EventsOfElsewhereAreErrors"),
    ("emulated/capture.cc", "require(!capture.ended, CUDA_ERROR_CAPTURED_EVENT);", "",
     "capture", "EventsOfElsewhereAreErrors"),
    ("emulated/capture.cc", "stream.capture != nullptr", "false",
     "capture", "SynchronousAndPageableCopiesAreErrors"),
    ("cudart/memory.cc", "is_device_memory(into) == to_device && is_device_memory(from) == from_device",
     "true", "memory", "ACopyOfAnotherKindIsRefused"),
    ("cudart/runtime.cc", "require(new_enough, cudaErrorInsufficientDriver);", "",
     "runtime", "AnOldDriverOrNoDeviceIsRefused"),
    ("cudart/runtime.cc", "if (forget) thread_error = cudaSuccess;", "",
     "runtime", "TheLastErrorIsKeptUntilAsked"),
]
# What a rule's replacement needs beside it.
BESIDE = {"thread_local ThreadStreams own;": "static auto& shared = *new decltype(own.by_context);"}


def with_rules(text, file):
    for number, (where, old, new, *_) in enumerate(RULES):
        if where != file:
            continue
        if text.count(old) != 1:
            raise AssertionError(f"{file} has {text.count(old)} times {old!r}: bring the list of rules up to date")
        if old.endswith(";"):
            text = text.replace(old, f"if (taken_out({number})) {{ {new} }} else {{ {old} }}")
        else:
            text = text.replace(old, f"(taken_out({number}) ? ({new}) : ({old}))")
    for after, more in BESIDE.items():
        text = text.replace(after, f"{after} {more}")
    return PRELUDE + text


class Strictness(unittest.TestCase):
    root = compiler = tests = include = folder = None
    parts = {}

    @classmethod
    def setUpClass(cls):
        for part, name in (("emulated", "libcuda.so.1"), ("cudart", "libcudart.so.13")):
            changed = []
            for file in sorted({rule[0] for rule in RULES if rule[0].startswith(part)}):
                with open(os.path.join(cls.root, "tests/cuda", file), encoding="utf-8") as source:
                    text = with_rules(source.read(), file)
                changed.append(os.path.join(cls.folder.name, file.replace("/", "_")))
                with open(changed[-1], "w", encoding="utf-8") as source:
                    source.write(text)
            includes = [f"-I{os.path.join(cls.root, folder)}" for folder in ("tests", "src", "include")]
            # The first definition of a function is linked; the right ones stay in their library.
            subprocess.run([*cls.compiler, *FLAGS, *includes, "-isystem", cls.include, *changed, *cls.parts[name],
                            f"-Wl,-soname,{name}", "-pthread", "-o", os.path.join(cls.folder.name, name)],
                           check=True, timeout=COMPILER_S)

    def run_tests(self, program, tests, rule):
        env = {key: value for key, value in os.environ.items() if not key.startswith("GTEST_")}
        program = os.path.join(self.tests, f"cudart_{program}_test")
        result = subprocess.run([program, f"--gtest_filter=*.{tests}"], timeout=TEST_S, stdin=subprocess.DEVNULL,
                                env={**env, "LD_LIBRARY_PATH": self.folder.name, "SLIMCCL_RULE": str(rule)},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return result.returncode, result.stdout

    def test_all_rules_pass(self):
        for program in sorted({rule[3] for rule in RULES}):
            code, output = self.run_tests(program, "*", -1)
            self.assertEqual(code, 0, output)

    def test_a_rule_taken_out_is_noticed(self):
        for number, (file, old, new, program, test) in enumerate(RULES):
            with self.subTest(test, file=file, old=old, new=new):
                code, output = self.run_tests(program, test, number)
                self.assertNotEqual(code, 0, "the test passed")
                self.assertIn(test, output)


def main():
    if len(sys.argv) < 8 or "--" not in sys.argv:
        sys.exit(__doc__)
    Strictness.root, compiler, Strictness.tests, Strictness.include, *parts = sys.argv[1:]
    del sys.argv[1:]
    if shutil.which(compiler.split()[0]) is None:
        print(f"SKIPPED: the compiler {compiler} is not here any more")
        sys.exit(77)
    Strictness.compiler = compiler.split()
    middle = parts.index("--")
    Strictness.parts = {"libcuda.so.1": parts[:middle], "libcudart.so.13": parts[middle + 1:]}
    Strictness.folder = tempfile.TemporaryDirectory(prefix="slimccl-strictness-")
    with Strictness.folder:
        harness.main()


if __name__ == "__main__":
    main()
