#!/usr/bin/python3
"""Calls that the overlay must not compress, or not finish: whatever the ranks do not share makes
them exact on all ranks alike, and what is dropped or aborted hangs nobody. The comment at a test
says which guard it holds: without that the test fails."""
import re

from rig import STRICT, Call, harness  # first: it may skip all of this
import formats
from judge import Judge

OPS = ("all_gather", "reduce_scatter", "all_reduce")


class StepsAside(Judge):
    """Calls that stay exact, on all ranks alike."""

    PROGRAM = [Call(op, 8000) for op in OPS]

    # Guard: the ranks agree on the arena, so one that has none makes all exact.
    def test_no_memory_on_one_rank(self):
        run = self.run_client(self.PROGRAM, of_process={2: {"SLIMCCL_EMULATED_MB": 40}})
        self.assert_exact(run, "no memory for the arena", warnings=1)
        self.assertRegex(run.warnings[0], r"rank 2.*; this communicator is exact")

    def test_no_memory_on_one_node(self):
        run = self.run_client(self.PROGRAM, of_process={1: {"SLIMCCL_EMULATED_MB": 40}},
                              per_node=True)
        self.assert_exact(run, "no memory for the arena", warnings=1)

    # Guard: the set-up record's settings.
    def test_another_profile_on_one_rank(self):
        run = self.run_client(self.PROGRAM, of_process={1: {"SLIMCCL_PROFILE": "exact"}})
        self.assert_exact(run, "settings differ", warnings=1, of_rank={1: "profile exact"})
        self.assertRegex(run.warnings[0], "ranks 0, 2, 3: profile=zeropp .*; rank 1: profile=exact")

    def test_auto_and_zeropp(self):
        run = self.run_client(self.PROGRAM, of_process={3: {"SLIMCCL_PROFILE": "auto"}})
        self.assert_exact(run, "settings differ", warnings=1)

    def test_another_floor_on_one_rank(self):
        run = self.run_client(self.PROGRAM, of_process={3: {"SLIMCCL_FLOOR": 100000}})
        self.assert_exact(run, "settings differ", warnings=1)

    # Guard: kernels are tried at set-up.
    def test_no_kernels_on_one_rank(self):
        run = self.run_client(self.PROGRAM,
                              env={"SLIMCCL_EMULATED_FAIL": "cuLibraryLoadData:1:209:2"})
        self.assert_exact(run, "CUDA kernels", warnings=1)

    # Guard: the floor counts elements of one rank.
    def test_small_calls(self):
        program = [Call("all_gather", 999), Call("reduce_scatter", 999), Call("all_reduce", 3996)]
        self.assert_exact(self.run_client(program), "under the floor")

    def test_what_is_no_sum(self):
        program = [Call("reduce_scatter", 8000, reduction="max"),
                   Call("all_reduce", 8000, reduction="max")]
        run = self.run_client(program)
        plain = self.run_client(program, preload=False)
        for call in run.calls:
            for rank in range(4):
                self.assertEqual(run.reasons(rank)[call.op], {"reduction": 1})
                self.assertEqual(run.data(call, rank), plain.data(call, rank))

    def test_one_node(self):
        self.assert_exact(self.run_client(self.PROGRAM, nodes="1x3"), "one node")

    # Guard: a small call between compressed ones, and the other way round: each by itself.
    def test_exact_calls_among_compressed_ones(self):
        program = [Call("all_reduce", 8000), Call("all_reduce", 100), Call("all_reduce", 9000)]
        run = self.run_client(["group", *program, "end", *program])
        for rank in range(4):
            self.assertEqual(run.reasons(rank)["all_reduce"],
                             {"compressed": 4, "under the floor": 2})
        for call in run.calls:
            self.check(run, call, "exact" if call.count == 100 else "zeropp")

    # Guard: a captured call would be replayed when its arena is somebody else's. The stand-in, to
    # which it is forwarded, cannot capture and says so: in the same words as without the preload.
    def test_stream_capture(self):
        program = ["capture 1", Call("all_reduce", 8000, in_place=True, stream=1, comm=1),
                   "captured 1", Call("all_gather", 8000), Call("all_reduce", 9000, stream=1)]
        refused = re.compile(r"REFUSED .*")
        plain = self.run_client(program, comms=2, preload=False)
        run = self.run_client(program, comms=2)
        self.assertEqual([refused.findall(text) for text in run.texts],
                         [refused.findall(text) for text in plain.texts])
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {"all_gather": {"compressed": 1}, "all_reduce": {
                "stream capture": 1, "compressed": 1}})
        for call in run.calls[1:]:
            self.check(run, call)


