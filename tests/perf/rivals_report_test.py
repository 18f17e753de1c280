#!/usr/bin/python3
"""The judge of ./dev bench rivals, on measurements made by hand: what passes, what is RED and why, and
what makes the whole judgement void."""
import contextlib
import copy
import io
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import harness  # noqa: E402
import rivals_report  # noqa: E402  (harness knows the way to tools/dev)

MIB = 1 << 20
NAMES = ("ours", "swift", "slow")
SECONDS = {"ours": 0.10, "swift": 0.15, "slow": 0.40}
COLLECTIVES, SIZES, ROUNDS = ("all_reduce", "all_gather"), (16 * MIB, 64 * MIB), 5


def measured():
    """A run in which we are ahead of both rivals."""
    cases = [(collective, size) for collective in COLLECTIVES for size in SIZES]
    return {
        "date": "today", "commit": "abc", "cpu": "made up", "cores": 2, "topology": "2x2", "rate": "1gbit",
        "type": "float32", "rounds": ROUNDS, "iterations": 3, "collectives": list(COLLECTIVES),
        "sizes": list(SIZES),
        "libraries": [{"name": name, "version": name + " 1.0", "failure": None, "idle_cpu": 0.0} for name in NAMES],
        "checks": [{"collective": collective, "bytes": size, "library": name, "wrong": 0}
                   for collective, size in cases for name in NAMES],
        "samples": [{"collective": collective, "bytes": size, "library": name, "round": number,
                     "seconds": [9.0, SECONDS[name], SECONDS[name]], "wire": [[size, 7], [2 * size, 7]]}
                    for collective, size in cases for number in range(ROUNDS) for name in NAMES]}


def of(entries, library, collective="all_gather", size=16 * MIB):
    return [entry for entry in entries
            if (entry["collective"], entry["bytes"], entry["library"]) == (collective, size, library)]


