#!/usr/bin/python3
"""What may go wrong with compressed calls, a test for each guard against it. The comment at a test
says which guard it holds: without that the test fails."""
import dataclasses

from rig import Call, gradients, harness, zeros  # first: it may skip all of this
import numpy as np

import formats
from judge import Judge

OPS = ("all_gather", "reduce_scatter", "all_reduce")
SUPERBLOCK = formats.SUPERBLOCK


def spoiled(bad_rank, index, value):
    def change(rank, values):
        if rank == bad_rank:
            values[index] = value
    return change


class Content(Judge):
    """Values that a codec could get wrong."""

    def floats(self, run, call, rank):
        return formats.from_type(run.data(call, rank), call.type)

    def run_one(self, call, **options):
        run = self.run_client([call], **options)
        self.assert_compressed(run)
        return run, run.calls[0]

    # Guard: step 2 of the encoding, a superblock with an infinity or a NaN decodes to NaN; the sums
    # of a rank's own node are never encoded. Rank 1 shares a node with rank 0, not with 2 and 3.
    def non_finite_sum(self, value):
        count, bad = 5000, {0: 50, 3: 2100}  # slice: element
        def spoil(rank, values):
            for owner, index in bad.items() if rank == 1 else ():
                values[owner * count + index] = value
        run, call = self.run_one(Call("reduce_scatter", count, spoil=spoil))
        for rank in range(4):
            finite = np.isfinite(self.floats(run, call, rank))
            expected = np.ones(count, bool)
            if rank == 0:
                expected[50] = False
            if rank == 3:
                expected[SUPERBLOCK:2 * SUPERBLOCK] = False
                self.assertTrue(np.isnan(self.floats(run, call, 3)[~expected]).all())
            self.assertTrue((finite == expected).all(), f"rank {rank}")

    def test_infinity_in_a_reduce_scatter(self):
        self.non_finite_sum(np.inf)

    def test_nan_in_a_reduce_scatter(self):
        self.non_finite_sum(np.nan)

    # Guard: the same, twice: the finished sum is encoded too, and all ranks decode one message.
    def non_finite_everywhere(self, value, bad_rank, in_place):
        count, index = 40000, 10000 + 2100  # in the slice of rank 1, which begins at 10016
        call = Call("all_reduce", count, "bfloat16", in_place=in_place,
                    spoil=spoiled(bad_rank, index, value))
        run, call = self.run_one(call)
        begin = formats.slices("all_reduce", count, 4)[1][0] + SUPERBLOCK
        for rank in range(4):
            values = self.floats(run, call, rank)
            self.assertTrue(np.isnan(values[begin:begin + SUPERBLOCK]).all(), f"rank {rank}")
            values[begin:begin + SUPERBLOCK] = 0
            self.assertTrue(np.isfinite(values).all(), f"rank {rank}")

    def test_infinity_in_an_all_reduce(self):
        self.non_finite_everywhere(np.inf, 3, False)

    def test_nan_in_an_all_reduce(self):
        self.non_finite_everywhere(np.nan, 0, True)

    # Guard: a block of 64 with a NaN gets the scale NaN; the own slot stays in place.
    def test_nan_in_an_all_gather(self):
        count = 3000
        call = Call("all_gather", count, in_place=True, spoil=spoiled(2, 700, np.nan))
        run, call = self.run_one(call)
        for rank in range(4):
            values = self.floats(run, call, rank)[2 * count:3 * count]
            bad = np.flatnonzero(np.isnan(values))
            self.assertEqual(list(bad), [700] if rank == 2 else list(range(640, 704)))

    # Guard: F = 0 and a scale of 0 give zeros, not 0 * infinity.
    def test_zeros_stay_zeros(self):
        run = self.run_client([Call(op, 9001, kind, content=zeros) for op in OPS
                               for kind in formats.WIDTH])
        self.assert_compressed(run)
        for call in run.calls:
            for rank in range(4):
                self.assertFalse(self.floats(run, call, rank).any(), f"{call} rank {rank}")

    # Guard: the same, where only some blocks are zero, or only some ranks.
    def test_zeros_among_others(self):
        def content(rng, elems):
            values = gradients(rng, elems)
            values[:elems // 2] = 0
            values[-100:] = 0
            return values
        run = self.run_client([Call(op, 9001, content=content) for op in OPS])
        self.assert_compressed(run)
        self.check_all(run)

    # Guard: padding is internal: no block, superblock, slice or segment need be whole.
    def test_counts_that_nothing_divides(self):
        counts = (333, 1001, 2047, 2049, 4127, 65537)  # smaller messages would save nothing
        run = self.run_client([Call(op, count * 5 + 1 if op == "all_reduce" else count, "bfloat16")
                               for op in OPS for count in counts],
                              nodes="2+2+1", env={"SLIMCCL_FLOOR": 1})
        self.assert_compressed(run)
        self.check_all(run)

    # Guard: each launch picks wide or element access by the pointer; nothing beside is written.
    def offsets(self, op):
        program = [Call(op, 4099, kind, in_place=in_place, offset=offset)
                   for kind, in_place in (("bfloat16", True), ("float32", False))
                   for offset in range(16)]
        run = self.run_client(program)
        self.assert_compressed(run)
        self.check_all(run)

    def test_all_gathers_at_any_element(self):
        self.offsets("all_gather")

    def test_reduce_scatters_at_any_element(self):
        self.offsets("reduce_scatter")

    def test_all_reduces_at_any_element(self):
        self.offsets("all_reduce")

    # Guard: carriers by place in the node, partial sums by ascending node, an average of five.
    def test_odd_nodes(self):
        for nodes in ("2+1+1", "0,1,2,0,1", "0,1,0,0"):
            with self.subTest(nodes=nodes):
                run = self.run_client([Call(op, 10007, "float32", "avg") for op in OPS],
                                      nodes=nodes)
                self.assert_compressed(run)
                self.check_all(run)


class Order(Judge):
    """Streams, threads, communicators and late ranks. DELAY_US lets streams run apart."""

    SLOW = {"SLIMCCL_EMULATED_DELAY_US": 3000}
    ONE_SLOT = {"VENDOR_SLIMCCL_TEST_ONE_SLOT": 1}
    SENDS_WAIT = {"VENDOR_SLIMCCL_TEST_SENDS_WAIT": 1}

    def good(self, *programs, **options):
        run = self.run_client(*programs, **options)
        self.assert_compressed(run)
        self.check_all(run)

    def alternating(self, calls=12, **fields):
        """Calls that take turns in what the pattern says, e.g. stream=(0, 0, 1, 1)."""
        return [Call(OPS[i % 3], 7000 + 3000 * i, in_place=i % 2 == 0,
                     **{key: values[i % len(values)] for key, values in fields.items()})
                for i in range(calls)]

    # Guard: a call waits for the event of its arena slot's last use, on whichever stream. There are
    # two slots, so calls that take turns strictly would have a slot for each stream.
    def test_two_streams(self):
        self.good(self.alternating(stream=(0, 0, 1, 1)), env=self.SLOW)

    def test_two_streams_process_per_node(self):
        self.good(self.alternating(stream=(0, 0, 1, 1)), env=self.SLOW, per_node=True)

    # Guard: the same, in segments that reuse one arena of 1 MiB.
    def test_two_streams_in_segments(self):
        program = [Call(op, 200000, stream=stream)
                   for op, stream in zip(OPS * 2, (0, 0, 1, 1, 0, 0))]
        self.good(program, env={**self.SLOW, "SLIMCCL_ARENA_MB": 1})

    # Guard: what is coalesced runs on the first call's stream, after and before all of theirs.
    def test_two_streams_in_a_group(self):
        program = self.alternating(stream=(0, 1))
        self.good([*program[:2], "group", *program[2:7], "end", "group", *program[7:], "end"],
                  env=self.SLOW)

    # Guard: each communicator has an arena of its own.
    def test_two_communicators(self):
        program = self.alternating(stream=(0, 1), comm=(0, 1))
        self.good(program, comms=2, env=self.SLOW)

    def test_two_communicators_in_a_group(self):
        program = self.alternating(stream=(0, 1), comm=(0, 1))
        self.good(["group", *program[:6], "end", *program[6:]], comms=2, per_node=True)

    def two_threads(self, per_node=False, **env):
        self.good(self.alternating(comm=(0,)), self.alternating(comm=(1,)), comms=2,
                  per_node=per_node, env=env)

    # Guard: calls of two communicators share nothing that one of them could change.
    def test_two_threads(self):
        self.two_threads()

    def test_two_threads_process_per_node(self):
        self.two_threads(per_node=True)

    # Guard: all of a call is enqueued before another thread's. The ranks need not agree on which of
    # the two threads is first, for both make equal calls.
    def test_two_threads_on_one_communicator(self):
        def equal(rank, values):
            values[:] = gradients(np.random.default_rng([5, rank]), len(values))
        program = [Call("all_reduce", 20000, spoil=equal)] * 40
        self.good(program, [dataclasses.replace(call, stream=1) for call in program])

    # Guard: a level's sends and receives are one group: none waits for what comes after it.
    def test_two_threads_where_sends_wait(self):
        self.two_threads(**self.SENDS_WAIT)

    def test_coalesced_where_sends_wait(self):
        program = self.alternating()
        self.good(["group", *program[:5], "end", *program[5:]], env=self.SENDS_WAIT)

    # Guard: all of a call is enqueued before the next one of another communicator begins. Here the
    # program orders the threads' calls, and has one stream for them: else no NCCL would do.
    def test_two_threads_on_one_kernel_slot(self):
        self.two_threads(TURNS=1, **self.ONE_SLOT)

    def test_two_threads_process_per_node_on_one_kernel_slot(self):
        self.two_threads(per_node=True, TURNS=1, **self.ONE_SLOT, **self.SENDS_WAIT)

    # Guard: nothing in a call waits for the host of another rank.
    def test_late_ranks(self):
        calls = self.alternating(9)
        self.good(["sleep 2 1500", *calls[:3], "sleep 0 1000", "group", *calls[3:6], "sleep 3 700",
                   "end", *calls[6:]])


if __name__ == "__main__":
    harness.main()
