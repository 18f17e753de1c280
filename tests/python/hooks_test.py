#!/usr/bin/python3
"""The hooks of plugin/python without torch: what is changed when it is imported, how steps are
counted, what they do when they come in."""
import importlib
import inspect
import os
import sys
import types
import unittest
import zipfile
from unittest import mock

import paths
import served
from slimccl import mode, patching, pauses, steps


class Steps(served.Served):
    def setUp(self):
        super().setUp()
        steps._stepped.clear()
        self.optimizers = {}

    def step(self, names):
        for name in names:
            self.optimizers.setdefault(name, type("Optimizer", (), {})())
            steps.after_optimizer(self.optimizers[name], (), {})
        return len(self.calls())

    def test_one_optimizer(self):
        self.assertEqual(self.step("AAA"), 3)

    def test_several_in_an_iteration_count_once(self):
        self.assertEqual(self.step("ABCABCABC"), 3)

    def test_another_phase_with_another_optimizer(self):
        self.assertEqual(self.step("AAABBBB"), 3 + 3)

    def test_a_compiled_step_is_not_counted(self):
        self.compiler.compiling = True
        self.assertEqual(self.step("AAA"), 0)

    def test_a_step_that_makes_the_first_state_is_none(self):
        steps.of_nothing(self.step)("A")
        self.assertEqual(self.step("A"), 1)

    def test_an_engine_counts_for_its_inner_optimizers(self):
        class Engine:
            take = steps.of_engine(lambda engine, names: self.step(names) + 10)
        engine = Engine()
        for _ in range(2):
            self.assertEqual(engine.take("AAA"), 10)
            self.assertEqual(self.calls(), ["step"])
        self.assertEqual(self.step("BB"), 1)


class Patching(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, paths.FOLDER.name)
        paths.write("from fake_library.inner import function\n", "fake_library", "__init__.py")
        paths.write("def function():\n    return 1\n\n"
                    "class Base:\n    def inherited(self):\n        return 1\n\n"
                    "class Class(Base):\n    @staticmethod\n    def static():\n        return 1\n",
                    "fake_library", "inner.py")
        paths.write("raise ImportError('broken')\n", "fake_library", "broken.py")
        for module in ("inner", "broken", "missing"):
            for name in ("function", "Class.static", "Class.inherited", "gone?"):
                patching.on_import(f"fake_library.{module}", lambda it, name=name: pauses.change(
                    it, name, lambda old: lambda *arguments: old(*arguments) + 1))

    def test_functions_are_wrapped_before_anybody_takes_them(self):
        import fake_library
        inner = fake_library.inner
        self.assertEqual((fake_library.function(), inner.function()), (2, 2))
        self.assertEqual((inner.Class.static(), inner.Class().static()), (2, 2))
        self.assertEqual((inner.Class().inherited(), inner.Base().inherited()), (2, 1))
        self.assertIn("return 1", inspect.getsource(inner.function))

    def test_a_module_that_is_loaded_again(self):
        from fake_library import inner
        self.assertEqual(importlib.reload(inner).function(), 2)

    def test_a_module_that_is_there_is_wrapped_once(self):
        from fake_library import inner
        patching.on_import("fake_library.inner", lambda it: pauses.change(
            it, "function", lambda old: lambda: old() + 1))
        self.assertEqual(inner.function(), 2)

    def test_another_finder_that_asks_all_others(self):
        class Asking:
            @classmethod
            def find_spec(cls, name, path, target=None):
                others = (finder for finder in sys.meta_path if finder is not cls)
                return next(filter(None, (finder.find_spec(name, path, target)
                                          for finder in others)), None)
        paths.write("def function():\n    return 1\n", "asked.py")
        patching.on_import("asked", lambda it: pauses.change(
            it, "function", lambda old: lambda: old() + 1))
        for place in (0, len(sys.meta_path)):
            with mock.patch.object(sys, "meta_path", sys.meta_path[:]):
                sys.meta_path.insert(place, Asking)
                sys.modules.pop("asked", None)
                self.assertEqual(importlib.import_module("asked").function(), 2)

    def test_a_loader_of_several_modules(self):
        with zipfile.ZipFile(paths.at("several.zip"), "w") as several:
            for name in ("zipped", "zipped_too"):
                several.writestr(f"{name}.py", "def function():\n    return 1\n")
        sys.path.insert(0, paths.at("several.zip"))
        patching.on_import("zipped", lambda it: pauses.change(
            it, "function", lambda old: lambda: old() + 1))
        found = [importlib.import_module(name).function() for name in ("zipped", "zipped_too")]
        self.assertEqual(found, [2, 1])

    def test_a_version_that_a_hook_fails_for_is_imported(self):
        said = []
        paths.write("number = 1\n", "strange.py")
        patching.on_import("strange", lambda it: it.Class)
        with mock.patch.object(mode, "say", said.append):
            self.assertEqual(importlib.import_module("strange").number, 1)
        self.assertRegex(said[0], "^a hook of strange is missing in this process")

    def test_errors_of_imports_stay(self):
        with self.assertRaisesRegex(ImportError, "broken"):
            import fake_library.broken  # noqa: F401
        with self.assertRaises(ModuleNotFoundError):
            import fake_library.missing  # noqa: F401

    def test_what_a_version_lacks_is_said(self):
        said = []
        self.addCleanup(setattr, mode, "say", mode.say)
        mode.say = said.append
        module = types.ModuleType("some.module")
        for name in ("function", "Class.method", "function?", "Class.method?"):
            pauses.change(module, name, pauses.paused)
        self.assertEqual([text.split(": ")[0] for text in said],
                         ["this version has no some.module.function",
                          "this version has no some.module.Class.method"])