def judge(data):
    """Exit code and printed lines."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = rivals_report.report(data)
    return code, output.getvalue().splitlines()


class Judgement(unittest.TestCase):
    def check(self, data, red, words="", code=1):
        """Exactly these lines, (collective, size, rival), are RED, and say these words."""
        seen, lines = judge(data)
        verdicts = [line for line in lines if line.startswith(("PASS", "RED"))]
        self.assertEqual(len(verdicts), len(COLLECTIVES) * len(SIZES) * 2, "\n".join(lines))
        for line in verdicts:
            expected = any(line[8:].startswith(f"{collective}, {size // MIB} MiB: times as fast as {rival} > 1: ")
                           for collective, size, rival in red)
            self.assertEqual(line.startswith("RED "), expected, line)
            self.assertTrue(not expected or words in line, line)
        self.assertEqual(seen, code, "\n".join(lines))
        return verdicts

    def test_all_pass(self):
        verdicts = self.check(measured(), (), code=0)
        self.assertTrue(verdicts[0].startswith("PASS    all_reduce, 16 MiB: times as fast as swift > 1: 1.50"))

    def test_as_fast_as_a_rival_is_not_ahead(self):
        data = measured()
        for sample in of(data["samples"], "swift"):
            sample["seconds"] = [0.1, 0.1, 0.1]
        self.check(data, [("all_gather", 16 * MIB, "swift")], "1: 1.00 (rounds 1.00 to 1.00)")

    def test_one_bad_round_does_not_decide(self):
        for name, seconds in (("ours", 90.0), ("swift", 0.001)):
            data = measured()
            of(data["samples"], name)[0]["seconds"] = [seconds] * 3
            self.check(data, (), code=0)

    def test_ratios_are_of_paired_rounds(self):
        data = measured()
        # The medians, 4 and 3, would say RED; in most rounds we are ahead.
        for sample, ours in zip(of(data["samples"], "ours"), (1.0, 2.0, 4.0, 5.0, 6.0)):
            sample["seconds"] = [ours]
        for sample, theirs in zip(of(data["samples"], "swift"), (2.0, 3.0, 6.0, 1.0, 3.0)):
            sample["seconds"] = [theirs]
        for sample in of(data["samples"], "slow"):
            sample["seconds"] = [99.0]
        verdicts = self.check(data, (), code=0)
        self.assertTrue(any(line.endswith("swift > 1: 1.50 (rounds 0.20 to 2.00)") for line in verdicts), verdicts)

    def test_a_rival_that_is_not_there_is_red_with_its_reason(self):
        data = measured()
        data["libraries"][2]["failure"] = "pip could not fetch it"
        for part in ("samples", "checks"):
            data[part] = [entry for entry in data[part] if entry["library"] != "slow"]
        everywhere = [(collective, size, "slow") for collective in COLLECTIVES for size in SIZES]
        self.check(data, everywhere, "slow: pip could not fetch it")

    def test_what_a_rival_did_before_it_failed_counts(self):
        data = measured()
        data["libraries"][1]["failure"] = "a rank ended"
        late = of(data["samples"], "swift", "all_gather", 64 * MIB)[3:]
        data["samples"] = [sample for sample in data["samples"] if sample not in late]
        self.check(data, [("all_gather", 64 * MIB, "swift")], "a rank ended")

    def test_without_ours_all_is_red(self):
        data = measured()
        data["libraries"][0]["failure"] = "no route"
        data["samples"] = [entry for entry in data["samples"] if entry["library"] != "ours"]
        every = [(collective, size, rival) for collective in COLLECTIVES for size in SIZES for rival in NAMES[1:]]
        self.check(data, every, "ours: no route")

    def test_wrong_results_are_red(self):
        data = measured()
        of(data["checks"], "swift")[0]["wrong"] = 3
        self.check(data, [("all_gather", 16 * MIB, "swift")], "3 elements of its result are wrong")
        data = measured()
        of(data["checks"], "ours")[0]["wrong"] = 3
        self.check(data, [("all_gather", 16 * MIB, rival) for rival in NAMES[1:]], "ours: 3 elements")

    def test_unchecked_results_and_missing_rounds_are_red(self):
        data = measured()
        data["checks"].remove(of(data["checks"], "slow")[0])
        self.check(data, [("all_gather", 16 * MIB, "slow")], "was not checked")
        data = measured()
        data["samples"].remove(of(data["samples"], "slow")[0])
        self.check(data, [("all_gather", 16 * MIB, "slow")], "only 4 of 5 rounds")

    def test_an_idle_library_that_uses_a_core_voids_the_judgement(self):
        data = measured()
        data["libraries"][1]["idle_cpu"] = 0.4
        code, lines = judge(data)
        self.assertEqual(code, 2)
        self.assertTrue(lines[-1].startswith("BROKEN  swift used 0.40 of a core"), lines[-1])

    def test_the_summary_has_medians_ratios_and_the_busiest_nodes_bytes(self):
        rows = rivals_report.summary(rivals_report.Results(measured()))
        self.assertEqual(len(rows), len(COLLECTIVES) * len(SIZES) * len(NAMES))
        row = of(rows, "slow")[0]
        self.assertEqual((row["median_seconds"], row["wire_bytes_per_node"]), (0.4, 32 * MIB))
        self.assertAlmostEqual(row["ratio_to_ours"], 4.0)
        self.assertIsNone(of(rows, "ours")[0]["ratio_to_ours"])

    def test_nothing_measured_is_no_pass(self):
        data = copy.deepcopy(measured())
        data["sizes"] = []
        self.assertEqual(judge(data)[0], 1)

    def test_an_unusable_file_is_said_to_be(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"rounds": 5}')
            file.flush()
            result = subprocess.run([sys.executable, rivals_report.__file__, file.name], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(result.returncode, 2)
        self.assertIn("is not the output of ./dev bench rivals", result.stderr)


if __name__ == "__main__":
    harness.main()
