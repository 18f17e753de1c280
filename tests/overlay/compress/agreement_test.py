#!/usr/bin/python3
"""What the ranks must agree on before a call is compressed: under auto what each kind of call
carries, under every profile the rules; and what a trainer says. The comment at a test says which
guard it holds: without that the test fails."""
import re

from rig import STRICT, Call, gradients, harness, zeros  # first: it may skip all of this
import numpy as np

from judge import Judge

OPS = ("all_gather", "reduce_scatter", "all_reduce")
FIRST, SECOND = 64, 128  # points of agreement: calls are told of at the first, known at the second
A_STEP = 4  # calls


def codes(rng, elems):
    """Packed 4-bit codes, labelled bf16."""
    bits = rng.integers(0, 1 << 16, elems, dtype=np.uint32)
    bits[bits & 0x7F80 == 0x7F80] ^= 0x0100  # no NaN: its bits may change on their way
    return (bits << 16).view(np.float32)


def moments(rng, elems):
    return gradients(rng, elems)**2


def a_step():
    yield Call("reduce_scatter", 1500, "float32", "avg", in_place=True)
    yield Call("all_gather", 2000, "bfloat16", in_place=True)
    yield Call("all_gather", 1400, "bfloat16", in_place=True, content=codes)
    yield Call("all_gather", 1600, "float32", in_place=True, content=moments)


def training(steps=40, waits=40, before=None):
    """`before`: {number of a call, from 1: line of the program}. After each of the first `waits`
    steps all is waited for, as for a loss; so all samples have arrived."""
    number = 0
    for step in range(steps):
        for call in a_step():
            number += 1
            if number in (before or {}):
                yield before[number]
            yield call
        if step < waits:
            yield "wait"


