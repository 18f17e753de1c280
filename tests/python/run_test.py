#!/usr/bin/python3
"""slimccl-run of a source tree, without torch: what it sets, what it refuses, in which words."""
import os
import shutil
import sys
import unittest

import paths

SHOW = ("sh", "-c", 'echo "$LD_PRELOAD|$SLIMCCL_PROFILE|$SLIMCCL_REPORT|$SLIMCCL_RULES|"'
                    '"$SLIMCCL_RUN"')


class Environment(unittest.TestCase):
    def shown(self, *options, env=None):
        """What a command sees: LD_PRELOAD, profile, report, rules, SLIMCCL_RUN."""
        code, output, errors = paths.slimccl_run(*options, *SHOW, env=env, cwd=paths.FOLDER.name)
        self.assertEqual(code, 0, errors)
        self.errors = errors
        return output.strip().split("|")

    def test_sets_the_preload_and_profile_auto(self):
        self.assertEqual(self.shown(), [paths.PRELOAD, "", "", "", "on,profile=auto"])
        self.assertEqual(self.errors, "")

    def test_keeps_an_older_preload_behind_its_own(self):
        older = paths.library("older", "libolder.so")
        self.assertEqual(self.shown(env={"LD_PRELOAD": older})[0], f"{paths.PRELOAD}:{older}")
        both = f"{older}:{paths.PRELOAD}"
        self.assertEqual(self.shown(env={"LD_PRELOAD": both})[0], f"{paths.PRELOAD}:{older}")

    def test_the_profile_comes_from_the_option_then_from_the_environment(self):
        env = {"SLIMCCL_PROFILE": "audit"}
        self.assertEqual(self.shown(env=env)[4], "on,profile=audit")
        self.assertEqual(self.shown("--profile", "zeropp", env=env)[4], "on,profile=zeropp")
        # Of the slimccl-run around it too.
        self.assertEqual(self.shown("--profile", "audit", sys.executable, paths.SCRIPT)[4],
                         "on,profile=audit")

    def test_a_process_without_hooks_stays_exact(self):
        self.assertEqual(self.shown("--profile", "zeropp", env={"SLIMCCL_PROFILE": "zeropp"})[1],
                         "")

    def test_an_empty_element_of_pythonpath_is_still_the_current_folder(self):
        code, output, _ = paths.slimccl_run("sh", "-c", "echo $PYTHONPATH",
                                            env={"PYTHONPATH": ":/code"})
        self.assertEqual((code, output), (0, f"{paths.SITE}::/code\n"))

    def test_every_process_has_a_report_of_its_own(self):
        for pattern, wanted in (("r.json", "r-%h-%p.json"), ("r-%p.json", "r-%p.json"),
                                ("r-%h.json", "r-%h-%p.json"),
                                ("new/r", "new/r-%h-%p")):
            self.assertEqual(self.shown("--report", pattern)[2], paths.at(wanted))
            self.assertEqual("reports: " in self.errors, pattern != wanted)
        self.assertTrue(os.path.isdir(paths.at("new")))

    def test_rules_are_a_line_or_a_file(self):
        self.assertEqual(self.shown("--rules", "tp*=exact")[3], "tp*=exact")
        rules = paths.write("", "rules.toml")
        self.assertEqual(self.shown("--rules", "rules.toml")[3], rules)

    def test_tells_the_hooks_what_is_wanted(self):
        self.assertEqual(self.shown("--allow-inactive", "--verbose")[4],
                         "on,profile=auto,allow-inactive,verbose")
        self.assertIn(f"slimccl-run: LD_PRELOAD={paths.PRELOAD}\n", self.errors)

    def test_the_file_is_in_the_command(self):
        code, output, _ = paths.slimccl_run("cat", "/proc/self/maps")
        self.assertEqual(code, 0)
        self.assertIn(os.path.realpath(paths.PRELOAD), output)


