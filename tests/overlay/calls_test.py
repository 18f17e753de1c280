#!/usr/bin/python3
"""Calls of programs and plugins reach the NCCL that they would reach without us, through the core
where there is one."""
import os
import shutil
import unittest

import fakes
from fakes import at, fake_nccl, library, linked_to, run, stub_in

OPENED = "core opened for 0.1.0"
WARN = r"^\S+:\d+:\d+ SLIMCCL WARN "
OLD = ["-DFAKE_VERSION=21700", "-DncclAlltoAll=absent"]


def setUpModule():
    real = fake_nccl("lib/libnccl.so.2", "real")
    second = fake_nccl("second/libnccl_second.so.2", "second")
    fake_nccl("site/nvidia/nccl/lib/libnccl.so.2", "wheel")
    fakes.library("site/nvidia/cublas/lib/libcublas.so.12", ["bystander.c"])
    fake_nccl("old/libnccl.so.2", "old", *OLD)
    fake_nccl("newer/libnccl.so.2", "newer", "-DFAKE_VERSION=22703", OLD[1])
    program = ["client.c", "calls.c"]
    fakes.compile_c("program", program, "-pthread", *linked_to(real))
    fakes.compile_c("program_old", program, "-pthread", real, "-Wl,-z,lazy", f"-Wl,-rpath,{at('old')}")
    fakes.compile_c("program_newer", program, "-pthread", real, "-Wl,-z,lazy", f"-Wl,-rpath,{at('newer')}")
    fakes.compile_c("host", ["client.c"], "-pthread")
    library("plugin.so", ["calls.c"], *linked_to(real))
    library("plugin_second.so", ["calls.c"], *linked_to(second))
    library("static.so", ["calls.c", "fake_nccl.c"], '-DFAKE_NAME="static"', "-pthread")
    library("bare.so", ["calls.c"], "-Wl,-z,lazy")
    stub_in("alone")
    stub_in("whole", core=[])
    stub_in("mixed", core=["-DFAKE_CORE_ABI=0"])


class Calls(unittest.TestCase):
    def calls(self, command, *words, stub="whole", lines, errors=(), cwd=None, **environment):
        """Runs it with the stub; errors are patterns, one for each line of stderr. Words that name
        built files become their paths."""
        words = [at(word) if os.path.exists(at(word)) else word for word in words]
        preload = os.path.join(stub if "./" in stub else at(stub), "libslimccl-preload.so") if stub else None
        got = run([at(command), *words], preload, cwd=cwd, FAKE_TRACE="1", **environment)
        self.assertEqual((got[0], got[1]), (0, lines), got)
        self.assertEqual(len(got[2]), len(errors), got)
        for line, pattern in zip(got[2], errors):
            self.assertRegex(line, WARN + pattern)