class Unfinished(Judge):
    """Groups that are dropped, and communicators that end under their calls."""

    FILL = b"\xa5"  # what the client fills its outputs with

    # Guard: GroupSimulateEnd drops what the group has collected, and the next group is whole.
    def simulated(self, per_node):
        dropped = [Call(op, 8000) for op in OPS]
        kept = [Call(op, 9000) for op in OPS]
        run = self.run_client(["group", *dropped, "simulate", "group", *kept, "end", *kept],
                              per_node=per_node)
        for call in run.calls[:3]:
            for rank in range(4):
                data = run.data(call, rank)
                self.assertEqual(data, self.FILL * len(data), f"{call} was made on rank {rank}")
        run.calls = run.calls[3:]
        for call in run.calls:
            self.check(run, call)
        formula = self.formula(run, formats.Nodes(run.labels), 0)
        self.assertLess(abs(run.vendor_bytes() - formula), 0.02 * formula)

    def test_simulated_group(self):
        self.simulated(False)

    def test_simulated_group_process_per_node(self):
        self.simulated(True)

    # Guard: the end of a communicator frees its arena.
    def test_communicators_come_and_go(self):
        run = self.run_client([Call(op, 8000) for op in OPS], env={
            "ROUNDS": 6, "SLIMCCL_ARENA_MB": 50, "SLIMCCL_EMULATED_MB": 120})
        self.check_all(run)
        self.assertEqual(run.warnings, [])
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {op: {"compressed": 6} for op in OPS})

    # Guard: a call that fails half-way breaks its communicator: the next one would find its
    # messages among those of the call before.
    def fails_half_way(self, after):
        # An all-reduce launches four kernels.
        program = [Call("all_reduce", 8000)] * 3 + [Call("all_reduce", after)] * 3
        run = self.run_client([*program[:2], "wait", *program[2:]], may_fail=True, timeout=60, env={
            "SLIMCCL_EMULATED_FAIL": "cuLaunchKernel:11:700:2", "TRIES": 1,
            "VENDOR_SLIMCCL_TIMEOUT_S": 20})
        for text in run.texts:
            self.assertRegex(text, r"ENDED [1-9]", run.text)
        self.assertRegex(run.texts[2], r"REFUSED [1-9]\d* .*cuLaunchKernel.*\n"
                         r"ENDED [1-9]\d* an earlier compressed call failed half-way: "
                         r".*cuLaunchKernel.*; abort this communicator")

    def test_a_call_that_fails_half_way(self):
        self.fails_half_way(9000)

    def test_an_exact_call_after_one_that_fails(self):
        self.fails_half_way(100)

    # Guard: abort marks the communicator, and whoever enqueues looks at the mark before each call
    # of the real NCCL; the others hear of it from the real NCCL.
    def aborted(self, calls, rank=1, grouped=0, **env):
        program = [Call(OPS[i % 3], 6000 + 100 * i, in_place=i % 2 == 0) for i in range(calls)]
        begun, rest = [*program[:3], "wait"], program[3:]  # all ranks are well under way
        if grouped:
            rest = [step for begin in range(0, len(rest), grouped)
                    for step in ("group", *rest[begin:begin + grouped], "end")]
        run = self.run_client([*begun, *rest], abort=f"{rank} {calls // 2}", may_fail=True,
                              timeout=60, env={"VENDOR_SLIMCCL_TIMEOUT_S": 20, **env})
        for number, (process, text) in enumerate(zip(run.processes, run.texts)):
            self.assertEqual(process.code, 0, f"rank {number}: {run.text}")
            self.assertRegex(text, r"ENDED \d", f"rank {number}: {run.text}")
            if number != rank:
                self.assertRegex(text, r"ENDED [1-9]", f"rank {number}: {run.text}")
        self.assertIn("ABORT 0", run.texts[rank])
        for number in range(4):  # until then they were compressed
            self.assertEqual({op: list(reasons) for op, reasons in run.reasons(number).items()},
                             {op: ["compressed"] for op in OPS})

    def test_abort_by_another_thread(self):
        self.aborted(120)

    def test_abort_of_rank_0(self):
        self.aborted(120, rank=0, SLIMCCL_EMULATED_DELAY_US=1000)

    def test_abort_of_a_strict_nccl(self):
        self.aborted(60, SLIMCCL_NCCL=STRICT)

    def test_abort_in_groups(self):
        self.aborted(120, rank=3, grouped=5)


if __name__ == "__main__":
    harness.main()
