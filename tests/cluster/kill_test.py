#!/usr/bin/python3
"""A peer is killed during a 64 MiB transfer, twenty times: the survivors learn who it was within
5 s, abort returns, and nobody hangs or crashes."""
import os
import re
import signal
import tempfile
import time

import harness
import launch

CLIENT = os.path.join(harness.BUILD, "tests", "cluster", "kill_client")


def wait_for(ranks, word, timeout):
    """Reads the ranks' output until each has printed `word`."""
    deadline = time.monotonic() + timeout
    for rank in ranks:
        os.set_blocking(rank.process.stdout.fileno(), False)
    while not all(word in rank.text for rank in ranks):
        for rank in ranks:
            rank.output += rank.process.stdout.read(65536) or b""
        if time.monotonic() > deadline or any(rank.process.poll() for rank in ranks):
            raise RuntimeError(f"no {word}: " + " | ".join(rank.text for rank in ranks))
        time.sleep(0.005)
    for rank in ranks:
        os.set_blocking(rank.process.stdout.fileno(), True)


class KilledPeer(harness.ClusterTest):
    nodes, rate = 2, "1gbit"

    def one(self, nodes, victim, delay, env):
        with tempfile.TemporaryDirectory() as folder:
            env = {"ID_FILE": os.path.join(folder, "id"), "SLIMCCL_TIMEOUT_S": 30, **env}
            ranks = launch.start([CLIENT, "64"], nodes, self.cluster, env)
            try:
                wait_for(ranks, "STARTED", 30)
                time.sleep(delay)
                killed = time.time()
                ranks[victim].process.send_signal(signal.SIGKILL)
                complaints = launch.finish(ranks, 20, stop_on_failure=False)
            finally:
                launch.kill(ranks)
        self.assertEqual(complaints, [], [rank.text for rank in ranks])
        for rank in ranks:
            if rank.rank == victim:
                continue
            self.assertEqual(rank.code, 0, f"rank {rank.rank}: {rank.text}")
            error = re.search(r"ERROR code=(\d+) at=([\d.]+) text=(.*)", rank.text)
            self.assertIsNotNone(error, rank.text)
            self.assertLess(float(error[2]) - killed, 5, rank.text)
            self.assertRegex(error[3], rf"rank {victim}\b", rank.text)
            self.assertIn("ABORT code=0", rank.text)

    def test_the_other_node_twenty_times(self):
        for turn in range(20):
            profile = "zeropp" if turn % 2 else "exact"
            with self.subTest(turn=turn, profile=profile):
                self.one("1+1", turn // 2 % 2, 0.01 + 0.023 * turn,
                         {"SLIMCCL_PROFILE": profile})

    def test_one_of_two_ranks_of_a_node(self):
        for victim in (1, 2):
            with self.subTest(victim=victim):
                self.one("2x2", victim, 0.1, {"SLIMCCL_PROFILE": "exact"})


if __name__ == "__main__":
    harness.main()
