#!/usr/bin/python3
"""Right results and counted bytes on pretend nodes. Bytes are what the interfaces saw."""
import harness
from harness import MIB

TOPOLOGIES = ("2x2", "3+1", "2+2+1", "0,1,0,1")
COLLECTIVES = ("all_gather", "reduce_scatter", "all_reduce")
ZEROPP = {"SLIMCCL_PROFILE": "zeropp"}
COMPRESSED_TYPES = ("float", "half", "bfloat16")
COMPRESSED_REDUCTIONS = ("sum", "avg", "mulsum")
# Bytes per call beside the payload: rendezvous barriers, headers of small packets, acknowledgements.
SLACK = 1.03


class RightEverywhere(harness.ClusterTest):
    def check(self, nodes, env, counts, compressed):
        for collective in COLLECTIVES:
            with self.subTest(nodes=nodes, collective=collective):
                rows = harness.perf(collective, nodes, self.cluster, env,
                                    flags=("-d", "bfloat16", "--counts", counts))
                for row, expected in zip(rows, compressed):
                    self.assertEqual(row["compressed"], expected, row)

    def sizes(self, nodes, env, big):
        self.check(nodes, env, "0,1,7,1001,65537,300001", (False,) * 4 + (big, big))

    def test_exact_on_equal_nodes(self):
        self.sizes("2x2", {}, False)

    def test_exact_on_uneven_nodes(self):
        self.sizes("3+1", {}, False)

    def test_exact_on_three_nodes(self):
        self.sizes("2+2+1", {}, False)

    def test_exact_on_interleaved_ranks(self):
        self.sizes("0,1,0,1", {}, False)

    # All-reduce counts the whole tensor: 65537 elements are fewer than the floor for each rank.
    def quantized(self, nodes):
        for collective in COLLECTIVES:
            with self.subTest(nodes=nodes, collective=collective):
                rows = harness.perf(collective, nodes, self.cluster, ZEROPP,
                                    flags=("-d", "bfloat16", "--counts", "0,1,7,1001,400003"))
                self.assertEqual([row["compressed"] for row in rows], [False] * 4 + [True])
                self.assertGreater(rows[-1]["exact_bytes"], 1.8 * rows[-1]["bytes_between_nodes"])

    def test_quantized_on_equal_nodes(self):
        self.quantized("2x2")

    def test_quantized_on_uneven_nodes(self):
        self.quantized("3+1")

    def test_quantized_on_three_nodes(self):
        self.quantized("2+2+1")

    def test_quantized_on_interleaved_ranks(self):
        self.quantized("0,1,0,1")

    def test_every_type_and_reduction(self):
        for env, count in (({}, "1001"), (ZEROPP, "70001")):
            with self.subTest(env=env):
                rows = harness.perf("reduce_scatter", "3+1", self.cluster, env,
                                    flags=("-d", "all", "-o", "all", "--counts", count))
                self.assertEqual(len(rows), 12 * 6)
                for row in rows:
                    fits = row["type"] in COMPRESSED_TYPES and row["redop"] in COMPRESSED_REDUCTIONS
                    self.assertEqual(row["compressed"], bool(env) and fits, row)

    def test_what_is_never_compressed(self):
        for collective in ("broadcast", "reduce", "alltoall", "gather", "scatter", "sendrecv"):
            with self.subTest(collective=collective):
                flags = ("-d", "bfloat16,int64", "-r", "-1", "--counts", "0,1,70001")
                rows = harness.perf(collective, "2+2+1", self.cluster, ZEROPP, flags=flags)
                for row in rows:
                    self.assertFalse(row["compressed"], row)