class Core(Calls):
    def test_every_call_goes_through_it(self):
        self.calls("program", "AllGather", "GroupStart", "GroupEnd", "GetLastError", lines=[
            OPENED, "core ncclAllGather", "real ncclAllGather", "core ncclGroupStart",
            "real ncclGroupStart", "core ncclGroupEnd", "real ncclGroupEnd", "core ncclGetLastError",
            "real"])

    def test_off_forwards_without_it_and_says_nothing(self):
        for off in ("off", "0", "false"):
            self.calls("program", "AllGather", "state", SLIMCCL_OVERLAY=off, lines=[
                "real ncclAllGather", "files 3 threads 1 core not mapped cuda not mapped"])

    def test_nothing_is_loaded_before_the_first_call(self):
        self.calls("program", "GetVersion", "state", lines=[
            "version 22809", "files 3 threads 1 core not mapped cuda not mapped"])

    def test_loading_it_leaves_no_file_open_and_no_thread(self):
        self.calls("program", "AllGather", "state", lines=[
            OPENED, "core ncclAllGather", "real ncclAllGather",
            "files 3 threads 1 core mapped cuda not mapped"])

    def test_without_its_file_calls_are_exact_and_one_line_says_so(self):
        self.calls("program", "AllGather", "AllReduce", stub="alone",
                   lines=["real ncclAllGather", "real ncclAllReduce"],
                   errors=[r".*alone/libslimccl-core.so.*NCCL calls stay exact.*SLIMCCL_OVERLAY=off$"])

    def test_log_none_silences_that_line(self):
        self.calls("program", "AllGather", stub="alone", lines=["real ncclAllGather"], SLIMCCL_LOG="none")

    def test_a_core_of_another_build_refuses_and_calls_are_exact(self):
        self.calls("program", "AllGather", "AllGather", stub="mixed",
                   lines=[OPENED, "real ncclAllGather", "real ncclAllGather"],
                   errors=[r".*mixed/libslimccl-core.so .*made for another preloaded file.*stay exact"])

    def test_a_file_that_is_no_core(self):
        stub_in("broken")
        shutil.copy(at("lib/libnccl.so.2"), at("broken/libslimccl-core.so"))
        self.calls("program", "AllGather", stub="broken", lines=["real ncclAllGather"],
                   errors=[r".*broken/libslimccl-core.so cannot serve \(it is no core\)"])

    def test_a_relative_path_holds_when_the_program_goes_elsewhere(self):
        self.calls("program", "chdir", "/", "AllGather", stub="./whole", cwd=at(),
                   lines=[OPENED, "core ncclAllGather", "real ncclAllGather"])

    def test_two_first_calls_at_once_open_it_once(self):
        code, lines, errors = run([at("program"), "threads", "AllGather"], at("whole/libslimccl-preload.so"),
                                  FAKE_TRACE="1", FAKE_CORE_WAIT_MS="100")
        self.assertEqual((code, sorted(lines), errors), (
            0, [*["core ncclAllGather"] * 2, OPENED, *["real ncclAllGather"] * 2], []))

    def test_a_fork_while_another_thread_loads_it(self):
        self.calls("program", "meanwhile", "AllGather", "fork", "AllReduce", FAKE_CORE_WAIT_MS="600",
                   lines=[OPENED, OPENED, "core ncclAllGather", "real ncclAllGather",
                          "core ncclAllReduce", "real ncclAllReduce"])

    def test_a_child_forked_before_and_after_the_first_call(self):
        once = ["core ncclAllGather", "real ncclAllGather"]
        self.calls("program", "fork", "AllGather", lines=[OPENED, *once])
        self.calls("program", "AllGather", "fork", "AllGather", lines=[OPENED, *once, *once])


class Own(Calls):
    """SlimCCL's own calls, which a trainer finds by dlsym."""
    ALL = ["own", "Pause", "own", "Step", "own", "Resume"]

    def test_they_reach_the_core_and_no_nccl(self):
        self.calls("program", *self.ALL, "AllGather", lines=[
            OPENED, "core slimcclPause", "core slimcclStep", "core slimcclResume",
            "core ncclAllGather", "real ncclAllGather"])

    def test_they_need_no_nccl(self):
        self.calls("host", *self.ALL, lines=[
            OPENED, "core slimcclPause", "core slimcclStep", "core slimcclResume"])

    def test_their_errors_are_the_cores(self):
        self.calls("program", "own", "Resume", "GetLastError", FAKE_FAIL="1", lines=[
            OPENED, "core slimcclResume", "slimcclResume returned 5", "core ncclGetLastError", "real"])

    def test_without_a_core_they_do_nothing(self):
        self.calls("program", *self.ALL, "own", "Resume", SLIMCCL_OVERLAY="off", lines=[])
        self.calls("program", *self.ALL, "own", "Resume", stub="alone", SLIMCCL_LOG="none", lines=[])

    def test_without_the_preload_there_are_none(self):
        self.calls("program", "own", "Pause", stub=None, lines=["slimcclPause returned -1"])


class Cost(Calls):
    def test_a_forwarded_call_allocates_nothing(self):
        fakes.compile_c("allocations", ["allocations.c"], *linked_to(at("lib/libnccl.so.2")))
        for stub, off in (("whole", "on"), ("whole", "off"), ("alone", "on")):
            code, lines, _ = run([at("allocations")], at(stub, "libslimccl-preload.so"), SLIMCCL_OVERLAY=off)
            self.assertEqual((code, lines), (0, ["first call: some, a thousand more: 0"]))


class Nested(Calls):
    def test_calls_that_nccl_makes_of_its_own_names_are_forwarded(self):
        self.calls("program", "Bcast", "CommInitAll", lines=[
            OPENED, "core ncclBcast", "real ncclBcast", "real ncclBroadcast", "core ncclCommInitAll",
            "real ncclCommInitAll", "real ncclGetUniqueId"])

    def test_so_are_those_of_its_own_threads(self):
        self.calls("program", "CommFinalize", lines=[
            OPENED, "core ncclCommFinalize", "real ncclCommFinalize", "real ncclBroadcast"])

    def test_and_without_a_core(self):
        self.calls("program", "Bcast", "CommFinalize", SLIMCCL_OVERLAY="off", lines=[
            "real ncclBcast", "real ncclBroadcast", "real ncclCommFinalize", "real ncclBroadcast"])


