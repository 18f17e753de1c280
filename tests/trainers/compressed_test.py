#!/usr/bin/python3
"""Real trainers, unmodified, whose calls between two pretend nodes the overlay compresses, as the
catalogue asks: nearly all gradients cross compressed, in as few bytes as promised, and training goes
on: the loss falls, and all ranks know the same one. The bytes that the vendor's stand-in says it
sent must agree."""
import collections
import glob
import math
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import trainers_test  # noqa: E402
import measure  # noqa: E402
import rows  # noqa: E402
from catalogue import TRAINERS  # noqa: E402

harness, torchrun = trainers_test.harness, trainers_test.torchrun

RANKS = 4
AGREED = 128  # the call from which on what was seen counts
SENT = re.compile(r"NOTICE rank 0: .* (\d+) bytes sent to other nodes")
# ZeRO-3 gathers parameters one by one in its first step, many under the floor.
LEAST_SHARE = {"all_gather": 0.8, "reduce_scatter": 0.95, "all_reduce": 0.95}


class Compressed(trainers_test.TrainerTest):
    steps = 5

    def run_compressed(self, name, profile, steps=None, env=None):
        """The run, and its ranks' reports."""
        trainer = TRAINERS[name]
        pattern = os.path.join(torchrun.MADE, f"report-{name}-{profile}-%p.json")
        for old in glob.glob(pattern.replace("%p", "*")):
            os.remove(old)
        done = self.run_trainer(trainer.script, f"{name}-{profile}", self.arguments(name),
                                torchrun.PRELOAD, steps=steps,
                                env={"SLIMCCL_PROFILE": profile, "SLIMCCL_REPORT": pattern,
                                     "VENDOR_SLIMCCL_LOG": "notice", **(env or {})})
        reports = list(torchrun.read_reports(pattern))
        self.assertEqual([report["profile"] for report in reports], [profile] * RANKS,
                         "not all ranks had the overlay")
        self.assertRegex(done.text, trainers_test.STARTED)
        losses = [float.fromhex(loss) for loss in done.losses]
        self.assertTrue(all(map(math.isfinite, losses)), losses)
        self.assertLess(losses[-1], losses[0], "it does not learn")
        self.assertEqual(len(set(map(tuple, done.losses_by_rank))), 1, "ranks differ")
        self.assertEqual(len(done.losses_by_rank), RANKS)
        return done, reports

    @staticmethod
    def arguments(name):
        return ("--width", str(measure.WIDTH), *TRAINERS[name].arguments)

    def assert_as_asked(self, name, profile, reports):
        traffic = measure.traffic(reports)
        row = {"trainer": name, "profile": profile, "nodes": 2,
               "operations": rows.operations_of(traffic)}
        for op in rows.OPS:
            text, seen, passed = rows.op_gate(row, op, None if profile == "auto" else LEAST_SHARE[op])
            print(f"{profile} {name}: {text}: {seen}", file=sys.stderr)
            self.assertTrue(passed, f"{text}: {seen}")

    def assert_bytes_of_the_stand_in(self, name, done, reports):
        """What the stand-in sent is what it sends without the overlay, less what was saved."""
        exact = self.plain_run(TRAINERS[name].script, self.arguments(name))
        sent, would_send = (sum(map(int, SENT.findall(run.ranks[0]))) for run in (done, exact))
        rank_0 = [report for report in reports if report["communicators"][0]["rank"] == 0]
        audit = rank_0[0]["profile"] == "audit"
        saved = sum(one["exact_bytes"] - one["bytes"] for one in measure.traffic(rank_0).values())
        self.assertGreater(saved, 0)
        self.assertEqual(sent, would_send - (0 if audit else saved))

    def check(self, name, profile="zeropp"):
        done, reports = self.run_compressed(name, profile)
        reasons = collections.Counter()
        for report in reports:
            for by_reason in report["total"]["calls"].values():
                reasons.update(by_reason)
        self.assertIn("would be compressed" if profile == "audit" else "compressed", reasons)
        self.assert_as_asked(name, "zeropp", reports)
        self.assert_bytes_of_the_stand_in(name, done, reports)

    def test_audit_of_fsdp2(self):
        self.check("fsdp2", "audit")

    def test_zeropp_of_fsdp2(self):
        self.check("fsdp2")

    def test_zeropp_of_fsdp2_that_reduces_bf16(self):
        self.check("fsdp2-bf16")

    def test_zeropp_of_zero3(self):
        self.check("zero3")

    def test_zeropp_of_ddp(self):
        self.check("ddp")

    def check_auto(self, name, steps):
        """Exact until the first point of agreement where three samples of a kind of call are
        enough; after it compressed, as under zeropp."""
        _, reports = self.run_compressed(name, "auto", steps, torchrun.FAST)
        for report in reports:
            reasons = collections.Counter()
            for op in ("all_gather", "reduce_scatter"):
                reasons.update(report["total"]["calls"][op])
            self.assertEqual(reasons["no evidence"], AGREED - 1, reasons)
            self.assertGreater(reasons["compressed"], AGREED / 4)
            self.assertLessEqual(set(report["total"]["calls"]["reduce_scatter"]),
                                 {"no evidence", "under the floor", "compressed"})
        self.assert_as_asked(name, "auto", reports)

    def test_auto_of_fsdp2(self):
        self.check_auto("fsdp2", steps=32)

    def test_auto_of_zero3(self):
        self.check_auto("zero3", steps=44)

    def test_auto_of_ddp(self):
        _, reports = self.run_compressed("ddp", "auto", env=torchrun.FAST)
        self.assert_as_asked("ddp", "auto", reports)


if __name__ == "__main__":
    if "no-kernels" in sys.argv:
        print("SKIPPED: built without nvcc, so there are no kernels")
        sys.exit(77)
    sys.argv = [word for word in sys.argv if word != "kernels"]
    harness.main()
