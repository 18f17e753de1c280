#!/usr/bin/python3
"""All-gathers by a communicator of each node, where SLIMCCL_ALGO asks for it: the same results as
by two_hop, the same bytes between nodes, and in the node one gather of the real NCCL in place of
its messages. The comment at a test says which guard it holds: without that the test fails."""
import re

from rig import Call, harness  # first: it may skip all of this
from judge import Judge

ASKED = {"SLIMCCL_ALGO": "all_gather=node"}
# Of a communicator of the stand-in at its end.
CALLS = re.compile(r"NOTICE (?:\S+: )?rank 0: (\d+) calls, 0 compressed.*?"
                   r"(?:, (\d+) messages point to point)?; \d+ bytes sent to other nodes")


def gathers():
    for in_place in (False, True):
        yield Call("all_gather", 20000, "bfloat16", in_place=in_place)
        yield Call("all_gather", 5001, "float32", in_place=in_place, offset=3)
        yield Call("all_gather", 30011, "float16", in_place=in_place)


class ByNode(Judge):
    def counts(self, run):
        """(collective calls, messages) of each communicator of the stand-in whose rank 0 is the
        first process."""
        return sorted((int(calls), int(messages or 0))
                      for calls, messages in CALLS.findall(run.texts[0]))

    def works(self, nodes, per_node=False, program=None, **options):
        program = program or list(gathers())
        env = options.pop("env", {})
        run = self.run_client(program, nodes=nodes, per_node=per_node, env={**ASKED, **env},
                              **options)
        self.assert_compressed(run)
        self.check_all(run)
        self.assertEqual(run.warnings, [])
        return run

    def as_by_two_hop(self, nodes, per_node):
        run = self.works(nodes, per_node)
        other = self.run_client(list(gathers()), nodes=nodes, per_node=per_node)
        self.assertEqual(run.vendor_bytes(), other.vendor_bytes())
        for call in run.calls:
            for rank in range(len(run.labels)):
                self.assertEqual(run.data(call, rank), other.data(call, rank), f"{call} {rank}")
        self.assertNotEqual(self.counts(run), self.counts(other))
        return run

    # Guard: the node's communicator carries a gather for each call, the caller's only messages.
    def test_pair(self):
        run = self.as_by_two_hop("2x2", False)
        calls = len(run.calls)
        self.assertEqual(self.counts(run), [(0, 2 * calls), (calls, 0)])

    def test_four_nodes(self):
        self.as_by_two_hop("4x2", False)

    def test_interleaved(self):
        self.as_by_two_hop("0,1,1,0", False)

    # Guard: a process makes the communicators of all its ranks at once.
    def test_process_per_node(self):
        self.as_by_two_hop("2x2", True)


if __name__ == "__main__":
    harness.main()
