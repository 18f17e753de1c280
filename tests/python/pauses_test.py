#!/usr/bin/python3
"""The pauses of plugin/python without torch: how they nest, in which threads they are made, and what
is gathered anew in them."""
import contextlib
import os
import signal
import sys
import threading
import types
import unittest
from unittest import mock

import paths
import served
from slimccl import everyone, mode, overlay, pauses, steps, zero


class Pauses(served.Served):
    def look(self):
        """What a paused function sees."""
        return self.library.depth

    def test_only_the_outermost_reaches_the_library(self):
        with overlay.pause():
            with overlay.pause():
                self.assertEqual(self.library.depth, 1)
            self.assertEqual(self.library.depth, 1)
        self.assertEqual(self.calls(), ["pause", "resume"])

    def test_an_exception_resumes(self):
        def fails():
            raise KeyError
        self.assertRaises(KeyError, pauses.paused(fails))
        self.assertEqual(self.calls(), ["pause", "resume"])

    def test_a_wrapped_function_runs_paused(self):
        self.assertEqual(pauses.paused(self.look)(), 1)
        self.assertEqual(self.library.depth, 0)

    def in_a_thread(self, function):
        """What it returns there."""
        seen = []
        thread = threading.Thread(target=lambda: seen.append(function()))
        thread.start()
        thread.join()
        return seen[0]

    def test_not_what_is_compiled(self):
        self.compiler.compiling = True
        self.assertEqual((pauses.paused(self.look)(), self.calls()), (0, []))

    def test_any_thread_pauses(self):
        self.assertEqual(self.in_a_thread(pauses.paused(self.look)), 1)

    def test_not_the_threads_that_async_save_starts(self):
        done, seen = threading.Event(), []
        paused = pauses.paused(lambda: overlay._depth)

        def background():
            seen.append(paused())  # while async_save runs, in its pause
            done.wait(10)
            seen.append(paused())  # and after it has returned

        def async_save():
            thread = threading.Thread(target=background)
            thread.start()
            while not seen:
                pass
            return thread, paused()
        thread, in_front = pauses.paused_in_front(async_save)()
        done.set()
        thread.join()
        self.assertEqual((in_front, seen, self.in_a_thread(paused)), (2, [1, 0], 1))
        self.assertEqual(self.calls(), ["pause", "resume"] * 2)

    def test_a_save_beside_training_is_not_paused(self):
        save, said = pauses.paused_where_it_trains(self.look), []
        with mock.patch.object(mode, "say", said.append):
            self.assertEqual(self.in_a_thread(save), 0)
            self.assertEqual(self.in_a_thread(save), 0)
        self.assertRegex("".join(said), "^torch.distributed.checkpoint in the thread Thread-[^,]*, "
                                        "which neither .* is not paused: ")
        self.assertEqual(len(said), 1)

        def trainer():
            steps.after_optimizer(served.FakeLibrary(), (), {})
            return save()
        self.assertEqual((self.in_a_thread(trainer), save()), (1, 1))

    def test_nothing_before_a_process_group(self):
        dist = types.SimpleNamespace(is_initialized=lambda: False)
        with mock.patch.dict(sys.modules, {"torch.distributed": dist}):
            overlay._library, overlay._why = None, None
            overlay.step()
            pauses.paused(self.look)()
            self.assertIsNone(overlay._why, "it was looked for")
            # A core that is loaded serves other bindings of NCCL too.
            overlay._library, overlay._why = self.library, ""
            overlay.step()
            self.assertEqual((pauses.paused(self.look)(), self.calls()),
                             (1, ["step", "pause", "resume"]))

    def test_a_core_that_has_read_its_settings_is_not_told_a_profile(self):
        for late, profile in ((False, "zeropp"), (True, None)):
            with mock.patch.dict(os.environ, {mode.VARIABLE: "on,profile=zeropp"}), \
                    mock.patch.object(mode, "hooked", True), \
                    mock.patch.object(mode, "core_profile", "else"):
                with mode.engaged(late):
                    self.assertEqual(os.environ.get(mode.PROFILE), profile)
                self.assertEqual((os.environ.get(mode.PROFILE), mode.core_profile), (None, profile))
        self.assertFalse(overlay._core_is_there())

    def test_a_forked_child_is_not_active(self):
        reader, writer = os.pipe()
        locked, forked = threading.Event(), threading.Event()

        def holds_the_lock():
            with overlay._lock:
                locked.set()
                forked.wait(10)
        thread = threading.Thread(target=holds_the_lock)
        thread.start()
        locked.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            with overlay.pause():
                os.write(writer, f"{overlay.is_active()} {overlay.why_inactive()}".encode())
            os._exit(0)
        forked.set()
        thread.join()
        os.waitpid(child, 0)
        os.close(writer)
        with open(reader, encoding="utf-8") as told:
            self.assertEqual(told.read(), "False it was forked after its parent had loaded the core")
        self.assertEqual((overlay.is_active(), self.calls()), (True, []))

    def test_a_context_manager_is_paused_at_its_edges(self):
        case = self

        class Manager:
            def __enter__(self):
                self.entered = case.look()
                return self

            def __exit__(self, *error):
                self.left, self.error = case.look(), error[0]
                return True
        with pauses.at_its_edges(Manager)() as manager:
            inside = self.look()
            raise ValueError
        self.assertEqual((manager.entered, inside, manager.left), (1, 0, 1))
        self.assertIs(manager.error, ValueError)

    def test_a_context_manager_that_decorates(self):
        seen = []

        @contextlib.contextmanager
        def manager():
            seen.append(self.look())
            yield

        @pauses.at_its_edges(manager)()
        def decorated():
            seen.append(self.look())
        decorated()
        decorated()
        self.assertEqual(seen, [1, 0, 1, 0])

    def test_what_is_held_is_let_go_whenever_it_is_entered(self):
        seen = []

        @contextlib.contextmanager
        def manager(module):
            seen.append(module)
            yield

        def let_go(module):
            seen.append(f"{module} let go, paused {self.look()}")
        made = pauses.at_its_edges(manager, let_go)("a module")
        self.assertEqual(seen, [])
        made(lambda: None)()
        self.assertEqual(seen, ["a module let go, paused 1", "a module"])
        with made:
            pass
        self.assertEqual(seen[2:], seen[:2])

    def test_gathered_parameters_of_a_forward_train(self):
        enter = pauses.if_it_reads(lambda gathered: self.look())
        self.assertEqual(enter(types.SimpleNamespace(fwd_module=None)), 1)
        self.assertEqual(enter(types.SimpleNamespace()), 1)
        self.assertEqual(enter(types.SimpleNamespace(fwd_module="module")), 0)

    def test_loading_is_paused_if_something_sharded_is_inside(self):
        self.addCleanup(setattr, mode, "of_rank_0", mode.of_rank_0)
        mode.of_rank_0 = lambda what: None  # this torch has no FSDP1
        load = pauses.if_it_holds(int)(lambda model, state: self.look())
        self.assertEqual(load(types.SimpleNamespace(modules=lambda: ["a", 1]), {}), 1)
        self.assertEqual(load(types.SimpleNamespace(modules=lambda: ["a"]), {}), 0)

    def test_fsdp1_gathers_anew_what_it_still_has(self):
        def module(root=False, state="IDLE", sharded=True, needs=False):
            return types.SimpleNamespace(_is_root=root, _handle=types.SimpleNamespace(
                _training_state=types.SimpleNamespace(name=state), uses_sharded_strategy=sharded,
                needs_unshard=lambda: needs))
        held = [module(root=True), module()]
        modules = [*held, module(root=None), module(state="SUMMON_FULL_PARAMS"),
                   module(sharded=False), module(needs=True), types.SimpleNamespace(_handle=None)]
        let_go = []
        fakes = {"torch.distributed": {}, "torch.distributed.fsdp": {
            "FullyShardedDataParallel": types.SimpleNamespace(fsdp_modules=lambda top: modules)},
            "torch.distributed.fsdp._runtime_utils": {
                "_reshard": lambda module, handle, free: let_go.append(module)}}
        fakes["torch.distributed"]["is_initialized"] = lambda: True
        load = pauses.if_it_holds(int)(lambda model, state: let_go[:])
        with mock.patch.dict(sys.modules, {
                name: types.SimpleNamespace(**content) for name, content in fakes.items()}):
            for everybody, expected in ((False, []), (True, held)):
                with mock.patch.object(everyone, "is_active", lambda answer=everybody: answer):
                    self.assertEqual(load(types.SimpleNamespace(modules=lambda: [1]), {}), expected)

    def test_somebody_elses_pause_stays(self):
        self.library.slimcclPause()
        self.assertTrue(overlay._serves(self.library))
        self.assertEqual(self.library.depth, 1)

    def test_a_library_that_never_refuses_does_not_serve(self):
        self.library.slimcclResume = lambda: 0
        self.assertFalse(overlay._serves(self.library))

    def test_without_the_library_nothing_happens(self):
        overlay._library = overlay._why = None
        with overlay.pause():
            overlay.step()
        self.assertFalse(overlay.is_active())
        self.assertEqual(overlay.why_inactive(), "libslimccl-preload.so is not preloaded")


