#!/usr/bin/python3
"""The ranks of ./dev bench rivals and their driver, on this machine: our own program through the whole
protocol, and a stub with faults, each of which must be noticed and none of which may hang or stay."""
import os
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402
import launch  # noqa: E402
import rivals_groups  # noqa: E402  (harness knows the way to tools/dev)

STUB = os.path.join(harness.BUILD, "tests", "perf", "rival_stub")
OURS = os.path.join(harness.BUILD, "perf", "rivals_slimccl")
RANKS, ELEMS = 4, 4096
OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")


def running(pids):
    """Those that still run after a moment; the dead may stay in /proc until somebody asks for them."""
    left, deadline = pids, time.monotonic() + 2
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if state(pid) not in ("", "Z", "X")]
        time.sleep(0.02)
    return left


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class Groups(unittest.TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def group(self, command, env=None, takes_path=True):
        def start(path, log):
            first, *rest = command
            full = [first, path, *rest] if takes_path else command
            return [rank.process for rank in launch.start(full, "2x2", None, env, output=log)]

        group = rivals_groups.Group("library", RANKS, self.folder, start)
        self.addCleanup(group.close)
        return group

    def stub(self, fault):
        group = self.group([STUB, fault])
        group.open(30)
        return group

    def wrong(self, fault, operation):
        """Wrong elements on each rank."""
        group = self.stub(fault)
        answers = group.ask(f"prepare {operation} {ELEMS}", 30)
        group.close()
        os.remove(group.path)
        return [answer["wrong"] for answer in answers]

    def test_our_program(self):
        programs = {rivals_groups.OURS: OURS}

        def start(path, log):
            return rivals_groups.start_ours(programs, "2x2", None, path, log)

        group = rivals_groups.Group("ours", RANKS, self.folder, start)
        self.addCleanup(group.close)
        group.open(60)
        self.assertEqual(group.version, "SlimCCL 0.1.0")
        self.assertEqual(group.hosts(), [os.uname().nodename] * RANKS)
        for operation in OPERATIONS:
            answers = group.ask(f"prepare {operation} {ELEMS}", 60)
            self.assertEqual(answers, [{"wrong": 0}] * RANKS)
            self.assertLess(0, group.time(60))
        pids = [connection.pid for connection in group.connections]
        group.close()
        self.assertEqual(running(pids), [])

    def test_a_right_result(self):
        for operation in OPERATIONS:
            self.assertEqual(self.wrong("none", operation), [0] * RANKS)

    def test_every_wrong_element_is_counted_on_its_rank(self):
        for operation in OPERATIONS:
            self.assertEqual(self.wrong("last_element", operation), [0, 0, 1, 0])

    def test_shards_and_inputs_of_ranks_differ(self):
        for wrong in self.wrong("swapped_shards", "all_gather"):
            self.assertGreater(wrong, 0.8 * ELEMS)
        for operation, elems in (("all_reduce", ELEMS), ("reduce_scatter", ELEMS // RANKS)):
            for wrong in self.wrong("forgotten_rank", operation):
                self.assertGreater(wrong, 0.8 * elems)

    def test_the_first_line_of_the_version(self):
        self.assertEqual(self.stub("none").version, "Stub 1.0")

    def test_a_call_starts_at_its_time(self):
        group = self.stub("none")
        group.ask(f"prepare all_reduce {ELEMS}", 30)
        started = time.monotonic()
        seconds = group.time(30, lead=0.3)
        self.assertGreater(time.monotonic() - started, 0.3)
        self.assertLess(seconds, 0.3)

    def test_blocked_ranks_use_no_core(self):
        group = self.stub("none")
        before = group.cpu_seconds()
        time.sleep(0.5)
        self.assertLess(group.cpu_seconds() - before, 0.05)

    def test_a_rank_that_ends_is_a_failure_with_its_last_words(self):
        group = self.stub("exit")
        group.ask(f"prepare all_reduce {ELEMS}", 30)
        with self.assertRaisesRegex(rivals_groups.GroupFailure, "a rank ended.*exits as told"):
            group.time(30)

    def test_a_rank_that_hangs_is_a_failure_and_is_ended(self):
        group = self.stub("hang")
        group.ask(f"prepare all_reduce {ELEMS}", 30)
        pids = [connection.pid for connection in group.connections]
        with self.assertRaisesRegex(rivals_groups.GroupFailure, "no answer"):
            group.time(0.5)
        group.close()
        self.assertEqual(running(pids), [])

    def test_ranks_outlive_no_launcher(self):
        def start(path, log):
            ranks = [launch.start(["sh", "-c", f"RANK={rank} WORLD_SIZE=4 " + '"$1" "$0" hang & wait', path, STUB],
                                  [0], None, None, output=log)[0] for rank in range(RANKS)]
            return [rank.process for rank in ranks]

        group = rivals_groups.Group("library", RANKS, self.folder, start)
        self.addCleanup(group.close)
        group.open(30)
        group.ask(f"prepare all_reduce {ELEMS}", 30)
        group.send(f"time {time.monotonic_ns()}")
        hanging = group.connections[1]
        group.close()
        self.assertEqual(running([hanging.pid]), [])

    def test_ranks_that_do_not_come(self):
        with self.assertRaisesRegex(rivals_groups.GroupFailure, "before all ranks were there; .*usage"):
            self.group([STUB]).open(30)
        os.remove(os.path.join(self.folder, "library.socket"))
        with self.assertRaisesRegex(rivals_groups.GroupFailure, "0 of 4 ranks came"):
            self.group(["sleep", "60"], takes_path=False).open(0.5)

    def test_a_line_that_is_no_command(self):
        with self.assertRaisesRegex(rivals_groups.GroupFailure, "no command: time 1"):
            self.stub("none").ask("time 1", 30)


if __name__ == "__main__":
    harness.main()
