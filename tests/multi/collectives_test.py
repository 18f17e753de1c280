#!/usr/bin/python3
"""The same checks with forked ranks on this machine, no namespaces and no root: one node by shared
memory, and two nodes that SLIMCCL_NODE_ID pretends."""
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402

# Pretended nodes speak over loopback, where every rank can reach every other.
NODES = {"SLIMCCL_ADDRESS": "127.0.0.1"}
COMPRESSED = ("all_gather", "reduce_scatter", "all_reduce")
REDUCING = ("reduce_scatter", "all_reduce", "reduce")
ROOTED = ("broadcast", "reduce", "gather", "scatter")
OUT_OF_PLACE_ONLY = ("alltoall", "sendrecv")
COLLECTIVES = (*COMPRESSED, *ROOTED, *OUT_OF_PLACE_ONLY)
TYPES, REDUCTIONS = 12, 6
# The exact rows of src/collectives/catalog.cc.
EXACT_ROWS = [(collective, row) for collective in COMPRESSED for row in ("exact", "direct", "ring")]
EXACT_ROWS += [(collective, row) for collective in ("broadcast", "reduce")
               for row in ("chain", "direct")]


def ranks_of(nodes):
    return len(harness.launch.parse_nodes(nodes))


class Everything(unittest.TestCase):
    """Every collective, type and reduction: every bit is checked by collective_perf itself."""

    def sweep(self, nodes):
        root = ranks_of(nodes) - 1
        for collective in COLLECTIVES:
            with self.subTest(nodes=nodes, collective=collective):
                flags = ("-d", "all", "-o", "all", "-r", str(root), "--counts", "0,1,1001")
                rows = harness.perf(collective, nodes, None, NODES, flags=flags)
                reductions = REDUCTIONS if collective in REDUCING else 1
                self.assertEqual(len(rows), 3 * TYPES * reductions)
                for row in rows:
                    self.assertEqual(row["in_place"] is None, collective in OUT_OF_PLACE_ONLY)
                    self.assertEqual(row["root"], root if collective in ROOTED else -1)
                    self.assertFalse(row["compressed"], row)

    def test_two_nodes(self):
        self.sweep("2x2")

    def test_uneven_nodes(self):
        self.sweep("3+1")

    def test_one_node(self):
        self.sweep("1x3")

    def test_every_root(self):
        for collective in ROOTED:
            for nodes in ("2x2", "3+1", "1x3"):
                with self.subTest(nodes=nodes, collective=collective):
                    rows = harness.perf(collective, nodes, None, NODES,
                                        flags=("-r", "-1", "-d", "half", "--counts", "1,3001"))
                    roots = [root for root in range(ranks_of(nodes)) for _ in range(2)]
                    self.assertEqual([row["root"] for row in rows], roots)

    def test_each_exact_row_of_the_catalogue(self):
        flags = ("-d", "int8,double", "-r", "3", "--counts", "1,20001", "-n", "1", "-w", "0")
        for collective, row in EXACT_ROWS:
            with self.subTest(collective=collective, row=row):
                # Short segments: many of them follow each other.
                env = {**NODES, "SLIMCCL_ALGO": f"{collective}={row}", "SLIMCCL_SEGMENT": 2048,
                       "SLIMCCL_EXPLAIN": 1}
                ranks = harness.launch.run([harness.PERF, collective, *flags], "3+1", None, env)
                self.assertIn(f": {row} because ", ranks[0].text)
                self.assertNotRegex(ranks[0].text, f": (?!{row})[a-z]+ because ")

    def test_threads_groups_streams_and_registered_memory(self):
        flags = ("-t", "2", "-g", "2", "-m", "3", "-z", "0", "-R", "1", "-u", "1", "-n", "2",
                 "-d", "half,int64", "--counts", "0,1001,70001")
        for collective in COLLECTIVES:
            with self.subTest(collective=collective):
                rows = harness.perf(collective, "2x1", None, NODES, flags=flags)
                self.assertEqual(len(rows), 6)


