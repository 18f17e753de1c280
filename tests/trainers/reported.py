"""Runs of trainers under the overlay, with what its reports (SLIMCCL_REPORT) say of them."""
import collections
import os
import sys
import unittest

import trainers_test
import torchrun

RANKS = 4
WIDE = ("--width", 256)  # a block's shard of the model is over the floor of 65536 elements


class ReportedTest(trainers_test.TrainerTest):
    @classmethod
    def setUpClass(cls):
        if not os.path.exists(torchrun.PRELOAD):
            raise unittest.SkipTest(f"no overlay to preload: {torchrun.PRELOAD} is not built")
        super().setUpClass()

    @classmethod
    def run_plain(cls, script, name, arguments, **more):
        return torchrun.run(script, [*WIDE, *arguments], f"{script}-{name}-plain",
                            cluster=cls.cluster, env=torchrun.FAST, **more)

    @classmethod
    def run_reported(cls, script, name, arguments, env=None, **more):
        """Under zeropp. The run, and its ranks' reports: of those that the overlay served."""
        name = f"{script}-{name}-zeropp"
        pattern = os.path.join(torchrun.MADE, "runs", name, "report-%h-%p.json")
        done = torchrun.run(script, [*WIDE, *arguments], name, cluster=cls.cluster,
                            preload=torchrun.PRELOAD,
                            env={**torchrun.FAST, "SLIMCCL_PROFILE": "zeropp", "SLIMCCL_REPORT": pattern,
                                 **(env or {})}, **more)
        return done, list(torchrun.read_reports(pattern))

    def reasons(self, report, *ops):
        """How many of the process's calls went which way."""
        counted = collections.Counter()
        for op in ops:
            counted.update(report["total"]["calls"].get(op, {}))
        return counted

    def assert_compressed(self, reports, sums):
        """On every rank each sum of gradients was compressed, `sums` of them, and weights were."""
        self.assertEqual([report["profile"] for report in reports], ["zeropp"] * RANKS,
                         "not all ranks had the overlay")
        for report in reports:
            self.assertEqual(self.reasons(report, "reduce_scatter"), {"compressed": sums})
            self.assertGreater(self.reasons(report, "all_gather")["compressed"], 0)

    def lines(self, done, pattern):
        """What each rank printed of it: of a pattern with one group."""
        return [pattern.findall(text) for text in done.ranks]

    def assert_alike(self, by_rank):
        """All ranks printed the same, and something; what it was."""
        self.assertEqual(by_rank, [by_rank[0]] * RANKS)
        self.assertTrue(by_rank[0])
        return by_rank[0]


def main():
    if "no-kernels" in sys.argv:
        print("SKIPPED: built without nvcc, so there are no kernels")
        sys.exit(77)
    sys.argv = [word for word in sys.argv if word != "kernels"]
    trainers_test.harness.main()