class Search(Calls):
    def test_a_plugin_that_was_opened_locally(self):
        self.calls("host", "open", "plugin.so", "in", "plugin.so", "AllGather", lines=[
            OPENED, "core ncclAllGather", "real ncclAllGather"])

    def test_a_copy_that_is_static_in_the_caller(self):
        self.calls("host", "open", "static.so", "in", "static.so", "AllGather", "in", "static.so", "Bcast",
                   lines=[OPENED, "core ncclAllGather", "static ncclAllGather", "core ncclBcast",
                          "static ncclBcast", "static ncclBroadcast"])

    def test_two_plugins_with_a_copy_each(self):
        both = ["open", "plugin.so", "open", "plugin_second.so"]
        for plugin in ("plugin.so", "plugin_second.so", "plugin.so"):
            both += ["in", plugin, "AllGather"]
        lines = ["real ncclAllGather", "second ncclAllGather", "real ncclAllGather"]
        self.calls("host", *both, stub=None, lines=lines)
        self.calls("host", *both, stub="alone", lines=lines, SLIMCCL_OVERLAY="off")

    def test_a_program_with_a_copy_lends_it_to_its_plugins_as_the_linker_does(self):
        words = ["open", "plugin_second.so", "in", "plugin_second.so", "AllGather",
                 "in", "plugin_second.so", "CommCount", "AllGather"]
        lines = ["real ncclAllGather", "real ncclCommCount", "real ncclAllGather"]
        self.calls("program", *words, stub=None, lines=lines)
        self.calls("program", *words, stub="alone", lines=lines, SLIMCCL_OVERLAY="off")

    def test_another_plugin_at_a_closed_ones_addresses(self):
        # The first copy stays, so that a stale answer would be it.
        words = ["open", "lib/libnccl.so.2", "open", "plugin.so", "in", "plugin.so", "AllGather",
                 "close", "plugin.so", "open", "plugin_second.so", "in", "plugin_second.so", "AllGather",
                 "open", "plugin.so", "in", "plugin.so", "AllGather"]
        self.calls("host", *words, SLIMCCL_OVERLAY="off", lines=[
            "real ncclAllGather", "second ncclAllGather", "real ncclAllGather"])

    def test_a_caller_that_is_bound_to_nothing_takes_the_one_that_is_mapped(self):
        self.calls("host", "open", "bare.so", "open", "plugin.so", "in", "bare.so", "AllGather", lines=[
            OPENED, "core ncclAllGather", "real ncclAllGather"])

    def test_whatever_else_could_be_loaded(self):
        self.calls("host", "open", "bare.so", "open", "plugin.so", "open", "site/nvidia/cublas/lib/libcublas.so.12",
                   "in", "bare.so", "AllGather", lines=[OPENED, "core ncclAllGather", "real ncclAllGather"])

    def test_and_before_that_the_one_that_is_in_use(self):
        self.calls("host", "open", "bare.so", "open", "static.so", "in", "static.so", "AllGather",
                   "in", "bare.so", "AllReduce", SLIMCCL_OVERLAY="off", LD_LIBRARY_PATH=at("lib"),
                   lines=["static ncclAllGather", "static ncclAllReduce"])

    def test_or_the_one_beside_mapped_nvidia_packages(self):
        self.calls("host", "open", "bare.so", "open", "site/nvidia/cublas/lib/libcublas.so.12",
                   "in", "bare.so", "AllGather", LD_LIBRARY_PATH=at("lib"),
                   lines=[OPENED, "core ncclAllGather", "wheel ncclAllGather"])

    def test_or_the_one_that_the_loader_finds(self):
        self.calls("host", "open", "bare.so", "in", "bare.so", "AllGather", LD_LIBRARY_PATH=at("lib"),
                   lines=[OPENED, "core ncclAllGather", "real ncclAllGather"])

    def test_the_path_that_the_user_gives(self):
        second = at("second/libnccl_second.so.2")
        self.calls("host", "open", "bare.so", "open", "plugin.so", "in", "bare.so", "AllGather",
                   SLIMCCL_NCCL=second, lines=[OPENED, "core ncclAllGather", "second ncclAllGather"])
        self.calls("program", "AllGather", "AllGather", SLIMCCL_NCCL=second, stub="alone", SLIMCCL_OVERLAY="off",
                   lines=["second ncclAllGather"] * 2, errors=["SLIMCCL_NCCL=.*bound to another copy"])

    def test_a_path_that_is_none(self):
        for path in ("/nowhere/libnccl.so.2", at("whole/libslimccl-preload.so"), at("plugin_none.so")):
            library("plugin_none.so", ["bystander.c"])
            self.calls("program", "AllGather", "AllGather", SLIMCCL_NCCL=path, SLIMCCL_OVERLAY="off",
                       lines=["real ncclAllGather"] * 2, errors=[f"SLIMCCL_NCCL={path}: "])

    def test_none_at_all(self):
        text = "no NCCL was found.*SLIMCCL_NCCL="
        os.makedirs(at("none"), exist_ok=True)
        with open(at("none/libnccl.so.2"), "w"):  # hides one that this machine may have
            pass
        got = run([at("host"), "open", at("bare.so"), *["in", at("bare.so"), "AllGather"] * 2,
                   "in", at("bare.so"), "GetLastError"], at("whole/libslimccl-preload.so"), LD_LIBRARY_PATH=at("none"))
        self.assertEqual(got[:2], (0, ["AllGather returned 2"] * 2 + got[1][2:]), got)
        self.assertRegex(got[1][2], text)
        self.assertEqual(len(got[2]), 1, got)
        self.assertRegex(got[2][0], WARN + text)