class Auto(Judge):
    """Calls are exact until the ranks have told each other what they carry."""

    def fate(self, number):
        """Of a call of training(), by its number: what the report says of it."""
        if number < SECOND:
            return "no evidence"
        return "compressed" if (number - 1) % A_STEP < 2 else "implausible content"

    def assert_unchanged(self, run, call):
        """A call that was made by the real NCCL: not a bit of an all-gather differs."""
        if call.op != "all_gather":
            self.check(run, call, "exact")
            return
        sent = b"".join(run.data(call, rank, "in") for rank in range(len(run.labels)))
        for rank in range(len(run.labels)):
            self.assertEqual(run.data(call, rank), sent, f"{call} rank {rank}")

    def assert_fates(self, run):
        wanted = {}
        for number, call in enumerate(run.calls, 1):
            fates = wanted.setdefault(call.op, {})
            fates[self.fate(number)] = fates.get(self.fate(number), 0) + 1
        for rank in range(len(run.labels)):
            self.assertEqual(run.reasons(rank), wanted, f"rank {rank}: {run.text}")
        for number, call in enumerate(run.calls, 1):
            if self.fate(number) == "compressed":
                self.check(run, call, "auto")
            else:
                self.assert_unchanged(run, call)

    def assert_told(self, run):
        """Once, by rank 0: what is compressed, and as warnings what never will be."""
        self.assertEqual(len(re.findall("is compressed from here on", run.text)), 2, run.text)
        self.assertEqual(len(run.warnings), 2, run.text)
        for warning, count in zip(sorted(run.warnings), (1400, 1600)):
            self.assertIn(f"all_gather of {count} ", warning)
            self.assertIn("is exact from here on", warning)

    # Guard: nothing is compressed without evidence; what a sample speaks against stays exact.
    def test_what_it_carries_decides(self):
        run = self.run_client(list(training()), profile="auto")
        self.assert_fates(run)
        self.assert_told(run)

    def test_process_per_node(self):
        self.assert_fates(self.run_client(list(training()), profile="auto", per_node=True))

    # Guard: activations look like gradients, but are not in place; zeros say nothing of either.
    def test_what_stays_exact(self):
        program = [step for _ in range(70) for step in (
            Call("reduce_scatter", 1500), Call("all_gather", 1500, "bfloat16"), "wait")]
        program += [step for _ in range(70) for step in (
            Call("reduce_scatter", 1500, "float32", "avg", comm=1, content=zeros),
            Call("all_gather", 2000, "bfloat16", in_place=True, comm=1), "wait")]
        run = self.run_client(program, profile="auto", comms=2)
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {op: {"no evidence": 140}
                                                 for op in ("reduce_scatter", "all_gather")})
        for call in run.calls:
            self.assert_unchanged(run, call)

    # Guard: samples are of all of the input, also of what other ranks get.
    def test_a_slice_objects(self):
        def spoil(_, values):
            values[-1500:] = 10.0**-np.random.default_rng(3).uniform(0, 30, 1500)
        call = Call("reduce_scatter", 1500, "float32", "avg", spoil=spoil)
        run = self.run_client([call, "wait"] * 130, profile="auto")
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {"reduce_scatter": {
                "no evidence": 127, "implausible content": 3}}, run.text)

    # Guard: zeropp takes the user's word, but not against what all ranks have seen.
    def test_zeropp_learns(self):
        run = self.run_client(list(training()))
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {
                "reduce_scatter": {"compressed": 40},
                "all_gather": {"compressed": 103, "implausible content": 17}}, run.text)
        self.assertEqual(len(run.warnings), 2, run.text)
        for number, call in enumerate(run.calls, 1):
            if self.fate(number) == "implausible content":
                self.assert_unchanged(run, call)
            elif number % A_STEP in (1, 2):
                self.check(run, call)

    # Guard: nobody else uses the ranks' connections while they tell each other.
    def test_beside_checks(self):
        run = self.run_client(list(training(waits=10)), profile="auto", env={"SLIMCCL_CHECK": 1})
        self.assert_fates(run)

    # Guard: the same, where a point of agreement lies in a group.
    def test_points_in_groups(self):
        calls = [call for _ in range(40) for call in a_step()]
        program = [*training(steps=15), *calls[60:62], "group", *calls[62:70], "end",
                   *calls[70:126], "group", *calls[126:132], "end", *calls[132:]]
        self.assert_fates(self.run_client(program, profile="auto"))
        self.assert_fates(self.run_client(program, profile="auto", per_node=True))

    # Guard: who comes to the second point waits for what all ranks said at the first.
    def test_ranks_that_come_late(self):
        late = {FIRST: "sleep 2 3000", SECOND: "sleep 1 3000"}
        program = list(training(waits=FIRST // A_STEP - 1, before=late))
        self.assert_fates(self.run_client(program, profile="auto"))

    # Guard: one rank's objection is everyone's.
    def test_one_rank_objects(self):
        def spoil(rank, values):
            if rank == 3:
                values[:] = moments(np.random.default_rng(7), len(values))
        program = [step for _ in range(70) for step in (
            Call("reduce_scatter", 1500, "float32", "avg", spoil=spoil),
            Call("reduce_scatter", 1600, "float32", "avg"), "wait")]
        run = self.run_client(program, profile="auto")
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {"reduce_scatter": {
                "no evidence": 127, "compressed": 7, "implausible content": 6}}, run.text)
        for number, call in enumerate(run.calls, 1):
            compressed = number >= SECOND and call.count == 1600
            self.check(run, call, "auto" if compressed else "exact")

    # Guard: who waits for an outcome does not wait for ever, and says what for.
    def test_a_rank_that_never_comes(self):
        program = list(training(waits=FIRST // A_STEP - 1, before={FIRST: "sleep 2 9000"}))
        run = self.run_client(program, profile="auto", may_fail=True,
                              env={"SLIMCCL_TIMEOUT_S": 3, "VENDOR_SLIMCCL_TIMEOUT_S": 20})
        for rank in (0, 1, 3):
            self.assertRegex(run.texts[rank], r"ENDED [1-9]\d* ", run.text)
        self.assertRegex(run.text, r"ENDED 6 some rank did not get to this call's point of agreement "
                                   r"within 3 s \(SLIMCCL_TIMEOUT_S\)")
        self.assertRegex(run.texts[2], r"ENDED [1-9]", run.text)


class Word(Judge):
    """What the user and the program say."""

    PROGRAM = [Call(op, 8000) for op in OPS]

    # Guard: the rules are in the set-up record.
    def test_other_rules_on_one_rank(self):
        run = self.run_client(self.PROGRAM, of_process={3: {"SLIMCCL_RULES": "tp=exact"}})
        self.assert_exact(run, "settings differ", warnings=1)
        self.assertIn("rules=", run.warnings[0])

    # Guard: a rule by the group's name protects activations.
    def test_a_rule_by_name(self):
        run = self.run_client(self.PROGRAM, env={"COMM_NAME": "mesh_tp",
                                                 "SLIMCCL_RULES": "*_tp=exact"})
        self.assert_exact(run, "rule")

    # Guard: a rule that is misspelt is told of, while training goes on and at its end.
    def test_a_rule_that_fits_nothing(self):
        run = self.run_client([*self.PROGRAM, "step", "step", *self.PROGRAM], env={
            "COMM_NAME": "mesh_inner", "SLIMCCL_RULES": "mesh_iner=exact; mesh*:all_reduce=exact"})
        self.assertEqual(len(run.warnings), 2, run.text)
        for warning in run.warnings:
            self.assertTrue(warning.endswith(
                'none is named as in "mesh_iner:*:*=exact", so that this decides nothing here; they '
                "are named mesh_inner"), warning)

    # Guard: without one, the name itself does, and zeropp says so once.
    def test_no_rule_for_a_telling_name(self):
        for profile in ("zeropp", "audit"):
            run = self.run_client(self.PROGRAM, profile=profile, env={"COMM_NAME": "mesh_tp"})
            self.assert_exact(run, "named as activations")
            self.assertEqual(run.text.count("its name says that activations travel by it"), 1)
            self.assertIn('make "mesh_tp:all_gather=weights; mesh_tp=gradients" the first', run.text)
            self.assertNotIn("arena", run.text)

    # Guard: a rule for all is the user's word, of which rank 0 warns here.
    def test_a_rule_for_all_and_a_telling_name(self):
        run = self.run_client(self.PROGRAM, env={"COMM_NAME": "mesh_tp",
                                                 "SLIMCCL_RULES": "*:all_gather=weights; *=gradients"})
        self.assert_compressed(run)
        self.assertEqual(len(run.warnings), 1, run.text)
        self.assertIn('make "mesh_tp=exact" the first', run.warnings[0])

    # Guard: what that line says to do does it.
    def test_the_rules_that_it_tells(self):
        run = self.run_client(self.PROGRAM, env={
            "COMM_NAME": "mesh_tp",
            "SLIMCCL_RULES": "mesh_tp:all_gather=weights; mesh_tp=gradients"})
        self.assert_compressed(run)
        self.assertEqual(run.warnings, [])

    # Guard: a rule needs no evidence, and asks for none.
    def test_a_rule_under_auto(self):
        run = self.run_client(self.PROGRAM, profile="auto", env={
            "COMM_NAME": "dp", "SLIMCCL_RULES": "dp:all_gather=weights;dp=gradients"})
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {op: {"compressed": 1} for op in OPS}, run.text)
        self.check_all(run, "auto")

    # Guard: the real NCCL has plans of its own for what lies in a window. Which buffers do may
    # differ between ranks, and one rank alone may give them up, so all calls of a communicator that
    # has had windows are exact.
    def windows(self, per_node):
        program = ["window 0 in", *self.PROGRAM, "wait", "unwindow",
                   *self.PROGRAM]
        run = self.run_client(program, per_node=per_node, env={"SLIMCCL_NCCL": STRICT})
        for rank in range(4):
            self.assertEqual(run.reasons(rank),
                             {op: {"windows registered": 2} for op in OPS})
        for call in run.calls:
            self.check(run, call, "exact")

    def test_windows(self):
        self.windows(False)

    def test_windows_process_per_node(self):
        self.windows(True)

    # Guard: between pause and resume, which nest, calls are exact.
    def paused(self, per_node):
        program = [*self.PROGRAM, "pause", *self.PROGRAM, "pause", "step", "resume", "group",
                   *self.PROGRAM, "end", "resume", "step", *self.PROGRAM]
        run = self.run_client(program, per_node=per_node)
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {op: {"compressed": 2, "paused": 2} for op in OPS})
        for index, call in enumerate(run.calls):
            self.check(run, call, "exact" if 3 <= index < 9 else "zeropp")

    def test_paused(self):
        self.paused(False)

    def test_paused_process_per_node(self):
        self.paused(True)

    # Guard: paused calls are no evidence, and do not count towards a point of agreement.
    def test_paused_under_auto(self):
        one = Call("reduce_scatter", 1500, "float32", "avg")
        program = ["pause", *[one] * 70, "resume", "wait"]
        for _ in range(130):
            program += [one, "wait"]
        run = self.run_client(program, profile="auto")
        for rank in range(4):
            self.assertEqual(run.reasons(rank), {"reduce_scatter": {
                "paused": 70, "no evidence": 127, "compressed": 3}}, run.text)
        for index, call in enumerate(run.calls):
            self.check(run, call, "auto" if index >= 70 + SECOND - 1 else "exact")


if __name__ == "__main__":
    harness.main()