class Command(unittest.TestCase):
    def test_a_path_without_a_cat_that_loads(self):
        cat = paths.write("#!/bin/sh\n", "static", "cat")
        path = f"{os.path.dirname(cat)}:{os.environ['PATH']}"
        code, _, errors = paths.slimccl_run("true", env={"PATH": path})
        self.assertEqual((code, errors), (0, ""))

    def test_exit_code_and_signal_are_the_commands(self):
        self.assertEqual(paths.slimccl_run("sh", "-c", "exit 7")[0], 7)
        self.assertEqual(paths.slimccl_run("--", "sh", "-c", "kill -TERM $$")[0], -15)

    def test_signals_that_python_ignores_are_not_ignored(self):
        for name, number in (("PIPE", 13), ("XFSZ", 25)):
            self.assertEqual(paths.slimccl_run("sh", "-c", f"kill -{name} $$")[0], -number)

    def test_options_behind_the_command_are_the_commands(self):
        self.assertEqual(paths.slimccl_run("echo", "--profile", "bad")[1], "--profile bad\n")

    def test_an_unknown_command(self):
        code, _, errors = paths.slimccl_run("no-such-command")
        self.assertEqual((code, errors), (127, "slimccl-run: no-such-command: command not found\n"))
        script = paths.write("", "train.py")
        os.chmod(script, 0o644)
        code, _, errors = paths.slimccl_run(script)
        self.assertEqual(code, 126)
        self.assertIn(f"{script}: cannot be executed; is it a script? python {script}", errors)

    def test_help_has_examples(self):
        code, output, _ = paths.slimccl_run("--help")
        self.assertEqual(code, 0)
        for word in ("torchrun", "deepspeed", "accelerate", "srun", "zeropp"):
            self.assertIn(word, output)


class Refuses(unittest.TestCase):
    def refused(self, *arguments, **keywords):
        code, output, errors = paths.slimccl_run(*arguments, **keywords)
        self.assertEqual((code, output), (2, ""), errors)
        self.assertTrue(errors.startswith("slimccl-run: "), errors)
        return errors

    def files(self, name, preload=None, core=True):
        """A folder with a preloaded file and a core beside it."""
        folder = paths.at(name)
        os.makedirs(folder, exist_ok=True)
        if core:
            shutil.copy(paths.CORE, folder)
        file = os.path.join(folder, os.path.basename(paths.PRELOAD))
        if preload is None:
            shutil.copy(paths.PRELOAD, file)
        else:
            paths.write(preload, name, os.path.basename(paths.PRELOAD))
        return file

    def test_no_command(self):
        self.assertIn("no command to run", self.refused("--profile", "exact"))

    def test_an_unknown_profile(self):
        self.assertIn("--profile fast: there is no such profile; exact, audit, auto or zeropp",
                      self.refused("--profile", "fast", *SHOW))
        self.assertIn("SLIMCCL_PROFILE fast: ",
                      self.refused(*SHOW, env={"SLIMCCL_PROFILE": "fast"}))

    def test_a_file_that_does_not_open_in_a_child(self):
        file = self.files("torn", preload="not a library")
        errors = self.refused("--preload", file, *SHOW)
        self.assertIn(f"{file} does not open in a child process: ERROR: ld.so: object '{file}' "
                      "from LD_PRELOAD cannot be preloaded (", errors)
        self.assertIn("glibc 2.34", errors)

    def test_a_core_that_does_not_open(self):
        file = self.files("torn-core")
        core = paths.write("not a library", "torn-core", "libslimccl-core.so")
        self.assertIn(f"{core} does not open in a child process: ",
                      self.refused("--preload", file, *SHOW))

    def test_no_core_beside_it(self):
        file = self.files("alone", core=False)
        self.assertIn(f"{file} needs {os.path.dirname(file)}/libslimccl-core.so, which is not "
                      "there", self.refused("--preload", file, *SHOW))

    def test_no_file(self):
        self.assertIn("cannot preload /no/file.so: there is no such file",
                      self.refused("--preload", "/no/file.so", *SHOW))
        errors = self.refused(*SHOW, env={"SLIMCCL_BUILD": "/no/build"})
        self.assertIn("no libslimccl-preload.so: neither of ", errors)
        self.assertIn("/no/build/plugin/preload/libslimccl-preload.so", errors)

    def test_a_path_that_the_loader_would_split(self):
        self.assertIn("LD_PRELOAD takes no path with a space",
                      self.refused("--preload", self.files("with space"), *SHOW))

    def test_rules_that_are_neither(self):
        self.assertIn("--rules nothing.toml: there is no such file",
                      self.refused("--rules", "nothing.toml", *SHOW))

    def test_a_report_without_a_folder(self):
        self.assertIn("--report: no folder /dev/null/x: Not a directory",
                      self.refused("--report", "/dev/null/x/r.json", *SHOW))


