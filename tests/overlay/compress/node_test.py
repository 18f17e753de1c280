#!/usr/bin/python3
"""All-gathers by a communicator of each node, where SLIMCCL_ALGO asks for it: the same results as
by two_hop, the same bytes between nodes, and in the node one gather of the real NCCL in place of
its messages. The comment at a test says which guard it holds: without that the test fails."""
import os
import re

from rig import Call, TESTS, harness  # first: it may skip all of this
from judge import Judge

ASKED = {"SLIMCCL_ALGO": "all_gather=node"}
UNKIND = os.path.join(TESTS, "overlay", "compress", "libunkind_nccl.so")
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


    # Guard: the row fits equal nodes only; elsewhere it is two_hop, and no communicator is made.
    def test_uneven(self):
        run = self.works("3+1")
        self.assertEqual(len(self.counts(run)), 1)

    # Guard: nobody has asked for it.
    def test_by_default_there_is_none(self):
        run = self.run_client(list(gathers()))
        self.assertEqual(len(self.counts(run)), 1)

    # Guard: a gather for each segment, of an arena that is used again.
    def test_segments(self):
        run = self.works("2x2", program=[Call("all_gather", 300001, "bfloat16"),
                                         Call("all_gather", 300001, in_place=True)],
                         env={"SLIMCCL_ARENA_MB": 1})
        self.assertGreater(self.counts(run)[-1][0], 2)

    def mixture(self):
        for i, op in enumerate(("all_gather", "reduce_scatter", "all_reduce", "all_gather") * 3):
            yield Call(op, 7000 + 3000 * i, in_place=i % 2 == 0, stream=i // 2 % 2)

    # Guard: gathers and messages of coalesced calls, on streams that run apart; sends wait, and the
    # device has one call at a time.
    def among_others(self, per_node):
        program = list(self.mixture())
        self.works("2x2", per_node, ["group", *program[:5], "end", *program[5:8],
                                     "group", *program[8:], "end"],
                   env={"SLIMCCL_EMULATED_DELAY_US": 2000, "VENDOR_SLIMCCL_TEST_SENDS_WAIT": 1,
                        "VENDOR_SLIMCCL_TEST_ONE_SLOT": 1})

    def test_among_others(self):
        self.among_others(False)

    def test_among_others_process_per_node(self):
        self.among_others(True)

    # Guard: the node's communicator ends with its parent, and so does what it takes.
    def test_communicators_come_and_go(self):
        for per_node in (False, True):
            run = self.run_client(list(gathers()), per_node=per_node, env={
                **ASKED, "ROUNDS": 5, "SLIMCCL_ARENA_MB": 50, "SLIMCCL_EMULATED_MB": 120})
            self.check_all(run)
            self.assertEqual(run.warnings, [])
            self.assertEqual(len(self.counts(run)), 10, "two communicators in each round")

    # Guard: ranks agree on whether all of them have a communicator of their node.
    def test_no_communicator_on_one_rank(self):
        run = self.run_client(list(gathers()), env=ASKED,
                              of_process={2: {"SLIMCCL_NCCL": UNKIND, "UNKIND": "split"}})
        self.assert_exact(run, "no node communicator", warnings=1)
        self.assertRegex(run.warnings[0], "rank 2: .*ncclCommSplit")

    # Guard: an abort ends the node's communicator too, meanwhile.
    def aborted(self, rank, **options):
        program = [Call("all_gather", 6000 + 100 * i, in_place=i % 2 == 0) for i in range(120)]
        run = self.run_client([*program[:3], "wait", *program[3:]], abort=f"{rank} 60", may_fail=True,
                              timeout=60, env={**ASKED, "VENDOR_SLIMCCL_TIMEOUT_S": 20},
                              **options)
        for number, (process, text) in enumerate(zip(run.processes, run.texts)):
            self.assertEqual(process.code, 0, f"rank {number}: {run.text}")
            self.assertRegex(text, r"ENDED \d" if number == rank else r"ENDED [1-9]", run.text)
        self.assertIn("ABORT 0", run.texts[rank])

    def test_abort(self):
        self.aborted(1)

    def test_aborts_that_need_each_other(self):
        self.aborted(1, of_process={1: {"SLIMCCL_NCCL": UNKIND, "UNKIND": "abort"}})

    def test_abort_of_rank_0(self):
        self.aborted(0)


if __name__ == "__main__":
    harness.main()
