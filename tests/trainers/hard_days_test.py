#!/usr/bin/python3
"""What goes wrong in a training run, under compression as without: a rank dies, a node lacks the
overlay, fp16 overflows, a gradient is not a number. Nothing hangs, nothing bad is hidden, and steps
are skipped where they would be."""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reported  # noqa: E402
import torchrun  # noqa: E402
import trainers_test  # noqa: E402

SUMS = 3  # reduce-scatters of an FSDP step: two blocks, and the rest of the model
LOSS = re.compile(r"^step \d+ loss (\S+)", re.M)
NORM = re.compile(r"^step \d+ norm (\S+)", re.M)
NAN = re.compile(r"^step (\d+) nan block (\d+) superblock (\d+): (\d+) of (\d+)$", re.M)
WARNING = re.compile(r"SLIMCCL WARN (.*)")
SCALE = re.compile(r"^(step \d+ scale .*)$", re.M)
COMPRESSES = "4 ranks on 2 node.*: profile zeropp: calls .* are compressed between nodes"
# torch's error with NCCL's in it, of the next call or by its watchdog, whatever was quicker; and
# what the overlay says if torchrun was.
LOST = r"NCCL error.*(?:\n.*){1,4}rank %d is lost"
ENDED = r"overlay: process \d+ ended by SIGTERM"


