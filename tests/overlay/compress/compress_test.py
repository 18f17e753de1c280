#!/usr/bin/python3
"""An unmodified program whose collectives the overlay compresses, on its own communicator and its
own streams: results within the bounds of docs/formats, the same on all ranks that share them, and
as many bytes between nodes as the formats say."""
from rig import Call, harness  # first: it may skip all of this
import formats
from judge import Judge


def mixture():
    """Each operation in and out of place, each type, each scaling."""
    for in_place in (False, True):
        yield Call("all_gather", 20000, "bfloat16", in_place=in_place)
        yield Call("all_gather", 5001, "float32", in_place=in_place, offset=3)
        yield Call("reduce_scatter", 20000, "bfloat16", in_place=in_place)
        yield Call("reduce_scatter", 6007, "float32", "avg", in_place=in_place, offset=1)
        yield Call("reduce_scatter", 4096, "float16", "premul_host", in_place=in_place)
        yield Call("all_reduce", 50001, "float32", in_place=in_place, offset=5)
        yield Call("all_reduce", 40000, "bfloat16", "avg", in_place=in_place)
        yield Call("all_reduce", 30011, "float32", "premul_device", in_place=in_place)


class Compressed(Judge):
    def works(self, nodes, per_node, program=None, **options):
        run = self.run_client(list(program or mixture()), nodes=nodes, per_node=per_node, **options)
        self.assert_compressed(run)
        self.check_all(run)
        self.assertEqual(run.warnings, [])
        return run

    def test_pair(self):
        self.works("2x2", False)

    def test_four_nodes(self):
        self.works("4x2", False)

    def test_uneven(self):
        self.works("3+1", False)

    def test_interleaved(self):
        self.works("0,1,1,0", False)

    def test_process_per_node(self):
        self.works("2x2", True)

    def test_process_per_node_four_nodes(self):
        self.works("4x2", True)

    def test_process_per_node_uneven(self):
        self.works("3+1", True)

    def test_process_per_node_interleaved(self):
        self.works("0,1,1,0", True)

    def coalesced(self, per_node):
        several = list(mixture())
        self.works("2x2", per_node, ["group", *several[:3], "end", several[3],
                                     "group", *several[4:11], "end", "wait", *several[11:]])

    def test_coalesced(self):
        self.coalesced(False)

    def test_coalesced_process_per_node(self):
        self.coalesced(True)

    def test_segments(self):
        """An arena of 1 MiB: calls go in many segments."""
        program = [Call(op, count, type, in_place=in_place) for op, count in
                   (("all_gather", 300001), ("reduce_scatter", 150001), ("all_reduce", 500001))
                   for type, in_place in (("bfloat16", False), ("float32", True))]
        self.works("2x2", False, program, env={"SLIMCCL_ARENA_MB": 1})

    def test_bytes_of_large_calls(self):
        """Of 16 MiB and more: what the stand-in saw leave rank 0, and what the report says, is what
        the formats say, call by call."""
        mib = 1 << 20
        for call in (Call("all_gather", 2 * mib, "bfloat16"),
                     Call("reduce_scatter", mib, "float32"),
                     Call("all_reduce", 4 * mib, "float32")):
            with self.subTest(op=call.op):
                run = self.works("2x2", False, [call])
                exact = self.formula(run, formats.Nodes(run.labels), 0, "exact")
                self.assertLess(run.vendor_bytes() * (1.9 if call.op == "all_gather" else 7), exact)

    def test_exact_changes_nothing(self):
        """Bits and bytes of the profile exact are those without the preload."""
        program = list(mixture())
        plain = self.run_client(program, preload=False)
        self.assertNotIn("overlay", plain.text)
        run = self.run_client(program, profile="exact")
        self.assert_same(plain, run)
        for rank in range(4):
            for reasons in run.reasons(rank).values():
                self.assertEqual(list(reasons), ["profile exact"])

    def test_audit_changes_nothing(self):
        program = list(mixture())
        plain = self.run_client(program, preload=False)
        run = self.run_client(program, profile="audit")
        self.assert_same(plain, run)
        for rank in range(4):
            for reasons in run.reasons(rank).values():
                self.assertEqual(list(reasons), ["would be compressed"])

    def assert_same(self, plain, run):
        self.assertEqual(run.vendor_bytes(), plain.vendor_bytes())
        self.assertGreater(run.vendor_bytes(), 0)
        for call in run.calls:
            for rank in range(len(run.labels)):
                self.assertEqual(run.data(call, rank), plain.data(call, rank), f"{call} {rank}")


if __name__ == "__main__":
    harness.main()