class Start(unittest.TestCase):
    """torch calls start() in every program that imports torch."""

    CODE = "import sys; from slimccl import hooks; hooks.start(); print(*sorted(" \
           "name for name in sys.modules if name.startswith('slimccl')))"

    def start(self, before="", **env):
        return paths.run(sys.executable, "-c", before + self.CODE,
                         env={"PYTHONPATH": paths.SITE, **env})

    def test_does_nothing_without_slimccl_run(self):
        code, output, errors = self.start()
        self.assertEqual((code, errors), (0, ""))
        self.assertNotIn("slimccl.pauses", output)

    def test_imports_nothing_that_the_program_does_not(self):
        code, output, errors = self.start(SLIMCCL_RUN="on")
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("slimccl.pauses", output)

    def test_twice_is_once(self):
        before = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")
optimizer = sys.modules["torch.optim.optimizer"] = types.ModuleType("torch.optim.optimizer")
registered = []
optimizer.register_optimizer_step_post_hook = registered.append
from slimccl import hooks
hooks.start(); hooks.start()
assert len(registered) == 1, registered
"""
        self.assertEqual(self.start(before, SLIMCCL_RUN="on")[0], 0)

    def test_a_program_that_asks_before_it_imports_torch(self):
        before = "import slimccl, os; print(slimccl.is_active(), os.environ.get('SLIMCCL_PROFILE'))\n"
        code, output, _ = self.start(before, SLIMCCL_RUN="on,profile=audit",
                                     LD_PRELOAD=paths.fake_preload())
        self.assertEqual((code, output.split("\n")[:2]), (0, ["core: audit", "True None"]))

    def test_a_failure_is_told_and_the_program_goes_on(self):
        code, output, errors = self.start("import sys; sys.modules['slimccl.pauses'] = None\n",
                                          SLIMCCL_RUN="on")
        self.assertEqual(code, 0)
        self.assertIn("slimccl-run: no hooks in this process: ModuleNotFoundError: ", errors)
        self.assertTrue(output)


if __name__ == "__main__":
    os.environ.pop(mode.VARIABLE, None)
    paths.harness.main()
