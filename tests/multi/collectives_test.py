#!/usr/bin/python3
"""The same checks with forked ranks on this machine, no namespaces and no root: one node by shared
memory, and two nodes that SLIMCCL_NODE_ID pretends."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402

COLLECTIVES = ("all_gather", "reduce_scatter", "all_reduce")
# Pretended nodes speak over loopback, where every rank can reach every other.
NODES = {"SLIMCCL_ADDRESS": "127.0.0.1"}


class OneMachine(unittest.TestCase):
    def rows(self, nodes, profile, counts, flags=()):
        env = {**NODES, "SLIMCCL_PROFILE": profile}
        return [row for collective in COLLECTIVES for row in
                harness.perf(collective, nodes, None, env, flags=("--counts", counts, *flags))]

    def test_one_node_is_always_exact(self):
        for profile in ("exact", "zeropp"):
            for row in self.rows("1x4", profile, "0,1,7,1001,300001", ("-d", "bfloat16")):
                self.assertFalse(row["compressed"], row)
                self.assertEqual(row["bytes_between_nodes"], 0)

    def test_two_pretended_nodes_exact(self):
        for row in self.rows("2x2", "exact", "0,1,7,1001,300001", ("-d", "all")):
            self.assertFalse(row["compressed"], row)

    def test_two_pretended_nodes_quantized(self):
        for row in self.rows("2x2", "zeropp", "300001", ("-d", "all")):
            self.assertTrue(row["compressed"], row)
            self.assertLess(row["bytes_between_nodes"], row["exact_bytes"] / 1.8)

    def test_a_single_rank(self):
        self.assertEqual(len(self.rows("1", "exact", "0,1,1001")), 9)


class CommandLine(unittest.TestCase):
    def run_perf(self, *flags):
        return subprocess.run([harness.PERF, *flags], text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=120)

    def test_bad_flags_are_named_and_exit_with_2(self):
        for flags, named in ((("all_gather", "--nonsense"), "--nonsense"),
                             (("all_gather", "-g", "2"), "-g"),
                             (("all_gather", "-b", "12Q"), "12Q"),
                             (("all_gather", "-d", "int8"), "int8"),
                             (("all_gather", "-b", "2M", "-e", "1M"), "-b"),
                             (("all_scatter",), "all_scatter"), ((), "collective")):
            with self.subTest(flags=flags):
                result = self.run_perf(*flags)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(named, result.stderr + result.stdout)

    def test_local_ranks_and_nccl_tests_table(self):
        result = self.run_perf("all_gather", "--local", "3", "-b", "8", "-e", "64K", "-f", "8",
                               "-n", "2", "-w", "1", "-c", "1", "-d", "float")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        lines = [line.split() for line in result.stdout.splitlines() if not line.startswith("#")]
        self.assertEqual([line[0] for line in lines], ["0", "48", "480", "4080", "32736"])
        for line in lines:
            self.assertEqual((line[2], line[8], line[12]), ("float", "0", "0"), line)

    def test_a_program_name_chooses_the_collective(self):
        alias = os.path.join(os.path.dirname(harness.PERF), "reduce_scatter_perf")
        result = subprocess.run([alias, "--local", "2", "-b", "1K", "-e", "1K", "-n", "1"],
                                capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("reduce_scatter", result.stdout)

    def test_a_missing_peer_is_an_error_in_time(self):
        env = dict(os.environ, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                   MASTER_PORT=str(harness.launch.free_port()))
        result = subprocess.run([harness.PERF, "all_gather", "--timeout", "1"], env=env,
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("1 of 2 ranks did not come", result.stderr)


if __name__ == "__main__":
    harness.main()
