#!/usr/bin/python3
"""Real trainers, unmodified, whose calls between two pretend nodes the overlay compresses: nearly
all gradients cross compressed, in as few bytes as promised, and training goes on: the loss falls,
and all ranks know the same one. The bytes that the vendor's stand-in says it sent must agree."""
import collections
import glob
import json
import math
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import trainers_test  # noqa: E402

harness, torchrun = trainers_test.harness, trainers_test.torchrun

WIDTH = 256  # so that a block's shard of the model is over the floor of 65536 elements
RANKS = 4
# So many times fewer bytes between nodes than the exact two-level scheme sends; in bits a number
# 16 or 32 beside 8.25 (q8) and 4.27 (q4s).
WEIGHTS_BF16, GRADIENTS_FP32, GRADIENTS_BF16 = 1.9, 7.0, 3.6
AGREED = 128  # the call from which on what was seen counts
SENT = re.compile(r"NOTICE rank 0: .* (\d+) bytes sent to other nodes")


class Compressed(trainers_test.TrainerTest):
    steps = 8

    def run_compressed(self, trainer, profile, arguments=(), steps=None):
        """The run, and its ranks' reports."""
        name = "-".join([trainer, profile, *arguments]).replace("--", "")
        for old in glob.glob(os.path.join(torchrun.MADE, f"report-{name}-*.json")):
            os.remove(old)
        pattern = os.path.join(torchrun.MADE, f"report-{name}-%p.json")
        done = self.run_trainer(trainer, profile, ("--width", str(WIDTH), *arguments),
                                torchrun.PRELOAD, steps=steps,
                                env={"SLIMCCL_PROFILE": profile, "SLIMCCL_REPORT": pattern,
                                     "VENDOR_SLIMCCL_LOG": "notice"})
        reports = []
        for path in glob.glob(pattern.replace("%p", "*")):
            with open(path, encoding="utf-8") as file:
                reports.append(json.load(file))
        self.assertEqual([report["profile"] for report in reports], [profile] * RANKS,
                         "not all ranks had the overlay")
        self.assertRegex(done.text, trainers_test.STARTED)
        losses = [float.fromhex(loss) for loss in done.losses]
        self.assertTrue(all(map(math.isfinite, losses)), losses)
        self.assertLess(losses[-1], losses[0], "it does not learn")
        self.assertEqual(len(set(map(tuple, done.losses_by_rank))), 1, "ranks differ")
        self.assertEqual(len(done.losses_by_rank), RANKS)
        return done, reports

    def total(self, reports, *fields):
        """Of all ranks; 0 where a report has no such field."""
        numbers = []
        for number in (report["total"] for report in reports):
            for field in fields:
                number = number.get(field, {})
            numbers.append(number or 0)
        return sum(numbers)

    def share(self, reports, op):
        """Of all elements that calls of this kind carried: those that crossed compressed."""
        elems = self.total(reports, "between_nodes", op, "elements")
        return elems / self.total(reports, "elements", op)

    def saving(self, reports, op):
        exact = self.total(reports, "between_nodes", op, "exact_bytes")
        return exact / max(1, self.total(reports, "between_nodes", op, "compressed_bytes"))

    def assert_savings(self, reports, weights, gradients):
        self.assertGreaterEqual(self.share(reports, "reduce_scatter"), 0.95)
        self.assertGreaterEqual(self.saving(reports, "reduce_scatter"), gradients)
        self.assertGreaterEqual(self.saving(reports, "all_gather"), weights)
        # ZeRO-3 gathers parameters one by one in its first step, many under the floor.
        self.assertGreater(self.share(reports, "all_gather"), 0.8)

    def assert_bytes_of_the_stand_in(self, profile, trainer, arguments, done, reports):
        """What the stand-in sent is what it sends without the overlay, less what was saved."""
        exact = self.plain_run(trainer, ("--width", str(WIDTH), *arguments))
        sent, would_send = (sum(map(int, SENT.findall(run.ranks[0]))) for run in (done, exact))
        rank_0 = [report for report in reports if report["communicators"][0]["rank"] == 0]
        saved = self.total(rank_0, "between_nodes", "exact_bytes")
        saved -= self.total(rank_0, "between_nodes", "compressed_bytes")
        self.assertEqual(sent, would_send - (0 if profile == "audit" else saved))

    def check_trainer(self, profile, trainer, arguments, weights, gradients):
        done, reports = self.run_compressed(trainer, profile, arguments)
        reasons = collections.Counter()
        for report in reports:
            for by_reason in report["total"]["calls"].values():
                reasons.update(by_reason)
        self.assertIn("would be compressed" if profile == "audit" else "compressed", reasons)
        print(f"{profile} {trainer} {' '.join(arguments)}: "
              f"gradients {self.saving(reports, 'reduce_scatter'):.2f}x of "
              f"{self.share(reports, 'reduce_scatter'):.1%}, weights "
              f"{self.saving(reports, 'all_gather'):.2f}x of {self.share(reports, 'all_gather'):.1%}",
              file=sys.stderr)
        self.assert_savings(reports, weights, gradients)
        self.assert_bytes_of_the_stand_in(profile, trainer, arguments, done, reports)

    def test_audit_of_fsdp2(self):
        self.check_trainer("audit", "fsdp2", ("--bf16",), WEIGHTS_BF16, GRADIENTS_FP32)

    def test_zeropp_of_fsdp2(self):
        self.check_trainer("zeropp", "fsdp2", ("--bf16",), WEIGHTS_BF16, GRADIENTS_FP32)

    def test_zeropp_of_fsdp2_that_reduces_bf16(self):
        self.check_trainer("zeropp", "fsdp2", ("--bf16", "--reduce", "bf16"), WEIGHTS_BF16,
                           GRADIENTS_BF16)

    def test_zeropp_of_zero3(self):
        self.check_trainer("zeropp", "zero", ("--bf16",), WEIGHTS_BF16, GRADIENTS_BF16)

    def check_auto(self, trainer, arguments, steps):
        """Exact until the ranks have agreed on what they saw, at call 128 of those that are large
        enough; after it compressed, as under zeropp."""
        _, reports = self.run_compressed(trainer, "auto", arguments, steps)
        for report in reports:
            reasons = collections.Counter()
            for op in ("all_gather", "reduce_scatter"):
                reasons.update(report["total"]["calls"][op])
            self.assertEqual(reasons["no evidence"], AGREED - 1, reasons)
            self.assertGreater(reasons["compressed"], AGREED / 4)
            self.assertLessEqual(set(report["total"]["calls"]["reduce_scatter"]),
                                 {"no evidence", "under the floor", "compressed"})
        return reports

    def test_auto_of_fsdp2(self):
        reports = self.check_auto("fsdp2", ("--bf16",), steps=32)
        self.assertGreaterEqual(self.saving(reports, "reduce_scatter"), GRADIENTS_FP32)
        self.assertGreaterEqual(self.saving(reports, "all_gather"), WEIGHTS_BF16)

    def test_auto_of_zero3(self):
        reports = self.check_auto("zero", ("--bf16",), steps=44)
        self.assertGreaterEqual(self.saving(reports, "reduce_scatter"), GRADIENTS_BF16)
        self.assertGreaterEqual(self.saving(reports, "all_gather"), WEIGHTS_BF16)


if __name__ == "__main__":
    if "no-kernels" in sys.argv:
        print("SKIPPED: built without nvcc, so there are no kernels")
        sys.exit(77)
    sys.argv = [word for word in sys.argv if word != "kernels"]
    harness.main()