class Killed(reported.ReportedTest):
    """A process is killed in the middle of a backward pass."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        never = ["--steps", 1, "--what", "nan", "--to", 3, "--at", 1]
        cls.exact = cls.run_plain("mishap", "never", never)

    def assert_was_compressed(self, done):
        """Step 0, of weights gathered rounded; nobody who is killed or aborted leaves a report."""
        losses, norms = (self.assert_alike(self.lines(done, what)) for what in (LOSS, NORM))
        exact = [self.assert_alike(self.lines(self.exact, what)) for what in (LOSS, NORM)]
        self.assertNotEqual(losses[:1], exact[0])
        self.assertNotEqual(norms[:1], exact[1])

    def survivors(self, what, victim):
        """What the other ranks printed, by rank. None of them is left."""
        arguments = ["--steps", 3, "--what", what, "--to", victim, "--at", 1]
        with self.assertRaises(torchrun.Failed) as caught:
            self.run_reported("mishap", what, arguments, {"SLIMCCL_TIMEOUT_S": 10}, timeout=120,
                              stop_on_failure=False)
        done = caught.exception.run
        self.assertEqual(done.left, [], str(caught.exception))
        self.assertNotIn("still running", str(caught.exception))
        for rank, text in enumerate(done.ranks):
            self.assertEqual(len(LOSS.findall(text)), 1, f"rank {rank} was not in step 1: {text}")
            self.assertRegex(text, trainers_test.STARTED)
        self.assertRegex(done.ranks[0], COMPRESSES)
        self.assert_was_compressed(done)
        texts = dict(enumerate(done.ranks))
        del texts[victim]
        return texts

    def test_all_ranks_notice_by_themselves(self):
        """Rank 0, by which the others had met, and both torchruns, with the store of torch."""
        for rank, text in self.survivors("killed-alone", 0).items():
            self.assertRegex(text, LOST % 0, f"rank {rank}")

    def test_the_other_node_notices_and_torchrun_ends_the_rest(self):
        texts = self.survivors("killed", 3)
        self.assertRegex(texts[0] + texts[1], LOST % 3)
        for rank, text in texts.items():
            self.assertRegex(text, f"{LOST % 3}|{ENDED}", f"rank {rank}")


class WithoutPreload(reported.ReportedTest):
    arguments = ["--steps", 3, "--bf16"]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exact = cls.run_plain("fsdp2", "bare", cls.arguments)

    def run_bare(self, node, reason):
        """The warnings of each rank; all calls are exact for that reason."""
        done, reports = self.run_reported("fsdp2", f"bare{node}", self.arguments,
                                          {"SLIMCCL_AGREE_S": 3}, bare=(node,))
        self.assert_same_bits(self.exact, done)
        self.assertEqual([bool(trainers_test.STARTED.search(text)) for text in done.ranks],
                         [rank // 2 != node for rank in range(reported.RANKS)])
        self.assertEqual(len(reports), 2)
        for report in reports:
            self.assertEqual(report["total"]["compressed"], 0)
            for op, reasons in report["total"]["calls"].items():
                self.assertEqual(list(reasons), [reason], op)
        return self.lines(done, WARNING)

    def test_the_second_node_lacks_it(self):
        told, *others = self.run_bare(1, "the ranks have not agreed")
        self.assertEqual(others, [[], [], []])
        self.assertEqual(len(told), 1, told)
        self.assertRegex(told[0], r"ranks 2, 3 of 4 did not answer .*LD_PRELOAD")

    def test_the_first_node_lacks_it(self):
        """Where rank 0 is: it has made torch's unique id, and says nothing."""
        for rank, warnings in enumerate(self.run_bare(0, "unique id without a tag")):
            self.assertEqual(len(warnings), rank // 2, warnings)
            for warning in warnings:
                self.assertRegex(warning, "no tag of SlimCCL: is LD_PRELOAD set where it was made")


class Overflow(reported.ReportedTest):
    """fp16: in step 2 one rank's gradients overflow."""

    def check_overflow(self, by, sums):
        arguments = ["--steps", 5, "--by", by, "--at", 2]
        exact = self.run_plain("fp16", by, arguments)
        done, reports = self.run_reported("fp16", by, arguments)
        self.assert_compressed(reports, 5 * sums)
        steps = self.assert_alike(self.lines(exact, SCALE))
        self.assertEqual([step.split()[5:] for step in steps],
                         [["0", "finite", "1"]] * 2 + [["1", "finite", "0"]] +
                         [["0", "finite", "1"]] * 2)
        self.assertEqual(self.assert_alike(self.lines(done, SCALE)), steps)
        self.assertNotEqual(exact.losses, done.losses)

    def test_fsdp2_with_a_grad_scaler(self):
        self.check_overflow("fsdp2", SUMS)

    def test_zero3_with_its_loss_scaler(self):
        trainers_test.require("zero")
        self.check_overflow("zero3", 4)


class NotANumber(reported.ReportedTest):
    """In step 2 rank 3's gradient has a NaN in rank 0's slice, and one in its own."""

    def places(self, done):
        """By rank: {(step, block, superblock): elements of it that are NaN}."""
        found = []
        for text in done.ranks:
            lines = [tuple(map(int, line)) for line in NAN.findall(text)]
            found.append({line[:3]: line[3:] for line in lines})
        return found

    def test_it_arrives_everywhere_as_documented(self):
        arguments = ["--steps", 4, "--what", "nan", "--to", 3, "--at", 2]
        exact = self.run_plain("mishap", "nan", arguments)
        done, reports = self.run_reported("mishap", "nan", arguments)
        self.assert_compressed(reports, 4 * SUMS)
        for run in (exact, done):
            norms = self.assert_alike(self.lines(run, NORM))
            self.assertEqual([norm == "nan" for norm in norms], [False, False, True, False])
            losses = self.assert_alike(self.lines(run, LOSS))
            self.assertNotIn("nan", losses)
            self.assertNotIn("inf", losses)
        self.assertNotEqual(exact.losses, done.losses)
        one, all_of_it = (1, 2048), (2048, 2048)
        places = self.places(exact)
        self.assertEqual([list(of_rank.values()) for of_rank in places], [[one], [], [], [one]])
        # It came to rank 0 from the other node, in q4s; to rank 3 from itself, exact.
        (there,), (own,) = places[0], places[3]
        self.assertEqual(self.places(done), [{there: all_of_it}, {}, {}, {own: one}])


if __name__ == "__main__":
    reported.main()