class Zero(served.Served):
    """With a pretended DeepSpeed."""

    def setUp(self):
        super().setUp()
        self.everybody, self.made = True, []
        dist = types.SimpleNamespace(
            is_initialized=lambda: True, get_world_size=lambda group: group,
            get_rank=lambda group: 1, all_gather_into_tensor=lambda flat, own, group:
            self.made.append((flat, own, group, self.library.depth, self.grad)))
        sys.modules["torch"].distributed = dist
        for patch in (mock.patch.dict(sys.modules, {"torch.distributed": dist}),
                      mock.patch.object(everyone, "is_active", lambda: self.everybody)):
            patch.start()
            self.addCleanup(patch.stop)

    def saved(self, optimizer):
        """The gathers that were made before a save, with the depth of pauses; gradients or not."""
        self.made = []
        save = pauses.paused(lambda engine: self.made[:], zero.gather_replicas)
        return save(types.SimpleNamespace(optimizer=optimizer))

    def test_replicas_are_gathered_in_the_pause(self):
        names = (("bit16_groups_flat", "parallel_partitioned_bit16_groups"),
                 ("bf16_groups_flat", "bf16_partitioned_groups"))
        for flats, parts in names:
            optimizer = types.SimpleNamespace(**{
                flats: ["flat", "small", "gone"], parts: [["a", "b"], ["c"], []],
                "real_dp_process_group": [2, 1, 2]})
            self.assertEqual(self.saved(optimizer), [("flat", "b", 2, 1, False)])
            self.everybody = False
            self.assertEqual(self.saved(optimizer), [])
            self.everybody = True
        self.assertEqual(self.saved(None), [])
        self.assertEqual(self.saved(types.SimpleNamespace()), [])

    def test_a_version_that_we_do_not_know_is_told(self):
        said = []
        with mock.patch.object(mode, "say", said.append):
            enter = pauses.if_it_reads(lambda gathered: "entered", zero.let_go)
            self.assertEqual(enter(types.SimpleNamespace(
                enabled=True, params=[self.parameter(ds_status=None)])), "entered")
        self.assertRegex(said[0], "^cannot gather DeepSpeed's weights anew in this version "
                                  r"\(AttributeError: ")

    def parameter(self, status="AVAILABLE", **more):
        def partition(param_list):
            for one in param_list:
                one.ds_status = types.SimpleNamespace(name="NOT_AVAILABLE")
        return types.SimpleNamespace(**{
            "ds_status": types.SimpleNamespace(name=status), "ds_tensor": "shard",
            "ds_active_sub_modules": set(), "partition": partition, **more})

    def entered(self, *parameters, **more):
        """Statuses of the parameters when they are gathered."""
        enter = pauses.if_it_reads(lambda gathered: [
            one.ds_status.name for one in gathered.params], zero.let_go)
        return enter(types.SimpleNamespace(enabled=True, params=parameters, **more))

    def test_what_zero3_holds_is_gathered_anew(self):
        self.assertEqual(self.entered(self.parameter(), self.parameter("NOT_AVAILABLE")),
                         ["NOT_AVAILABLE"] * 2)
        claimed = types.SimpleNamespace(has_outstanding_graph_claim=lambda one: True)
        self.assertEqual(self.entered(
            self.parameter(ds_active_sub_modules={1}), self.parameter(ds_tensor=None),
            self.parameter(_ds_z3_gathered_param_context_depth=1),
            self.parameter(_ds_z3_eager_fallback_owner=claimed), self.parameter("INFLIGHT")),
            ["AVAILABLE"] * 4 + ["INFLIGHT"])

    def test_nothing_is_gathered_anew_in_training_or_on_some_ranks_alone(self):
        self.assertEqual(self.entered(self.parameter(), fwd_module="module"), ["AVAILABLE"])
        self.everybody = False
        self.assertEqual(self.entered(self.parameter()), ["AVAILABLE"])


if __name__ == "__main__":
    os.environ.pop(mode.VARIABLE, None)
    paths.harness.main()
