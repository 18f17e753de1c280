#!/usr/bin/python3
"""slimccl-run in front of real trainers on emulated GPUs of two pretend nodes: ranks and steps are
counted, and what is saved under zeropp has the bits that an exact run saves."""
import glob
import os
import re
import sys
import unittest

import paths

sys.path.insert(0, os.path.join(paths.ROOT, "tests", "trainers"))
import torchrun  # noqa: E402

RANKS = 4
LAUNCHER = os.path.join(paths.PLUGIN, "slimccl-run")
CHECKPOINTS = os.path.join(paths.HERE, "scripts", "checkpoints")
TOLD = "its name says that activations travel by it"
COUNTED = re.compile(r"^slimccl-run: (\d of \d ranks are active.*)$", re.M)


def require(kind=None):
    """Skips the test if a trainer cannot be run here, or fails it where it must be possible."""
    reason = torchrun.missing()
    deepspeed = os.path.join(torchrun.MADE, "venv/lib/python3*/site-packages/deepspeed")
    if not reason and kind in ("zero1", "zero2", "zero3", "partly") and not glob.glob(deepspeed):
        reason = "no DeepSpeed here: ./dev trainers setup fetches it"
    if reason and os.environ.get("TRAINERS_REQUIRED"):
        raise RuntimeError(reason)
    if reason:
        raise unittest.SkipTest(reason)


class Launched(unittest.TestCase):
    """One host pretends the nodes, each with a torchrun of its own."""

    kernels = True

    def launch(self, trainer, name, *arguments, options="", kind=None, launched=None, env=None,
               nodes="2x2"):
        """The run, and the reports of its ranks."""
        require(kind)
        self.folder = paths.at(name)
        done = torchrun.run(
            trainer, arguments, f"python-{name}", launched=launched, nodes=nodes,
            env={**torchrun.FAST, **(env or {})},
            launcher=f"{sys.executable} {LAUNCHER} --report {self.folder}/report.json {options}")
        print(f"   {name}: {done.seconds:.1f} s", flush=True)
        return done, list(torchrun.read_reports(f"{self.folder}/report-%p.json"))

    def calls(self, reports, reason):
        return sum(by_reason.get(reason, 0) for report in reports
                   for by_reason in report["total"]["calls"].values())


class Ranks(Launched):
    def test_all_are_counted_and_their_steps(self):
        done, reports = self.launch("fsdp2", "all", "--steps", "3")
        self.assertEqual(COUNTED.findall(done.text), ["4 of 4 ranks are active, profile auto"])
        self.assertIn("ranks are active", done.ranks[0], "rank 0 tells")
        self.assertEqual([report["steps"] for report in reports], [3] * RANKS)
        self.assertEqual([report["pauses"] for report in reports], [0] * RANKS)
        self.assertNotIn("is not a setting", done.text)

    def test_verbose_says_what_is_paused(self):
        done, _ = self.launch("fsdp2", "verbose", "--steps", "1", options="--verbose", nodes="1x2")
        for name in ("distributed_c10d", "DTensor.full_tensor",
                     "fully_sharded_data_parallel.FullyShardedDataParallel.state_dict"):
            self.assertEqual(name in done.text, name != "distributed_c10d", name)

    def test_a_node_without_slimccl_run_is_named(self):
        done, reports = self.launch("fsdp2", "half", "--steps", "2", launched=[0],
                                    env={"SLIMCCL_AGREE_S": 2})
        self.assertEqual(len(reports), 2)
        self.assertEqual(COUNTED.findall(done.text), [
            "2 of 4 ranks are active, profile auto; not: ranks 2-3 (no word from them: started "
            "without slimccl-run)"])

    def test_the_node_of_rank_0_without_slimccl_run(self):
        done, reports = self.launch("fsdp2", "other-half", "--steps", "2", launched=[1],
                                    env={"SLIMCCL_AGREE_S": 2})
        self.assertEqual(len(COUNTED.findall(done.text)), 1)
        self.assertIn("not: ranks 0-1 (no word from them", done.text)

    def test_an_overlay_that_is_off_is_named(self):
        done, _ = self.launch("fsdp2", "off", "--steps", "2", env={"SLIMCCL_OVERLAY": "off"})
        self.assertRegex(COUNTED.findall(done.text)[0], r"^0 of 4 ranks are active; not: ranks 0-3 "
                                                        r"\(host \S+: SLIMCCL_OVERLAY is off\)$")

    def test_a_group_that_a_device_mesh_makes(self):
        done, _ = self.launch(os.path.join(paths.HERE, "scripts", "mesh"), "mesh", nodes="1x2")
        self.assertEqual(COUNTED.findall(done.text), ["2 of 2 ranks are active, profile auto"])


