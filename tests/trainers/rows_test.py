#!/usr/bin/python3
"""What the measurement of trainers says of rows that are right, and of rows that are not; and that
docs/trainers.md has the catalogue's table."""
import copy
import os
import re
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import document  # noqa: E402
import gates  # noqa: E402
import harness  # noqa: E402
import measure  # noqa: E402
import meter  # noqa: E402
import rows  # noqa: E402
import run_all  # noqa: E402
import step_time  # noqa: E402
from catalogue import CONTROLS, JUDGED, WITHOUT_OVERLAY  # noqa: E402


def traffic(elements=0, compressed=0, exact=0, sent=0, calls=None):
    return {"elements": elements, "compressed_elements": compressed, "exact_bytes": exact,
            "bytes": sent, "calls": calls or {}}


def record(profile, seed=0, loss=3.0, **changes):
    base = profile in (*WITHOUT_OVERLAY, "exact")
    active = 0 if profile in WITHOUT_OVERLAY else 4
    found = {
        "trainer": "fsdp2", "nodes": "2x2", "profile": profile, "seed": seed, "steps": 3,
        "rate": "1gbit", "losses": ["0x1p3", "0x1p2", "0x1p1"], "loss": loss, "parameters": "ab",
        "ranks_active": active, "bytes_per_step": 380.0 if base else 132.0, "seconds": 0.5,
        "traffic": {"all_gather": traffic(), "reduce_scatter": traffic(),
                    "all_reduce": traffic(9, calls={"under the floor": 9})},
        "commit": "c", "fingerprint": "f"}
    if profile not in ("none", "exact"):
        found["losses"] = ["0x1p3", "0x1p2", "0x1.4p1" if profile in CONTROLS else "0x1.1p1"]
    if not base:
        found["traffic"]["all_gather"] = traffic(100, 100, 194, 100, {"compressed": 5})
        found["traffic"]["reduce_scatter"] = traffic(100, 99, 750, 100, {"compressed": 5})
    found.update(copy.deepcopy(changes))
    return found


def all_red(*records, planned=None):
    return [gate["gate"] for gate in gates.gates_of(list(rows.rows_of(records)), planned)
            if not gate["passed"]]


def red(*records):
    """But for what the interfaces saw, which has a test of its own."""
    return [gate for gate in all_red(*records) if "interfaces" not in gate]


def seeds(profile, *losses):
    return [record(profile, seed, loss) for seed, loss in enumerate(losses)]


class Rows(unittest.TestCase):
    def test_the_fields_that_are_promised(self):
        row = next(rows.rows_of([record("none", loss=3.0), record("zeropp", loss=3.015)]))
        self.assertEqual([row[name] for name in (
            "trainer", "nodes", "ranks_per_node", "profile", "seed", "steps", "loss_exact", "loss",
            "bytes_exact_per_step", "bytes_per_step", "weights_ratio", "gradients_ratio",
            "seconds_exact", "seconds")],
            ["fsdp2", 2, 2, "zeropp", 0, 3, 3.0, 3.015, 380.0, 132.0, 1.94, 7.5, 0.5, 0.5])
        self.assertAlmostEqual(rows.worse(row), 0.005)

    def test_a_run_without_its_exact_one_has_no_row(self):
        self.assertEqual(list(rows.rows_of([record("zeropp")])), [])
        self.assertEqual(list(rows.rows_of([record("none", seed=1), record("zeropp")])), [])
        self.assertEqual(list(rows.rows_of([record("none", fingerprint="other"),
                                            record("zeropp")])), [])

    def test_how_far_the_losses_are_apart(self):
        base, run = ({"losses": losses} for losses in (["0x1p0", "0x1p1"], ["0x1.4p0", "0x1.8p0"]))
        self.assertAlmostEqual(rows.apart(base, run), 0.25)  # a quarter above, a quarter below


