#!/usr/bin/python3
"""The judge of the codec benchmark, on measurements made by hand: what passes, what is RED, what is
SKIPPED, and what makes the whole judgement void."""
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
import codec_report  # noqa: E402  (harness knows the way to tools/dev)

MIB = 1 << 20
# Seconds of one call on 1 MiB of tensor. The slower rows and ceilings must not count.
KERNEL = {"row_scalar": 9.0, "row_avx512": 1.0, "ceiling_plain": 0.97, "ceiling_streaming": 2.0,
          "memcpy": 1.1, "fp32": 0.9, "tensor_bytes": MIB, "moved_bytes": 2 * MIB, "written_bytes": MIB}
PEERS = {"row_avx512": 1.0, "peer ggml q8_0": 2.0, "peer FBGEMM 8-bit, rows of 64": 3.0,
         "peer FBGEMM 8-bit, rows of 128": 1.5, "coarse FBGEMM 8-bit, rows of 2048": 0.5,
         "tensor_bytes": MIB, "moved_bytes": 2 * MIB, "written_bytes": MIB}
NAMES = [f"{place}/{operation}/q8/{number}/1" for place in ("in_cache", "out_of_cache")
         for operation in ("encode", "decode") for number in ("fp32", "bf16", "fp16")]
# A benchmark's name ends in what Google Benchmark adds.
TAIL = "/iterations:1/repeats:3/manual_time"


def measured():
    """A run that passes every gate."""
    entries = []
    for name in NAMES + ["peers/encode/q8/fp32/1"]:
        for _ in range(3):
            values = PEERS if name.startswith("peers") else KERNEL
            entries.append({"name": name + TAIL, "run_type": "iteration", **values})
        entries.append({"name": name + TAIL + "_mean", "run_type": "aggregate", "row_avx512": 99.0})
    context = {"rows": "scalar avx512", "core": "0", "huge_pages": "yes", "in_cache_elems": "32768",
               "out_of_cache_elems": "4194304", "out_of_cache_bytes": str(1024 * MIB), "missing_peers": ""}
    return {"context": context, "benchmarks": entries}


def change(data, start, **values):
    """The same values in every round of the benchmarks whose names start so."""
    changed = copy.deepcopy(data)
    for entry in changed["benchmarks"]:
        if entry["name"].startswith(start) and entry["run_type"] == "iteration":
            entry.update(values)
    return changed


