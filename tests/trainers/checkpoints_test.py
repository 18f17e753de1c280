#!/usr/bin/python3
"""FSDP2, FSDP1 and ZeRO-3 save what they have in the middle of a run, and go on. What a fresh
process loads goes on as if nothing had been; and what is saved under slimccl-run with compression,
whose hooks pause, is what the ranks hold, bit for bit."""
import filecmp
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reported  # noqa: E402
import torchrun  # noqa: E402
import trainers_test  # noqa: E402

STEPS, AT = 4, 2  # before step AT all is saved
LAUNCHER = os.path.join(torchrun.ROOT, "plugin", "python", "slimccl-run")
LOSS = re.compile(r"^(\w+ step \d+ loss .*)$", re.M)
DIGEST = re.compile(r"^(\w+) (saved|loaded) (weights|everything) (\w+)$", re.M)
# These hold random names, or in which order DeepSpeed's settings were made: what they hold of the
# model and its optimizer is in the digests.
NEVER_ALIKE = re.compile(r"^\.metadata$|_optim_states\.pt$")


class Checkpoints(reported.ReportedTest):
    @classmethod
    def setUpClass(cls):
        trainers_test.require("zero")
        super().setUpClass()
        base = os.path.join(torchrun.MADE, "checkpoints")
        shutil.rmtree(base, ignore_errors=True)
        cls.addClassCleanup(shutil.rmtree, base, ignore_errors=True)
        cls.folders = {name: os.path.join(base, name) for name in ("exact", "zeropp", "copy")}
        common = ["--steps", STEPS, "--at", AT]
        cls.exact = cls.run_plain("resume", "exact", [*common, "--save", cls.folders["exact"]])
        cls.zeropp, cls.reports = cls.run_launched([*common, "--save", cls.folders["zeropp"]])
        # A fresh process, without the overlay: first what the second saved, then the first.
        copy = f"{cls.folders['zeropp']}:{cls.folders['copy']}"
        cls.fresh = cls.run_plain("resume", "fresh", [
            *common, "--copy", copy, "--load", cls.folders["exact"]])

    @classmethod
    def run_launched(cls, arguments):
        """The run under slimccl-run, and its ranks' reports: nothing in the script pauses."""
        name = "resume-saved-launched"
        pattern = os.path.join(torchrun.MADE, "runs", name, "report-%h-%p.json")
        done = torchrun.run(
            "resume", [*reported.WIDE, *arguments], name, cluster=cls.cluster, env=torchrun.FAST,
            launcher=f"{sys.executable} {LAUNCHER} --preload {torchrun.PRELOAD} --profile zeropp "
                     f"--report {pattern}")
        return done, list(torchrun.read_reports(pattern))

    def losses(self, run, trainer):
        """Of all steps, by rank alike."""
        by_rank = self.lines(run, LOSS)
        return [line for line in self.assert_alike(by_rank) if line.startswith(trainer)]

    def digests(self, run, trainer, action, count):
        """Per rank [(what, digest)] of what was saved or loaded, in order."""
        by_rank = [[(found[2], found[3]) for found in DIGEST.findall(text)
                    if found[:2] == (trainer, action)] for text in run.ranks]
        for rank, digests in enumerate(by_rank):
            self.assertEqual([what for what, _ in digests], ["weights", "everything"] * count)
            others = by_rank[:rank] + by_rank[rank + 1:]
            self.assertNotIn(digests, others, "two ranks have the same shards")
        return by_rank

    def check(self, trainer):
        exact, zeropp = self.losses(self.exact, trainer), self.losses(self.zeropp, trainer)
        self.assertEqual(len(zeropp), STEPS)
        self.assertNotEqual(exact, zeropp)
        # The fresh process loads the second's, then the first's, and goes on.
        loaded = self.digests(self.fresh, trainer, "loaded", 2)
        saved = self.digests(self.zeropp, trainer, "saved", 1)
        self.assertEqual([digests[:2] for digests in loaded], saved)
        saved = self.digests(self.exact, trainer, "saved", 1)
        self.assertEqual([digests[2:] for digests in loaded], saved)
        self.assertEqual(self.losses(self.fresh, trainer), exact[AT:])
        self.check_files(trainer)

    def check_files(self, trainer):
        """Those of the second are those that a run without the overlay writes of that state."""
        folders = [os.path.join(self.folders[name], trainer) for name in ("zeropp", "copy")]
        names = [sorted(os.path.relpath(os.path.join(path, file), folder)
                        for path, _, files in os.walk(folder) for file in files)
                 for folder in folders]
        self.assertEqual(names[0], names[1])
        alike = [name for name in names[0] if not NEVER_ALIKE.search(os.path.basename(name))]
        self.assertIn("whole.pt", alike)
        _, differ, missing = filecmp.cmpfiles(*folders, alike, shallow=False)
        self.assertEqual([differ, missing], [[], []])

    def test_fsdp2(self):
        self.check("fsdp2")

    def test_fsdp1(self):
        self.check("fsdp1")

    def test_zero3(self):
        self.check("zero3")

    def test_training_was_compressed_and_saving_was_not(self):
        sums = STEPS * (3 + 3 + 4)  # reduce-scatters of a step: FSDP2, FSDP1, ZeRO-3
        self.assert_compressed(self.reports, sums)
        for report in self.reports:
            self.assertGreater(self.reasons(report, "all_gather")["paused"], 0)


if __name__ == "__main__":
    reported.main()