class Ourselves(Calls):
    def test_a_second_copy_of_the_stub(self):
        self.calls("program", "AllGather", stub="alone", SLIMCCL_OVERLAY="off", lines=["real ncclAllGather"])
        code, lines, errors = run([at("program"), "AllGather"],
                                  at("whole/libslimccl-preload.so") + ":" + at("alone/libslimccl-preload.so"),
                                  FAKE_TRACE="1")
        self.assertEqual((code, lines, errors), (0, [OPENED, "core ncclAllGather", "real ncclAllGather"], []))

    def test_the_stub_under_the_name_of_nccl(self):
        stub_in("named")
        os.rename(at("named/libslimccl-preload.so"), at("named/libnccl.so.2"))
        got = run([at("host"), "open", at("bare.so"), "in", at("bare.so"), "AllGather"],
                  at("whole/libslimccl-preload.so"), LD_LIBRARY_PATH=at("named"))
        self.assertEqual(got[:2], (0, ["AllGather returned 2"]), got)

    def test_opened_by_ctypes_instead_of_preloaded(self):
        script = ("import ctypes, sys; stub, plugin = sys.argv[1:]; ctypes.CDLL(stub, ctypes.RTLD_GLOBAL); "
                  "ctypes.CDLL(plugin).make_call(b'AllGather')")
        got = run(["/usr/bin/python3", "-c", script, at("whole/libslimccl-preload.so"), at("plugin.so")],
                  FAKE_TRACE="1")
        self.assertEqual(got, (0, [OPENED, "core ncclAllGather", "real ncclAllGather"], []))


class Versions(Calls):
    def test_too_old_is_exact_and_one_line_says_so(self):
        self.calls("program_old", "AllGather", "AllGather", lines=["old ncclAllGather"] * 2,
                   errors=[r"NCCL \S*old/libnccl.so.2 has version code 21700, .*2\.18\.0.*exact$"])

    def test_and_silent_when_switched_off(self):
        self.calls("program_old", "AllGather", lines=["old ncclAllGather"], SLIMCCL_OVERLAY="off")

    def test_a_function_that_it_lacks_is_an_error_that_says_so(self):
        for name, version in (("old", 21700), ("newer", 22703)):
            got = run([at("program_" + name), "AlltoAll", "GetLastError", "AllGather", "GetLastError"],
                      at("whole/libslimccl-preload.so"), SLIMCCL_LOG="none")
            text = f"ncclAlltoAll is not in this NCCL (version code {version}, {at(name)}/libnccl.so.2); it takes a newer NCCL"
            self.assertEqual(got, (0, ["AlltoAll returned 5", text, name], []))


if __name__ == "__main__":
    fakes.harness.main()