class BytesBetweenNodes(harness.ClusterTest):
    def measure(self, collective, nodes, env, count=4 * MIB, root=0):
        row, = harness.perf(collective, nodes, self.cluster, env,
                            flags=("-d", "bfloat16", "--counts", str(count), "-r", str(root)))
        return row

    def exact(self, collective, nodes):
        row = self.measure(collective, nodes, {})
        formula = harness.formula_bytes(collective, nodes, row["count"], 2)
        self.assertFalse(row["compressed"])
        self.assertEqual(row["bytes_between_nodes"], formula)
        self.assertGreaterEqual(row["wire_bytes"], formula)
        self.assertLess(row["wire_bytes"], SLACK * formula)
        return row

    def fewer(self, collective, nodes, times):
        exact = self.exact(collective, nodes)
        row = self.measure(collective, nodes, ZEROPP)
        self.assertTrue(row["compressed"], row)
        self.assertGreaterEqual(exact["wire_bytes"] / row["wire_bytes"], times)
        self.assertLess(row["wire_bytes"], SLACK * row["bytes_between_nodes"])

    def test_reduce_scatter_on_equal_nodes(self):
        self.fewer("reduce_scatter", "2x2", 3.6)

    def test_reduce_scatter_on_uneven_nodes(self):
        self.fewer("reduce_scatter", "3+1", 3.6)

    def test_reduce_scatter_on_three_nodes(self):
        self.fewer("reduce_scatter", "2+2+1", 3.6)

    def test_reduce_scatter_on_interleaved_ranks(self):
        self.fewer("reduce_scatter", "0,1,0,1", 3.6)

    def test_all_gather_on_equal_nodes(self):
        self.fewer("all_gather", "2x2", 1.9)

    def test_all_gather_on_uneven_nodes(self):
        self.fewer("all_gather", "3+1", 1.9)

    def test_all_gather_on_three_nodes(self):
        self.fewer("all_gather", "2+2+1", 1.9)

    def test_all_gather_on_interleaved_ranks(self):
        self.fewer("all_gather", "0,1,0,1", 1.9)

    # Along the chain of nodes every link carries the tensor once, wherever the root is.
    def once_per_link(self, collective):
        for nodes, root in (("2x2", 0), ("2x2", 3), ("3+1", 3), ("2+2+1", 2), ("0,1,0,1", 1)):
            with self.subTest(nodes=nodes, root=root):
                env = {"SLIMCCL_ALGO": f"{collective}=chain"}
                row = self.measure(collective, nodes, env, root=root)
                links = len(set(harness.launch.parse_nodes(nodes))) - 1
                payload = row["size"] * links
                self.assertGreaterEqual(row["bytes_between_nodes"], payload)
                self.assertLess(row["bytes_between_nodes"], payload + 1024)  # acknowledgements
                self.assertGreaterEqual(row["wire_bytes"], payload)
                self.assertLess(row["wire_bytes"], SLACK * payload)

    def test_broadcast_once_per_link(self):
        self.once_per_link("broadcast")

    def test_reduce_once_per_link(self):
        self.once_per_link("reduce")

    # Unless it is forced, the choice must not be worse than that on a long call.
    def test_long_calls_choose_the_chain(self):
        for collective in ("broadcast", "reduce"):
            with self.subTest(collective=collective):
                row = self.measure(collective, "2x2", {}, root=1)
                self.assertLess(row["wire_bytes"], SLACK * row["size"])

    # Point to point: what is for other nodes crosses once, nothing else does.
    def test_messages_cross_only_to_other_nodes(self):
        crossing = {"alltoall": 8, "gather": 2, "scatter": 2, "sendrecv": 2}  # slots, on 2x2
        for collective, slots in crossing.items():
            with self.subTest(collective=collective):
                row = self.measure(collective, "2x2", {}, MIB)
                payload = slots * row["count"] * 2
                self.assertEqual(row["bytes_between_nodes"], payload)
                self.assertGreaterEqual(row["wire_bytes"], payload)
                self.assertLess(row["wire_bytes"], SLACK * payload)

    def test_all_reduce_on_equal_nodes(self):
        exact = self.measure("all_reduce", "2x2", {}, 16 * MIB)
        row = self.measure("all_reduce", "2x2", ZEROPP, 16 * MIB)
        self.assertTrue(row["compressed"])
        # Whether the result travels in q4s or q8: 32 bits an element become 8.6 or 12.6.
        self.assertGreaterEqual(exact["wire_bytes"] / row["wire_bytes"], 2.4)


if __name__ == "__main__":
    harness.main()