def judge(data):
    """Exit code and printed lines."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = codec_report.report(data)
    return code, output.getvalue().splitlines()


class Judgement(unittest.TestCase):
    def check(self, data, code, status, words):
        """One gate has this status, all others pass unless `code` is that of broken ceilings."""
        seen, lines = judge(data)
        gates = [line for line in lines if line.split(" ")[0] in ("PASS", "RED", "SKIPPED")]
        chosen = [line for line in gates if words in line]
        self.assertEqual(len(chosen), 1, "\n".join(lines))
        self.assertTrue(chosen[0].startswith(status + " "), chosen[0])
        self.assertEqual(len(gates), 10, "\n".join(lines))
        for line in gates:
            self.assertTrue(line in chosen or line.startswith("PASS"), line)
        self.assertEqual(seen, code, "\n".join(lines))
        return chosen[0]

    def test_all_pass(self):
        line = self.check(measured(), 0, "PASS", "out of cache, fp32: encode")
        self.assertTrue(line.endswith(">= 0.75: q8 0.97"), line)

    def test_each_gate_turns_red(self):
        for start, values, words in (
                ("out_of_cache/encode/q8/fp32", {"ceiling_plain": 0.74}, "out of cache, fp32: encode"),
                ("out_of_cache/decode/q8/fp32", {"ceiling_streaming": 0.94}, "out of cache, fp32: decode"),
                ("in_cache/encode/q8/fp32", {"row_avx512": 3.4}, "in cache, fp32, avx512: encode"),
                ("in_cache/decode/q8/fp32", {"memcpy": 0.99}, "in cache, fp32, avx512: decode"),
                ("in_cache/encode/q8/bf16", {"fp32": 0.59}, "in cache: encode of 16-bit"),
                ("in_cache/decode/q8/bf16", {"fp32": 0.29}, "in cache: decode of 16-bit"),
                ("out_of_cache/encode/q8/bf16", {"fp32": 0.59}, "out of cache: encode of 16-bit"),
                ("out_of_cache/decode/q8/bf16", {"fp32": 0.59}, "out of cache: decode of 16-bit"),
                ("peers/", {"peer ggml q8_0": 1.0}, "ggml"),
                ("peers/", {"peer FBGEMM 8-bit, rows of 128": 0.99}, "FBGEMM")):
            with self.subTest(words):
                self.check(change(measured(), start, **values), 1, "RED", words)

    def test_one_bad_round_does_not_decide(self):
        data = measured()
        first = next(entry for entry in data["benchmarks"] if entry["name"].startswith("out_of_cache/encode"))
        first["row_avx512"] = 50.0
        self.check(data, 0, "PASS", "out of cache, fp32: encode")

    def test_the_median_is_of_paired_rounds(self):
        data = measured()
        rounds = [entry for entry in data["benchmarks"] if entry["name"].startswith("out_of_cache/encode/q8/fp32")]
        for entry, row, ceiling in zip(rounds, (1.0, 2.0, 4.0), (0.9, 1.2, 3.6)):
            entry.update({"row_avx512": row, "ceiling_plain": ceiling, "ceiling_streaming": 9.0, "memcpy": ceiling})
        line = self.check(data, 0, "PASS", "out of cache, fp32: encode")
        self.assertTrue(line.endswith("q8 0.90"), line)

    def test_without_avx512_its_gates_are_skipped(self):
        data = measured()
        data["context"]["rows"] = "scalar avx2"
        for entry in data["benchmarks"]:
            if "row_avx512" in entry:
                entry["row_avx2"] = entry.pop("row_avx512")
        code, lines = judge(data)
        skipped = [line for line in lines if line.startswith("SKIPPED")]
        self.assertEqual(code, 0)
        self.assertEqual(len(skipped), 2, skipped)
        self.assertTrue(all("no avx512 row" in line for line in skipped), skipped)

    def test_a_missing_peer_is_skipped_with_its_reason(self):
        data = measured()
        data["context"]["missing_peers"] = "FBGEMM: no AVX2; ggml: no network; "
        for entry in data["benchmarks"]:
            entry.pop("peer ggml q8_0", None)
        line = self.check(data, 0, "SKIPPED", "as ggml")
        self.assertTrue(line.endswith("> 1: ggml: no network"), line)

    def test_slow_ceilings_void_the_judgement(self):
        for start in ("out_of_cache/encode/q8/fp32", "in_cache/decode/q8/bf16"):
            code, lines = judge(change(measured(), start, ceiling_plain=1.4, ceiling_streaming=1.5))
            broken = [line for line in lines if line.startswith("BROKEN")]
            self.assertEqual(code, 2)
            self.assertEqual(len(broken), 1, broken)

    def test_in_cache_a_ceiling_may_be_held_to_the_bytes_it_writes(self):
        mostly_writes = {"moved_bytes": 1.25 * MIB, "ceiling_plain": 1.0}
        self.assertEqual(judge(change(measured(), "in_cache/decode", **mostly_writes))[0], 0)
        self.assertEqual(judge(change(measured(), "out_of_cache/decode", **mostly_writes))[0], 2)

    def test_an_unusable_file_is_said_to_be(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"context": {}, "benchmarks": []}')
            file.flush()
            result = subprocess.run([sys.executable, codec_report.__file__, file.name], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(result.returncode, 2)
        self.assertIn("is not codec_bench's output", result.stderr)


if __name__ == "__main__":
    harness.main()