class Named(Launched):
    def test_rules_go_by_the_names_of_torchs_groups(self):
        done = self.check("names", options="--rules mesh_tp=exact", reason="rule")
        self.assertNotIn(TOLD, done.text)

    def test_zeropp_goes_by_the_names_of_a_split_groups_parts(self):
        # With --eager the group is bound to its device, and others are parts of it.
        done = self.check("names-split", "--eager", reason="named as activations")
        self.assertEqual(done.text.count(TOLD), 2, "by rank 0 of each mesh_tp")

    def check(self, name, *more, options="", reason=None):
        if not self.kernels:
            self.skipTest("built without nvcc, so there are no kernels, and no name is asked")
        done, reports = self.launch(
            "fsdp2_tp", name, "--steps", "2", "--bf16", "--width", "256", "--batch", "16", *more,
            options=f"--profile zeropp {options}")
        self.assertEqual(len(reports), RANKS)
        for report in reports:
            calls = {one["name"]: one["calls"] for one in report["communicators"]}
            self.assertLessEqual({"mesh_tp", "mesh_dp"}, set(calls))
            self.assertEqual(set(calls["mesh_tp"]["all_reduce"]), {reason})
        return done


class Saved(Launched):
    """What scripts/checkpoints.py saves under zeropp in every way of a framework."""

    def check(self, kind, pauses, same, steps=2):
        """`pauses` of each call; `same`: what had the bits that the ranks hold."""
        if not self.kernels:
            self.skipTest("built without nvcc, so there are no kernels, and nothing is compressed")
        done, reports = self.launch(CHECKPOINTS, kind, kind, paths.at(kind, "saved"), kind=kind,
                                    options="--profile zeropp")
        self.assertEqual(len(reports), RANKS)
        rank_0 = done.ranks[0]
        self.assertNotRegex(done.text, "this version has no|anew in this version|cannot reshard")
        self.assertEqual(re.findall(r"^same (.*)$", rank_0, re.M), same)
        self.assertEqual({name: int(count) for name, count in
                          re.findall(r"^pauses (.*) (\d+)$", rank_0, re.M)}, pauses)
        self.assertGreater(self.calls(reports, "compressed"), 0, "training is to be compressed")
        self.assertGreater(self.calls(reports, "paused"), 0)
        self.assertEqual([report["steps"] for report in reports], [steps] * RANKS)
        return reports

    def test_fsdp1(self):
        self.check("fsdp1", {
            "state_dict": 1, "optim_state_dict": 1, "load_state_dict": 1, "state_dict again": 1,
            "a plain module": 0, "summon_full_params": 2, "apply": 1},
            ["state_dict", "optim_state_dict", "state_dict again", "summon_full_params", "apply"])

    def test_fsdp2(self):
        self.check("fsdp2", {
            "get_model_state_dict": 1, "full_tensor": 1, "get_optimizer_state_dict": 1,
            "get_state_dict": 1, "set_model_state_dict": 1, "get_model_state_dict again": 1,
            "save": 1, "load": 1, "get_model_state_dict loaded": 1, "async_save": 1,
            "async_save in the background": 0, "average_parameters": 1},
            ["get_model_state_dict", "full_tensor", "get_optimizer_state_dict", "get_state_dict",
             "get_model_state_dict again", "save", "load", "async_save", "average_parameters"])

    def check_replicas(self, kind):
        self.check(kind, {"save_checkpoint": 1, "save_16bit_model": 1,
                          "safe_get_full_fp32_param": 2},
                   ["save_checkpoint", "save_16bit_model", "replicas saved",
                    "safe_get_full_fp32_param"], steps=3)

    def test_zero1(self):
        self.check_replicas("zero1")

    def test_zero2(self):
        self.check_replicas("zero2")

    def test_a_node_without_hooks_does_not_keep_the_others_waiting(self):
        # For it a hook's own gather would wait; without all ranks nothing is compressed.
        done, reports = self.launch(CHECKPOINTS, "partly", "partly", paths.at("partly", "saved"),
                                    kind="partly", launched=[0], env={"SLIMCCL_AGREE_S": 2},
                                    options="--profile zeropp")
        self.assertEqual(re.findall(r"^same (.*)$", done.ranks[0], re.M), ["save_16bit_model"])
        self.assertEqual(self.calls(reports, "compressed"), 0)

    def test_zero3(self):
        self.check("zero3", {
            "GatheredParameters": 2, "GatheredParameters written back": 2, "save_16bit_model": 1,
            "safe_get_full_fp32_param": 2, "safe_get_full_optimizer_state": 2,
            "safe_update_full_grad_vectorized": 1, "save_checkpoint": 1, "load_checkpoint": 1,
            "GatheredParameters loaded": 2},
            ["GatheredParameters", "GatheredParameters written back", "save_16bit_model",
             "safe_get_full_fp32_param", "safe_get_full_optimizer_state",
             "safe_update_full_grad_vectorized", "load_checkpoint"], steps=3)


if __name__ == "__main__":
    if not os.path.exists(paths.PRELOAD):
        print(f"SKIPPED: {paths.PRELOAD} is not built")
        sys.exit(77)
    Launched.kernels = "no-kernels" not in sys.argv
    sys.argv = [word for word in sys.argv if word not in ("kernels", "no-kernels")]
    paths.harness.main()
