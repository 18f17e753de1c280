#!/usr/bin/python3
"""Ranks whose NCCL (our own library under that name, over host memory) has the overlay before it:
their results are the same bits as without, every call is counted, and whatever keeps the ranks from
agreeing makes the communicator exact, with one warning, and never fails or hangs it."""
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cluster"))
import harness  # noqa: E402
import launch  # noqa: E402

PRELOAD = os.path.join(harness.BUILD, "plugin", "preload")
CORE = os.path.join(PRELOAD, "core", "libslimccl-core.so")
OTHER_CORE = os.path.join(PRELOAD, "core", "libslimccl-core-of-another-version.so")
HERE = os.path.join(harness.BUILD, "tests", "overlay", "core")
CLIENT = os.environ.get("OVERLAY_CLIENT", os.path.join(HERE, "overlay_client"))
STANDIN = os.environ.get("OVERLAY_STANDIN", HERE)
LIVE = re.compile(r"NOTICE overlay \S+ over NCCL 2\.28\.9 \(\S*libnccl\.so\.2\S*\): profile (\w+), "
                  r"every call is forwarded")


class Ranks(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.runs = 0

    def installed(self, core=CORE):
        """A preloaded file with that core beside it, or none."""
        folder = tempfile.mkdtemp(dir=self.folder)
        shutil.copy(os.path.join(PRELOAD, "libslimccl-preload.so"), folder)
        if core:
            shutil.copy(core, os.path.join(folder, "libslimccl-core.so"))
        return os.path.join(folder, "libslimccl-preload.so")

    def start(self, mode, nodes="2x2", preload=None, env=None, of_rank=None):
        """`of_rank`: {rank: more variables}; LD_PRELOAD there overrides `preload` for it."""
        self.runs += 1
        common = {"LD_LIBRARY_PATH": STANDIN, "SLIMCCL_AGREE_S": 20, "SLIMCCL_TIMEOUT_S": 60,
                  "ID_FILE": os.path.join(self.folder, f"id{self.runs}"), "SLIMCCL_LOG": "notice",
                  **({"LD_PRELOAD": preload} if preload else {}), **(env or {})}
        words = [f"{key}={value}" for key, value in common.items()]
        cases = "".join(f"{rank}) exec env {' '.join(f'{k}={v}' for k, v in more.items())} \"$@\";; "
                        for rank, more in (of_rank or {}).items())
        command = ["/bin/bash", "-c", f'case $RANK in {cases} *) exec "$@";; esac', "bash"]
        command = ["env", *words, *command, CLIENT, mode]
        return launch.start(command, nodes)

    def run_ranks(self, mode, *args, stop_on_failure=True, timeout=120, **options):
        ranks = self.start(mode, *args, **options)
        complaints = launch.finish(ranks, timeout, stop_on_failure=stop_on_failure)
        self.assertEqual(complaints, [], "\n".join(rank.text for rank in ranks))
        return ranks

    def sums(self, ranks):
        return [re.search(r"^SUM (\d+ \w+)$", rank.text, re.M)[1] for rank in ranks]

    def assert_live(self, rank, calls, profile="exact"):
        live = LIVE.findall(rank.text)
        self.assertEqual(live, [profile], rank.text)
        # Not always the last line: the real library may have the last word.
        told = [line for line in rank.text.splitlines() if " forwarded " in line]
        self.assertIn(f"forwarded {calls} calls", told[-1] if told else rank.text)

    def warnings(self, ranks):
        return [line for rank in ranks for line in rank.text.splitlines() if "WARN overlay" in line]

    def same_as_without(self, mode, calls, nodes="2x2", **options):
        plain = self.run_ranks(mode, nodes)
        ranks = self.run_ranks(mode, nodes, preload=self.installed(), **options)
        self.assertEqual(self.sums(ranks), self.sums(plain))
        for rank in plain:
            self.assertNotIn("overlay", rank.text)
        for rank, count in zip(ranks, calls):
            self.assert_live(rank, count)
        self.assertEqual(self.warnings(ranks), [])
        return ranks

    def assert_exact_with_one_warning(self, ranks, text, silent=()):
        found = self.warnings(ranks)
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], text)
        self.assertIn("this communicator is exact", found[0])
        for rank in ranks:
            if rank.rank not in silent:
                self.assert_live(rank, 12)

    def test_every_call_is_forwarded_with_the_same_bits(self):
        ranks = self.same_as_without("basic", [12] * 4)
        self.assertIn("overlay: world: 4 ranks on 2 node(s) (2x2): profile exact", ranks[0].text)

    def test_under_slimccl_run_without_its_hooks_each_process_warns(self):
        run = {"SLIMCCL_RUN": "on,profile=zeropp"}
        found = self.warnings(self.run_ranks("basic", preload=self.installed(), env=run))
        self.assertEqual(len(found), 4, found)
        for line in found:
            self.assertRegex(line, "asked for profile zeropp, and its hooks are not in this process")
        with_hooks = self.run_ranks("basic", preload=self.installed(),
                                    env={**run, "SLIMCCL_PROFILE": "audit"})
        self.assertEqual(self.warnings(with_hooks), [])

    def test_audit_says_what_would_be_saved(self):
        report = os.path.join(self.folder, "report-%p.json")
        plain = self.run_ranks("basic")
        ranks = self.run_ranks("basic", preload=self.installed(),
                               env={"SLIMCCL_PROFILE": "audit", "SLIMCCL_FLOOR": 1000, "SLIMCCL_NET_GBITS": 0.1,
                                    "SLIMCCL_REPORT": report})
        self.assertEqual(self.sums(ranks), self.sums(plain))
        self.assertIn("would be compressed between nodes; assumes 0.1 Gbit/s between nodes (SLIMCCL_NET_GBITS)",
                      ranks[0].text)
        for rank in ranks:
            self.assert_live(rank, 12, "audit")
            with open(report.replace("%p", str(rank.process.pid))) as file:
                total = json.load(file)["total"]
            self.assertEqual(total["forwarded"], 12)
            self.assertEqual(total["calls"]["all_reduce"],
                             {"would be compressed": 1, "type": 1, "under the floor": 1})
            self.assertEqual(total["calls"]["all_gather"], {"would be compressed": 2})
            self.assertEqual(total["calls"]["send"], {"point to point": 1})
            across = total["between_nodes"]
            # 2x2: an all-reduce's two slices of partial sums and one result, a slice and so on.
            self.assertEqual(across["exact_bytes"], 4 * (2 * 32768 + 131072 + 131072 + 1000))
            self.assertLess(across["compressed_bytes"] * 3, across["exact_bytes"])
            self.assertEqual({op: (across[op]["elements"], across[op]["exact_bytes"])
                              for op in ("all_reduce", "reduce_scatter", "all_gather")},
                             {"all_reduce": (1 << 17, 8 * 32768), "reduce_scatter": (1 << 17, 4 << 17),
                              "all_gather": ((1 << 17) + 1000, 4 * 132072)})
            self.assertEqual(across["compressed_bytes"], sum(one["compressed_bytes"] for one in across.values()
                                                             if isinstance(one, dict)))

    def traced(self, rank, pattern):
        with open(pattern.replace("%p", str(rank.process.pid))) as file:
            return [json.loads(line) for line in file]

    def test_a_trace_has_every_call(self):
        trace = os.path.join(self.folder, "trace-%p.jsonl")
        for rank in self.same_as_without("basic", [12] * 4, env={"SLIMCCL_TRACE": trace}):
            calls = self.traced(rank, trace)
            self.assertEqual([call["op"] for call in calls],
                             ["all_reduce"] * 3 + ["reduce_scatter", "all_gather", "broadcast", "broadcast", "reduce",
                              "all_to_all", "send", "recv", "all_gather"])
            self.assertEqual(calls[0], {"comm": 1, "name": "world", "rank": rank.rank, "ranks": 4, "nodes": "2x2",
                                        "op": "all_reduce", "count": 1 << 17, "type": "fp32", "reduction": "avg",
                                        "in_place": False, "stream": 0, "depth": 0})
            self.assertEqual([call["in_place"] for call in calls], [index == 6 for index in range(12)])
            self.assertEqual([call["depth"] for call in calls], [int(index > 8) for index in range(12)])
            self.assertEqual((calls[2]["type"], calls[2]["reduction"], calls[6]["root"]), ("int32", "max", 3))

    def test_a_trace_numbers_communicators(self):
        trace = os.path.join(self.folder, "trace-%p.jsonl")
        for rank in self.same_as_without("two_ranks", [2] * 4, env={"SLIMCCL_TRACE": trace}):
            calls = self.traced(rank, trace)
            self.assertEqual(sorted((call["rank"], call["ranks"]) for call in calls),
                             [(2 * rank.rank, 8), (2 * rank.rank + 1, 8)])
            self.assertEqual(sorted(call["comm"] for call in calls), [1, 2])
            self.assertEqual([(call["in_place"], call["depth"]) for call in calls], [(True, 1)] * 2)

    def test_a_trace_that_cannot_be_written_only_warns(self):
        ranks = self.run_ranks("basic", preload=self.installed(), env={"SLIMCCL_TRACE": "/nowhere/at/all"})
        self.assertEqual(self.sums(ranks), self.sums(self.run_ranks("basic")))
        self.assertEqual(len(self.warnings(ranks)), 4)
        for line in self.warnings(ranks):
            self.assertIn("the trace SLIMCCL_TRACE ends: cannot open /nowhere/at/all: No such file", line)

    def test_a_rule_decides_what_it_names(self):
        report = os.path.join(self.folder, "report-%p.json")
        ranks = self.run_ranks("basic", preload=self.installed(),
                               env={"SLIMCCL_PROFILE": "audit", "SLIMCCL_FLOOR": 1000, "SLIMCCL_NET_GBITS": 0.1,
                                    "SLIMCCL_RULES": "w*:all_gather=exact", "SLIMCCL_REPORT": report})
        with open(report.replace("%p", str(ranks[0].process.pid))) as file:
            calls = json.load(file)["total"]["calls"]
        self.assertEqual(calls["all_gather"], {"rule": 2})
        self.assertIn("would be compressed", calls["all_reduce"])

    def test_rules_that_cannot_be_used_are_told_and_harm_nobody(self):
        plain = self.run_ranks("basic")
        ranks = self.run_ranks("basic", preload=self.installed(), env={"SLIMCCL_RULES": "w*=lossy"})
        self.assertEqual(self.sums(ranks), self.sums(plain))
        for rank in ranks:
            self.assertRegex(rank.text, 'WARN .*rule "w\\*=lossy": .*expected exact, weights or gradients')

    def test_a_node_without_the_preload(self):
        plain = self.run_ranks("basic")
        away = {"LD_PRELOAD": ""}
        ranks = self.run_ranks("basic", preload=self.installed(), of_rank={2: away, 3: away},
                               env={"SLIMCCL_AGREE_S": 3})
        self.assertEqual(self.sums(ranks), self.sums(plain))
        self.assert_exact_with_one_warning(
            ranks, r"ranks 2, 3 of 4 did not answer within 3 s: is LD_PRELOAD set there\?", (2, 3))

    def test_a_node_without_the_core(self):
        away = {"LD_PRELOAD": self.installed(core=None)}
        ranks = self.run_ranks("basic", preload=self.installed(), of_rank={2: away, 3: away},
                               env={"SLIMCCL_AGREE_S": 3})
        self.assert_exact_with_one_warning(ranks, r"ranks 2, 3 of 4 did not answer within 3 s", (2, 3))

    def test_a_rank_of_another_version(self):
        other = {"LD_PRELOAD": self.installed(OTHER_CORE)}
        ranks = self.run_ranks("basic", preload=self.installed(), of_rank={3: other})
        self.assert_exact_with_one_warning(ranks, r"different versions of SlimCCL: ranks 0-2: \S+; rank 3: 0\.0\.9")

    def test_a_rank_with_other_settings(self):
        ranks = self.run_ranks("basic", preload=self.installed(), of_rank={1: {"SLIMCCL_FLOOR": 5}})
        self.assert_exact_with_one_warning(ranks, r"ranks 0, 2, 3: profile=exact floor=65536 .*; rank 1: .*floor=5")

    def test_no_tag_is_exact_at_once(self):
        ranks = self.run_ranks("basic", preload=self.installed(), env={"SLIMCCL_ID_TAG": 0})
        self.assertEqual(self.warnings(ranks), [])
        self.assertIn("SLIMCCL_ID_TAG is off", ranks[0].text)

    def test_split_with_a_rank_in_no_part(self):
        ranks = self.same_as_without("split", [36, 36, 36, 12])
        self.assertIn("overlay: 2 ranks on 2 node(s) (2x1): profile exact", ranks[2].text)

    def test_shrink_after_a_rank_was_killed(self):
        ranks = self.run_ranks_but_last("shrink")
        for rank in ranks[:3]:
            self.assert_live(rank, 24)
        self.assertIn("overlay: 3 ranks on 2 node(s) (2+1): profile exact", ranks[0].text)
        self.assertEqual(self.warnings(ranks), [])

    def run_ranks_but_last(self, mode):
        ranks = self.start(mode, preload=self.installed())
        launch.finish(ranks, 60, stop_on_failure=False)
        self.assertEqual([rank.code for rank in ranks], [0, 0, 0, -signal.SIGKILL], [rank.text for rank in ranks])
        return ranks

    def test_two_ranks_in_a_process(self):
        ranks = self.same_as_without("two_ranks", [2] * 4)
        self.assertIn("overlay: 8 ranks on 2 node(s) (2x4): profile exact", ranks[0].text)

    def test_all_ranks_in_a_process(self):
        self.same_as_without("all_in_one", [3], "1x1")

    def test_non_blocking(self):
        self.same_as_without("non_blocking", [1] * 4)

    def test_exit_without_destroy(self):
        self.same_as_without("without_destroy", [12] * 4)

    def test_a_forked_child_says_nothing(self):
        ranks = self.run_ranks("fork", preload=self.installed())
        for rank in ranks:
            child = re.search(r"^CHILD (\d+) 0$", rank.text, re.M)
            self.assertIsNotNone(child, rank.text)
            self.assertNotIn(f":{child[1]}:", rank.text)
            self.assert_live(rank, 12)

    def test_sigterm_is_reported(self):
        ranks = self.start("signal", preload=self.installed())
        deadline = time.monotonic() + 60
        for rank in ranks:
            while b"READY" not in rank.output and time.monotonic() < deadline:
                rank.output += os.read(rank.process.stdout.fileno(), 65536)
        for rank in ranks:  # only now: the others' last calls need them all
            rank.process.send_signal(signal.SIGTERM)
        launch.finish(ranks, 30, stop_on_failure=False)
        for rank in ranks:
            self.assertEqual(rank.code, -signal.SIGTERM, rank.text)
            self.assertRegex(rank.text, r"ended by SIGTERM: forwarded 12 calls: all_reduce 3, ")

    def test_abort_while_the_ranks_meet(self):
        ranks = self.run_ranks("abort_joining", preload=self.installed(), of_rank={3: {"LD_PRELOAD": ""}})
        self.assertRegex(ranks[0].text, r"INIT 5 this communicator was ended by another thread")
        self.assertIn("ABORT 0", ranks[0].text)
        for rank in ranks[1:]:
            self.assertIn("INIT 0", rank.text)

    def mismatch(self, mode):
        ranks = self.run_ranks(mode, preload=self.installed(), env={"SLIMCCL_CHECK": 1})
        for rank in ranks:
            self.assertRegex(rank.text, r"RESULT 5 SLIMCCL_CHECK: ranks make different calls: ranks 0, 2, 3: call \d+: "
                                        r"all_reduce of 8 x fp32, sum; rank 1: call \d+: all_reduce of 7 x fp32, sum")
        self.assertEqual(len(self.warnings(ranks)), 1)
        self.assertEqual(self.sums(ranks), self.sums(self.run_ranks("twice")), "it goes on")

    def test_a_check_names_who_does_not_come(self):
        ranks = self.run_ranks("absent", preload=self.installed(), env={"SLIMCCL_CHECK": 1, "SLIMCCL_TIMEOUT_S": 2})
        for rank in (ranks[0], ranks[2], ranks[3]):
            self.assertRegex(rank.text, r"RESULT 6 rank 1 of 4 did not answer within 2 s")

    def test_a_check_names_who_differs(self):
        self.mismatch("differ")

    def test_a_check_names_who_differs_in_a_group(self):
        self.mismatch("differ_grouped")

    def test_communicators_come_and_go(self):
        ranks = self.run_ranks("many", "2x1", preload=self.installed(), env={"SLIMCCL_LOG": "warn"}, timeout=300)
        for rank in ranks:
            grown = re.search(r"GREW fds=(-?\d+) threads=(-?\d+) kib=(-?\d+)", rank.text)
            self.assertIsNotNone(grown, rank.text)
            self.assertLessEqual(int(grown[1]), 0, rank.text)
            self.assertLessEqual(int(grown[2]), 0, rank.text)
            self.assertLess(int(grown[3]), 4096, rank.text)


if __name__ == "__main__":
    harness.main()