class Torch(unittest.TestCase):
    """A pretended torch on the path of a pretended torchrun."""

    def torchrun(self, version, needs=("libnccl.so.2",), name="torch-env", line=None):
        """The environment and command of a torchrun whose Python finds this torch."""
        folder = f"{name}-{version}"
        paths.write("raise SystemExit('torch was imported')\n", folder, "torch", "__init__.py")
        paths.write(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n", folder,
                    f"torch-{version}.dist-info", "METADATA")
        paths.library(folder, "torch", "lib", "libtorch_cuda.so", needs=("libc10.so", *needs))
        line = line or f"#!{sys.executable}"
        command = paths.write(f"{line}\nprint('it runs')\n", folder, "torchrun")
        return command, {"PYTHONPATH": paths.at(folder)}

    def run_with(self, command, env, *options):
        return paths.slimccl_run(*options, command, env=env)

    def test_one_that_is_new_enough(self):
        for version in ("2.5.0", "2.11.0+cu130", "3.0"):
            code, output, errors = self.run_with(*self.torchrun(version))
            self.assertEqual((code, output), (0, "it runs\n"), errors)

    def test_one_that_is_too_old(self):
        command, env = self.torchrun("2.4.1")
        code, output, errors = self.run_with(command, env)
        self.assertEqual((code, output), (2, ""))
        self.assertIn(f"torch 2.4.1 of {sys.executable} is too old: from 2.5 on", errors)
        # Behind another command too.
        self.assertEqual(paths.slimccl_run("env", "A=1", command, env=env)[0], 2)
        self.assertEqual(paths.slimccl_run("nice", sys.executable, "-c", "", env=env)[0], 2)

    def test_a_command_that_chooses_its_python(self):
        _, env = self.torchrun("2.4.3", name="chooser")
        conda = paths.write('#!/bin/sh\nshift 3; exec echo "$@"\n', "choosers", "conda")
        code, output, errors = paths.slimccl_run(conda, "run", "-n", "other", "python", env=env)
        self.assertEqual((code, output), (0, "python\n"), errors)

    def test_a_python_behind_env(self):
        command, env = self.torchrun("2.4.0", line="#!/usr/bin/env python3", name="env-line")
        env["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        self.assertEqual(self.run_with(command, env)[0], 2)

    def test_a_python_with_a_long_path(self):
        line = f"#!/bin/sh\n'''exec' {sys.executable} \"$0\" \"$@\"\n' '''"
        command, env = self.torchrun("2.4.2", line=line, name="long-line")
        self.assertEqual(self.run_with(command, env)[0], 2)

    def test_nccl_linked_into_torch(self):
        command, env = self.torchrun("2.9.0", needs=("libcudart.so.13",), name="static")
        code, output, errors = self.run_with(command, env)
        self.assertEqual((code, output), (2, ""))
        self.assertIn(f"torch has NCCL linked into it ({paths.at('static-2.9.0')}/torch/lib/"
                      "libtorch_cuda.so asks for no libnccl.so.2)", errors)
        self.assertIn("USE_SYSTEM_NCCL=1", errors)
        code, output, errors = self.run_with(command, env, "--allow-inactive")
        self.assertEqual((code, output), (0, "it runs\n"))
        self.assertIn("slimccl-run: warning: torch has NCCL linked into it (", errors)

    def test_hooks_that_torch_would_not_load(self):
        command, env = self.torchrun("2.9.1")
        code, _, errors = self.run_with(command, {**env, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"})
        self.assertEqual(code, 2)
        self.assertIn("TORCH_DEVICE_BACKEND_AUTOLOAD=0 keeps torch from loading our hooks", errors)

    def test_everything_about_torch_can_be_waived(self):
        # As when the Python that we find is the host's, and the command runs in a container.
        command, old = self.torchrun("2.4.9", name="waived")
        for env, words in ((old, "torch 2.4.9 of "), ({
                **old, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}, "TORCH_DEVICE_BACKEND_AUTOLOAD=0 ")):
            code, output, errors = self.run_with(command, env, "--allow-inactive")
            self.assertEqual((code, output), (0, "it runs\n"))
            self.assertRegex(errors, f"^slimccl-run: warning: {words}.*\n$")
            code, _, errors = self.run_with(command, env)
            self.assertEqual(code, 2)
            self.assertIn("slimccl-run --allow-inactive goes on all the same", errors)


if __name__ == "__main__":
    if not os.path.exists(paths.PRELOAD):
        print(f"SKIPPED: {paths.PRELOAD} is not built")
        sys.exit(77)
    paths.harness.main()