class Compression(unittest.TestCase):
    def rows(self, nodes, profile, counts, flags=()):
        env = {**NODES, "SLIMCCL_PROFILE": profile}
        return [row for collective in COMPRESSED for row in
                harness.perf(collective, nodes, None, env, flags=("--counts", counts, *flags))]

    def test_one_node_is_always_exact(self):
        for profile in ("exact", "zeropp"):
            for row in self.rows("1x4", profile, "0,1,7,1001,300001", ("-d", "bfloat16")):
                self.assertFalse(row["compressed"], row)
                self.assertEqual(row["bytes_between_nodes"], 0)

    def test_two_pretended_nodes_exact(self):
        for row in self.rows("2x2", "exact", "7,300001", ("-d", "float,half,bfloat16")):
            self.assertFalse(row["compressed"], row)

    def test_two_pretended_nodes_quantized(self):
        for row in self.rows("2x2", "zeropp", "300001", ("-d", "float,half,bfloat16")):
            self.assertTrue(row["compressed"], row)
            self.assertLess(row["bytes_between_nodes"], row["exact_bytes"] / 1.8)

    def test_a_single_rank(self):
        self.assertEqual(len(self.rows("1", "exact", "0,1,1001")), 9)


class Launcher(unittest.TestCase):
    def complaints(self, script, seconds=10):
        ranks = harness.launch.start(["/bin/sh", "-c", script], "1x2")
        return harness.launch.finish(ranks, seconds)

    def test_a_rank_that_fails_at_once_is_a_complaint(self):
        for _ in range(20):
            self.assertIn("exited with code 3", str(self.complaints("exit 3")))

    def test_ranks_that_only_end_their_output_are_waited_for(self):
        self.assertEqual(self.complaints("exec >&- 2>&-; sleep 0.1"), [])
        self.assertIn("exited with code 3", str(self.complaints("exec >&- 2>&-; sleep 0.1; exit 3")))
        self.assertIn("still running", str(self.complaints("exec >&- 2>&-; sleep 9", 0.3)))


class CommandLine(unittest.TestCase):
    def run_perf(self, *flags):
        return subprocess.run([harness.PERF, *flags], text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=120)

    def test_bad_flags_are_named_and_exit_with_2(self):
        for flags, named in ((("all_gather", "--nonsense"), "--nonsense"),
                             (("all_gather", "-g", "none"), "--ngpus"),
                             (("broadcast", "--local", "2", "-r", "2"), "no rank 2 among 2"),
                             (("reduce", "-o", "sum,mean"), "mean"),
                             (("all_gather", "-z", "3"), "--blocking"),
                             (("all_gather", "-b", "12Q"), "12Q"),
                             (("all_gather", "-d", "int7"), "int7"),
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

    def test_the_root_column_and_missing_in_place_forms(self):
        flags = ("--local", "2", "-b", "64", "-e", "64", "-n", "1", "-d", "int32")
        both, none = ["0", "1"], ["-1"]
        for collective, roots, in_place in (("broadcast", both, "0"), ("gather", both, "0"),
                                            ("all_reduce", none, "0"), ("alltoall", none, "N/A"),
                                            ("sendrecv", none, "N/A")):
            with self.subTest(collective=collective):
                result = self.run_perf(collective, "-r", "-1", *flags)
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                lines = [line.split() for line in result.stdout.splitlines() if line[0] == " "]
                self.assertEqual([line[4] for line in lines], roots)
                for line in lines:
                    self.assertEqual((line[8], line[12]), ("0", in_place))

    def test_program_names_choose_the_collective(self):
        for collective in COLLECTIVES:
            with self.subTest(collective=collective):
                alias = os.path.join(os.path.dirname(harness.PERF), collective + "_perf")
                result = subprocess.run([alias, "-g", "2", "-b", "8", "-e", "1K", "-f", "2"],
                                        capture_output=True, text=True, timeout=120)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn(f", {collective}: 2 ranks", result.stdout)

    def test_an_unknown_program_name_is_told_which_there_are(self):
        with tempfile.TemporaryDirectory() as folder:
            alias = os.path.join(folder, "hypercube_perf")
            os.symlink(harness.PERF, alias)
            result = subprocess.run([alias], capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 2, result.stdout)
        for name in ("hypercube", *COLLECTIVES):
            self.assertIn(name, result.stderr + result.stdout)

    def test_a_missing_peer_is_an_error_in_time(self):
        env = dict(os.environ, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                   MASTER_PORT=str(harness.launch.free_port()))
        result = subprocess.run([harness.PERF, "all_gather", "--timeout", "1"], env=env,
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("1 of 2 ranks did not come", result.stderr)


if __name__ == "__main__":
    harness.main()