class Records(unittest.TestCase):
    def test_what_counts_comes_after_the_evidence_of_auto(self):
        self.assertEqual(measure.settled_of(measure.STEPS), measure.SETTLED)
        self.assertEqual(measure.settled_of(24), 12)

    def holds(self, profile, steps=60, **changes):
        made = record(profile, losses=["0x1p1"] * 60, **changes)
        return measure.holds(made, measure.TRAINERS["fsdp2"], steps, "1gbit")

    def test_a_record_that_is_behind_is_made_again(self):
        saved, measure.fingerprint = measure.fingerprint, lambda trainer: "f"
        self.addCleanup(setattr, measure, "fingerprint", saved)
        self.assertTrue(self.holds("auto", settled=46))
        self.assertFalse(self.holds("auto", settled=30))
        self.assertFalse(self.holds("auto"), "of a time when it was not said")
        self.assertFalse(self.holds("exact", steps=61, settled=46), "it ended early")
        self.assertFalse(self.holds("zeropp", fingerprint="other", settled=46))
        self.assertFalse(self.holds("zeropp", rate="10gbit", settled=46))

    def test_a_run_that_is_not_whole_is_a_failure_of_that_run_alone(self):
        class Done:
            folder, ranks, losses_by_rank = "F", ["step 0 loss 1 = 1 in 0.1 s\n"], [["1"]]

        class Blind:
            per_step = staticmethod(lambda first, last: None)

        for steps in (2, 1):  # a step too few; no bytes
            with self.assertRaises(measure.torchrun.Failed):
                measure.record_of(Done, Blind, [], steps)

    def test_nodes_have_cores_of_their_own(self):
        shares = measure.torchrun.shares
        self.assertEqual(shares(2, {0, 1}), ["0", "1"])
        self.assertEqual(shares(2, {8, 2, 4, 6, 9}), ["2,4", "6,8"])
        self.assertEqual(shares(4, {0, 1}), [])
        halves = {core: core % 4 for core in range(8)}  # two threads of a core are 4 apart
        self.assertEqual(shares(2, set(halves), halves.get), ["0,4,1,5", "2,6,3,7"])
        self.assertEqual(shares(2, {0, 1, 2, 4, 5, 6}, halves.get), ["0,4", "1,5"], "whole cores")
        self.assertEqual(shares(2, {0, 4}, halves.get), ["0", "4"], "one core of two threads")

    def test_without_kernels_nothing_is_measured(self):
        with tempfile.TemporaryDirectory() as build:
            preload = os.path.join(build, "preload.so")
            for name, value in (("BUILD", build), ("PRELOAD", preload)):
                self.addCleanup(setattr, measure.torchrun, name, getattr(measure.torchrun, name))
                setattr(measure.torchrun, name, value)
            self.assertIn("is not built", measure.missing())
            with open(preload, "w", encoding="utf-8"):
                pass
            self.assertIn("without nvcc", measure.missing())
            os.makedirs(os.path.join(build, "src", "quant", "cuda"))
            with open(os.path.join(build, "src/quant/cuda/kernels.fatbin"), "w", encoding="utf-8"):
                pass
            self.assertNotIn("nvcc", measure.missing() or "")

    def test_a_rank_whose_calls_the_overlay_did_not_see_is_not_active(self):
        class Done:
            folder, losses_by_rank, losses, parameters, seconds = "F", [["1"]], ["0x1"], ["ab"], 1
            ranks = ["step 0 loss 1 = 1 in 0.1 s\n" * 3 + "validation loss 0x1p1 = 2\n"]

        class Metered:
            per_step = staticmethod(lambda first, last: 1.0)

        total = {"calls": {}, "elements": {}}
        made = measure.record_of(Done, Metered, [{"made": 2, "total": total},
                                                 {"made": 0, "total": total}], 3)
        self.assertEqual(made["ranks_active"], 1)

    def test_settings_of_ours_are_not_inherited(self):
        saved = dict(os.environ)
        self.addCleanup(os.environ.update, saved)
        self.addCleanup(os.environ.clear)
        for name in measure.meddling():
            del os.environ[name]
        os.environ.update(SLIMCCL_BUILD="b", SLIMCCL_ROOT="r")
        self.assertEqual(measure.meddling(), [])
        os.environ.update(SLIMCCL_FLOOR="1", SLIMCCL_RULES="*=exact", LD_PRELOAD="")
        self.assertEqual(measure.meddling(), ["LD_PRELOAD", "SLIMCCL_FLOOR", "SLIMCCL_RULES"])


