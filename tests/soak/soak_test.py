#!/usr/bin/python3
"""Random programs on several shapes of ranks, nodes, processes and threads. In CI ten seconds each,
with seeds that do not change; SLIMCCL_SOAK_SECONDS=600 makes it ten minutes in all, with a seed of
the day that is printed. SLIMCCL_SOAK_SEED=N replays one."""
import os
import random
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402
import launch  # noqa: E402

SOAK = os.path.join(harness.BUILD, "tests", "soak", "soak")
# Pretended nodes speak over loopback, where every rank can reach every other. The library's own
# watchdog comes before --hang: it knows who waits for which message.
ALWAYS = {"SLIMCCL_ADDRESS": "127.0.0.1", "SLIMCCL_LOG": "none", "SLIMCCL_TIMEOUT_S": "20"}
SMALL = {"SLIMCCL_SEGMENT": "2048", "SLIMCCL_WINDOW": "2"}
CHECK = {"SLIMCCL_CHECK": "1"}


def last_words(ranks):
    """What every process said at last, those first that saw something wrong."""
    ranks = sorted(ranks, key=lambda rank: "FAILED" not in rank.text)
    return [f"[process {rank.rank}] {line}" for rank in ranks
            for line in rank.text.splitlines()[-12:] or ["says nothing"]]


def stand_still(ranks, seconds):
    """Stops all processes for a while, as a virtual machine is that its host does not run."""
    time.sleep(0.5)
    for signal_number in (signal.SIGSTOP, signal.SIGCONT):
        for rank in ranks:
            os.kill(rank.process.pid, signal_number)
        time.sleep(seconds if signal_number == signal.SIGSTOP else 0)


class Soak(unittest.TestCase):
    cases = 8

    def soak(self, seed, nodes, threads=1, env=None, hang=30, meanwhile=lambda ranks: None):
        total = float(os.environ.get("SLIMCCL_SOAK_SECONDS", "0"))
        seconds = total / self.cases if total else 8
        given = os.environ.get("SLIMCCL_SOAK_SEED")
        seed = int(given) if given else random.randrange(1 << 40) if total else seed
        print(f"   seed {seed}: {nodes}, {threads} ranks a process, {env or {}}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            command = [SOAK, "--seconds", str(seconds), "--seed", str(seed), "--threads",
                       str(threads), "--folder", folder, "--hang", str(hang)]
            ranks = launch.start(command, nodes, None, {**ALWAYS, **(env or {})})
            try:
                meanwhile(ranks)
            finally:
                complaints = launch.finish(ranks, seconds + 120)
        if complaints:
            self.fail("\n".join([f"seed {seed}, {nodes}", *complaints, *last_words(ranks)]))
        print("   " + ranks[0].text.strip().splitlines()[-1], flush=True)

    def test_one_node(self):
        self.soak(11, "1x4")

    def test_threads_of_one_process(self):
        self.soak(12, "1", threads=5, env=SMALL)

    def test_two_nodes_small_segments(self):
        self.soak(13, "2x2", env=SMALL)

    def test_three_uneven_nodes_checked(self):
        self.soak(14, "2+2+1", env=CHECK)

    def test_interleaved_nodes_two_ranks_a_process(self):
        self.soak(15, "0,1,0", threads=2)

    def test_eight_ranks_on_uneven_nodes(self):
        self.soak(16, "3+1", threads=2, env={**SMALL, "SLIMCCL_WINDOW": "6"})

    def test_two_ranks_checked_small_segments(self):
        self.soak(17, "1+1", env={**CHECK, **SMALL})

    def test_a_standstill_of_the_machine_is_no_hang(self):
        self.soak(18, "1+1", env=SMALL, hang=5, meanwhile=lambda ranks: stand_still(ranks, 7))


if __name__ == "__main__":
    harness.main()