class Meter(unittest.TestCase):
    def read(self, *sent):
        one = meter.Meter("none", 0, "none")
        one.sent_by_step = dict(enumerate(sent))
        return one

    def test_bytes_of_a_step(self):
        self.assertEqual(self.read(0, 10, 20, 30, 40).per_step(1, 4), 10)
        self.assertEqual(self.read(0, 10, 20).per_step(1, 2), 10)

    def test_late_readings_at_both_ends_change_nothing(self):
        sent = [step * 100 for step in range(14)]
        for late in (0, 6, 13):
            other = list(sent)
            other[late] += 90
            self.assertEqual(self.read(*other).per_step(0, 13), 100, late)

    def test_a_step_that_was_not_seen(self):
        one = self.read(0, 10, 20, 30)
        self.assertIsNone(one.per_step(1, 4))
        del one.sent_by_step[2]
        self.assertIsNone(one.per_step(1, 3))
        self.assertIsNone(one.per_step(1, 1))


class Gates(unittest.TestCase):
    def test_all_well(self):
        self.assertEqual(all_red(record("none"), record("exact"), record("auto"),
                                 record("zeropp")), [])

    def test_a_rank_without_the_overlay(self):
        found = red(record("none"), record("zeropp", ranks_active=3))
        self.assertEqual(found, ["fsdp2 2x2 zeropp seed 0: all 4 ranks had the overlay"])

    def test_exact_with_another_bit(self):
        for changed in ({"losses": ["0x1p3", "0x1p2", "0x1.1p1"]}, {"parameters": "other"},
                        {"loss": 3.0000001}):
            self.assertEqual(len(red(record("none"), record("exact", **changed))), 1, changed)

    def test_exact_that_ended_early_proves_nothing(self):
        self.assertEqual(len(red(record("none"), record("exact", losses=["0x1p3", "0x1p2"]))), 1)

    def test_a_ratio_that_is_too_low(self):
        found = record("zeropp")
        found["traffic"]["all_gather"]["bytes"] = 103
        self.assertEqual(red(record("none"), found),
                         ["fsdp2 2x2 zeropp seed 0: all_gather compressed, 1.9x for 95% of its elements"])

    def test_an_operation_that_was_not_compressed(self):
        found = record("zeropp")
        found["traffic"]["reduce_scatter"] = traffic(100, calls={"no evidence": 5})
        self.assertEqual(red(record("none"), found),
                         ["fsdp2 2x2 zeropp seed 0: reduce_scatter compressed, 7x for 95% of its elements"])

    def test_a_good_ratio_of_a_few_calls(self):
        for profile, least in (("zeropp", "95%"), ("auto", "24%")):
            found = record(profile)
            found["traffic"]["all_gather"]["calls"]["under the floor"] = 50
            self.assertEqual(red(record("none"), found), [])
            found["traffic"]["all_gather"]["elements"] = 600
            self.assertEqual(red(record("none"), found),
                             [f"fsdp2 2x2 {profile} seed 0: all_gather compressed, 1.9x for {least} "
                              "of its elements"])

    def test_an_operation_that_should_have_stayed_exact(self):
        found = record("zeropp")
        found["traffic"]["all_reduce"] = traffic(100, 100, 750, 100, {"compressed": 1})
        self.assertEqual(red(record("none"), found),
                         ["fsdp2 2x2 zeropp seed 0: all_reduce under the floor"])

    def test_calls_that_stay_exact_for_no_reason_that_is_known(self):
        """However good the ratio of the others is."""
        for reason in ("no evidence", "exact is faster", "implausible content", "paused"):
            found = record("zeropp")
            found["traffic"]["reduce_scatter"]["calls"][reason] = 1
            self.assertEqual(red(record("none"), found),
                             ["fsdp2 2x2 zeropp seed 0: reduce_scatter compressed, 7x for 95% of its elements"], reason)
            found = record("auto")
            found["traffic"]["all_reduce"]["calls"][reason] = 1
            self.assertEqual(red(record("none"), found),
                             ["fsdp2 2x2 auto seed 0: all_reduce under the floor"], reason)
        found = record("auto")
        found["traffic"]["reduce_scatter"]["calls"]["no evidence"] = 1
        self.assertEqual(red(record("none"), found), [], "auto begins without evidence")

    def test_what_asks_for_no_compression_changes_no_bit(self):
        exact = {"losses": ["0x1p3", "0x1p2", "0x1p1"], "trainer": "ddp", "traffic": {
            "all_gather": traffic(), "reduce_scatter": traffic(),
            "all_reduce": traffic(9, calls={"no evidence": 2, "under the floor": 1})}}
        self.assertEqual(red(record("none", trainer="ddp"), record("auto", **exact)), [])
        exact["losses"][2] = "0x1.1p1"
        self.assertEqual(red(record("none", trainer="ddp"), record("auto", **exact)),
                         ["ddp 2x2 auto seed 0: every loss has the bits of the run without the "
                          "overlay"])

    def test_a_saving_that_the_interfaces_did_not_see(self):
        for profile in ("zeropp", "auto"):
            runs = {one: record(one) for one in ("none", "zeropp", "auto")}
            runs[profile]["bytes_per_step"] = 160.0
            found = [gate for gate in all_red(*runs.values()) if "interfaces" in gate]
            self.assertEqual(len(found), 1, found)
            self.assertTrue(found[0].startswith(f"fsdp2 2x2 {profile} seed 0"), found)

    def test_auto_that_measured_before_its_evidence(self):
        """HSDP's two profiles ask different ratios: nothing but the interfaces tells."""
        calls = {"all_gather": traffic(), "reduce_scatter": traffic(),
                 "all_reduce": traffic(100, 100, 750, 100, {"compressed": 1})}
        early = {**calls, "all_reduce": traffic(100, 25, 187, 37,
                                                {"compressed": 1, "no evidence": 3})}
        runs = [record("none", trainer="hsdp"),
                record("zeropp", trainer="hsdp", traffic=calls, bytes_per_step=163.0)]
        settled = record("auto", trainer="hsdp", traffic=early, bytes_per_step=180.0)
        self.assertEqual(all_red(*runs, settled), [])
        settled["bytes_per_step"] = 250.0
        self.assertEqual(len(all_red(*runs, settled)), 1)

    def test_runs_that_are_not_there(self):
        planned = [("fsdp2", "2x2", profile, 0) for profile in ("none", "zeropp", "ds4")]
        runs = [record("none"), record("zeropp"), record("ds4")]
        self.assertEqual(all_red(*runs, planned=planned), [])
        text = ["all: 2 runs beside runs without the overlay"]
        self.assertEqual(all_red(*runs[:2], planned=planned), text)
        runs[2]["fingerprint"] = "of other libraries"
        self.assertEqual(all_red(*runs, planned=planned), text)
        self.assertEqual(len(all_red(planned=[])), 1, "nothing at all")

    def test_a_control_that_never_happened(self):
        found = red(record("none"), record("ds4", losses=["0x1p3", "0x1p2", "0x1p1"]))
        self.assertEqual(found, ["fsdp2 2x2 ds4 seed 0: the control changed the gradients: other "
                                 "losses than the exact run's"])

    def test_nothing_between_nodes(self):
        calls = {"all_gather": traffic(9, calls={"one node": 2}), "reduce_scatter": traffic(),
                 "all_reduce": traffic(100, 100, 750, 100, {"compressed": 1})}
        hsdp = {"trainer": "hsdp", "traffic": calls}
        self.assertEqual(red(record("none", trainer="hsdp"), record("zeropp", **hsdp)), [])
        calls["all_gather"]["calls"]["no evidence"] = 1
        self.assertEqual(len(red(record("none", trainer="hsdp"), record("zeropp", **hsdp))), 1)

    def test_a_loss_that_is_worse_in_one_seed(self):
        self.assertEqual(red(record("none", loss=3), record("zeropp", loss=3.02)), [])
        self.assertEqual(red(record("none", loss=3), record("zeropp", loss=3.04)),
                         ["fsdp2 2x2 zeropp seed 0: loss at most +1.0%"])

    def test_a_run_that_learned_nothing_proves_nothing(self):
        found = red(record("none", loss=7), record("zeropp", loss=7))
        self.assertEqual(len(found), 1)
        self.assertIn("the exact run learned", found[0])

    def test_a_loss_that_is_worse_in_the_mean(self):
        exact = seeds("none", 3, 3, 3)
        self.assertEqual(red(*exact, *seeds("zeropp", 3.0, 3.02, 3.02)), [])
        self.assertEqual(red(*exact, *seeds("zeropp", 3.02, 3.02, 3.02)),
                         ["fsdp2 2x2 zeropp, mean of 3 seeds: loss at most +0.5%"])

    def test_a_control_that_is_not_worse(self):
        runs = [*seeds("none", 3, 3, 3), *seeds("zeropp", 3.01, 3, 3)]
        self.assertEqual(red(*runs, *seeds(JUDGED, 3.02, 3.02, 3)), [])
        self.assertEqual(len(red(*runs, *seeds(JUDGED, 3.005, 3, 3))), 1)
        better = [*seeds("none", 3, 3, 3), *seeds("zeropp", 2.98, 3, 3)]
        self.assertEqual(len(red(*better, *seeds(JUDGED, 2.99, 3, 3))), 1, "better than exact")

    def test_a_control_that_the_losses_do_not_show(self):
        runs = [*seeds("none", 3, 3, 3), *seeds("zeropp", 3, 3, 3)]
        near = [record(JUDGED, seed, 3.01, losses=["0x1p3", "0x1p2", "0x1.1fp1"]) for seed in range(3)]
        far = [record(JUDGED, seed, 3.01, losses=["0x1p3", "0x1p2", "0x1.21p1"]) for seed in range(3)]
        lost = [record(JUDGED, seed, 3.01, losses=["0x1p3", "0x1p2", "inf"]) for seed in range(3)]
        self.assertEqual(red(*runs, *far), [])
        self.assertIn("at least 2 times as far", *red(*runs, near[0], *far[1:]))
        self.assertIn("at least 2 times as far", *red(*runs, *lost))

    def test_auto_that_settles_on_more_bytes(self):
        self.assertEqual(len(red(record("none"), record("zeropp"),
                                 record("auto", bytes_per_step=150.0))), 1)


class Document(unittest.TestCase):
    """Otherwise tests/trainers/document.py writes them anew."""

    def assert_has(self, path, part):
        with open(path, encoding="utf-8") as file:
            self.assertIn(part, file.read(), f"{path} is behind")

    def test_the_table_is_the_catalogues(self):
        self.assert_has(document.PATH, document.table())

    def committed(self):
        if not os.path.exists(document.RESULT):
            self.skipTest("no docs/trainers.json yet: ./dev trainers run --all makes it")
        return rows.read(document.RESULT)

    def test_the_numbers_are_those_of_the_committed_run(self):
        committed = self.committed()
        self.assert_has(document.PATH, document.summary(committed))
        self.assert_has(document.PATH, document.controls(committed["rows"]))
        self.assert_has(document.README, document.short(committed["rows"]))

    def test_the_step_time_is_that_of_a_run_that_passed(self):
        if not os.path.exists(document.STEP_TIME):
            self.skipTest("no docs/step_time.json yet: ./dev trainers time makes it")
        found = rows.read(document.STEP_TIME)
        self.assert_has(document.README, document.step(found))
        self.assertEqual([(gate["gate"], gate["passed"]) for gate in step_time.judge(found)],
                         [(gate["gate"], True) for gate in found["gates"]])
        self.assertRegex(found["commit"], "^[0-9a-f]{12}$")

    def test_the_committed_gates_are_those_of_a_full_run(self):
        """Of these gates and this catalogue, over rows of all that --all runs."""
        committed = self.committed()
        planned = list(run_all.plan(list(measure.TRAINERS), True))
        judged = gates.gates_of(committed["rows"], planned)
        self.assertEqual(*([(gate["gate"], gate["passed"]) for gate in some]
                           for some in (committed["gates"], judged)))
        self.assertEqual(gates.missing(committed["rows"], planned), [])

    def test_what_was_committed_is_right(self):
        """No run failed, each was made at a commit, of files as they are in it, and all gates passed."""
        committed = self.committed()
        self.assertEqual([gate["gate"] for gate in committed["gates"] if not gate["passed"]], [])
        self.assertEqual(committed["failures"], [])
        self.assertEqual([row["commit"] for row in committed["rows"]
                          if not re.fullmatch("[0-9a-f]{12}", row["commit"])], [])


if __name__ == "__main__":
    harness.main()
