#!/usr/bin/python3
"""./dev test [SUITE...]: builds what the suites need, runs them one after the other, counts cases.

pure, conformance, multi, soak, cluster, abi, cuda, overlay and trainers are Meson suites of the same build; asan
and tsan are builds of their own; shape reads the sources. GoogleTest programs (and the Python tests, in the same
format) are counted case by case, any other program as one. The last line is
`N passed, N failed, N skipped`; the exit code is 1 when anything failed.
"""
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.environ["SLIMCCL_ROOT"]
BUILD = os.environ["SLIMCCL_BUILD"]
MESON_SUITES = ("pure", "conformance", "multi", "soak", "cluster", "abi", "cuda", "overlay", "trainers")
DEFAULT = (*MESON_SUITES, "shape")
FAILURE_LINES = 60  # of what one failed case says, repeated at the end
SANITIZERS = {
    "asan": {"folder": "build-asan", "option": "address,undefined",
             "suites": ("pure", "conformance", "cuda"), "filter": None},
    # UCX is not built for TSan, which would report its insides; loopback and shm are our own code.
    "tsan": {"folder": "build-tsan", "option": "thread", "suites": ("conformance", "threads"),
             "filter": "*-*ucx*:*Ucx*"},
}
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:detect_stack_use_after_return=1:abort_on_error=0:"
                    "allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "LSAN_OPTIONS": f"suppressions={ROOT}/tools/dev/lsan.supp:print_suppressions=0",
    # UCX's memory hooks call back into TSan on threads that TSan has already let go.
    "UCX_MEM_MMAP_HOOK_MODE": "none",
    # Some tests ask for more memory than there can be.
    "TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1:allocator_may_return_null=1:"
                    f"suppressions={ROOT}/tools/dev/tsan.supp",
}


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def fail(self, what, message=""):
        self.failed += 1
        self.failures.append((what, message))
        print(f"FAILED  {what}", flush=True)

    def tell_failures(self):
        """Once more, at the end, where a log that was cut short still shows them."""
        for what, message in self.failures:
            lines = message.splitlines()
            left_out = len(lines) - FAILURE_LINES
            print(f"FAILED  {what}")
            print("".join(f"   | {line}\n" for line in lines[:FAILURE_LINES]), end="")
            if left_out > 0:
                print(f"   | ... and {left_out} lines more")

    def skip(self, what, reason):
        self.skipped += 1
        print(f"SKIPPED {what}: {reason}", flush=True)


def say(text):
    print(f"== {text}", flush=True)


def build(folder, options=(), targets=()):
    """tools/dev/common.sh has the one way to build. Without targets: everything."""
    command = f". tools/dev/common.sh && build {shlex.quote(folder)} " + shlex.join(options)
    env = dict(os.environ, BUILD_TARGETS=" ".join(targets))
    return subprocess.run(["bash", "-c", command], cwd=ROOT, env=env,
                          stdin=subprocess.DEVNULL).returncode == 0


def meson_tests(folder, suites):
    output = subprocess.run(["/usr/bin/meson", "introspect", "--tests", folder], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    names = {f"slimccl:{suite}": suite for suite in suites}
    for test in json.loads(output):
        if any(suite in names or suite in suites for suite in test["suite"]):
            yield test


def run_bounded(command, env, timeout, cwd):
    """Output and exit code (None: the time-out); ends the whole process group, children included."""
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
        return output.decode(errors="replace"), process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            output, _ = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            output = b""
        return output.decode(errors="replace"), None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def skip_reason(case, output):
    for skipped in case.get("skipped", []):
        return skipped["message"].strip().split("\n")[-1]
    # GoogleTest 1.12 leaves the reason out of its JSON: it is in the output, after ": Skipped".
    name = f"{case.get('classname', '')}.{case['name']}"
    after = output.partition(f"[ RUN      ] {name}")[2].partition("[  SKIPPED ]")[0]
    return after.partition(": Skipped\n")[2].strip().replace("\n", " ") or "no reason given"


def count_cases(path, output, tally):
    with open(path) as file:
        suites = json.load(file)["testsuites"]
    failed = 0
    for case in (case for suite in suites for case in suite["testsuite"]):
        name = f"{case.get('classname', '')}.{case['name']}"
        if case.get("failures"):
            failed += 1
            tally.fail(name, "\n".join(each["failure"] for each in case["failures"]))
        elif case["result"] == "SKIPPED":
            tally.skip(name, skip_reason(case, output))
        elif case["status"] == "RUN":
            tally.passed += 1
    return failed


def run_one(test, folder, tally, extra_env, slowdown):
    """Runs one Meson test and counts its cases."""
    handle, path = tempfile.mkstemp(suffix=".json")
    os.close(handle)
    os.unlink(path)
    env = {**os.environ, **test["env"], **extra_env, "GTEST_OUTPUT": f"json:{path}"}
    started = time.monotonic()
    timeout = (test["timeout"] or 600) * slowdown
    output, code = run_bounded(test["cmd"], env, timeout, test["workdir"] or folder)
    before = tally.passed, tally.failed, tally.skipped
    seen = 0
    if os.path.exists(path):
        seen = count_cases(path, output, tally)
        os.unlink(path)
        if code not in (0, None) and seen == 0:
            tally.fail(f"{test['name']}: exit code {code} although no case failed")
    elif code == 0:
        tally.passed += 1
    elif code == 77:
        tally.skip(test["name"], output.strip().split("\n")[-1])
    elif code is not None:
        tally.fail(f"{test['name']}: exit code {code}")
    if code is None:
        tally.fail(f"{test['name']}: still running after {timeout} s, ended")
    after = tally.passed, tally.failed, tally.skipped
    passed, failed, skipped = (b - a for a, b in zip(before, after))
    seconds = time.monotonic() - started
    print(f"   {test['name']}: {passed} passed, {failed} failed, {skipped} skipped, {seconds:.1f} s",
          flush=True)
    if failed:
        print("\n".join(f"   | {line}" for line in output.splitlines()[-80:]), flush=True)


def in_folder(test, folder):
    return test["cmd"][0].startswith(folder + os.sep)


def run_suites(suites, folder, tally, extra_env=None, slowdown=1, only_built=False):
    tests = [test for test in meson_tests(folder, suites) if not only_built or in_folder(test, folder)]
    if not tests:
        tally.fail(f"suite {' '.join(suites)} has no tests: is its folder in tests/meson.build?")
    for test in tests:
        run_one(test, folder, tally, extra_env or {}, slowdown)


def loaded_by(tests, folder):
    """What the tests load at run time: building the programs does not build it."""
    output = subprocess.run(["/usr/bin/meson", "introspect", "--targets", folder], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    wanted = {target for test in tests for target in test["depends"]}
    return {file for target in json.loads(output) if target["id"] in wanted
            for file in target["filename"]}


def run_sanitizer(name, tally):
    what = SANITIZERS[name]
    folder = os.path.join(ROOT, what["folder"])
    options = ("--buildtype=debugoptimized", f"-Db_sanitize={what['option']}", "-Db_lundef=false")
    if not build(folder, options, ["build.ninja"]):  # configured, so that the tests are known
        tally.fail(f"{name}: {folder} could not be configured")
        return
    tests = [test for test in meson_tests(folder, what["suites"]) if in_folder(test, folder)]
    files = {test["cmd"][0] for test in tests} | loaded_by(tests, folder)
    if not build(folder, options, sorted(os.path.relpath(file, folder) for file in files)):
        tally.fail(f"{name}: the build in {folder} failed")
        return
    env = dict(SANITIZER_ENV)
    if what["filter"]:
        env["GTEST_FILTER"] = what["filter"]
    run_suites(what["suites"], folder, tally, env, slowdown=5, only_built=True)


def run_shape(tally):
    result = subprocess.run(["/usr/bin/python3", "tools/check_shape.py", "--count"], cwd=ROOT,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    for line in result.stdout.splitlines():
        if line.startswith("ok "):
            tally.passed += 1
            print(f"   {line[3:]}")
        else:
            tally.fail(line) if line.startswith("bad ") else print(f"   | {line}")
    if result.returncode not in (0, 1):
        tally.fail(f"tools/check_shape.py: exit code {result.returncode}")


def run_step(suite, tally):
    started, failed = time.monotonic(), tally.failed
    say(f"suite {suite}")
    if suite == "shape":
        run_shape(tally)
    elif suite in SANITIZERS:
        run_sanitizer(suite, tally)
    else:
        run_suites((suite,), BUILD, tally)
    verdict = "failed" if tally.failed > failed else "ok"
    say(f"suite {suite}: {verdict}, {time.monotonic() - started:.0f} s")


def main():
    suites = sys.argv[1:]
    known = DEFAULT + tuple(SANITIZERS)
    unknown = [suite for suite in suites if suite not in known]
    if unknown:
        sys.exit(f"dev: no suite '{unknown[0]}'; there are {', '.join(known)}")
    if not suites:
        suites = known if os.environ.get("CI") == "true" else DEFAULT
    tally = Tally()
    if any(suite in MESON_SUITES for suite in suites) and not build(BUILD):
        tally.fail("build")
        suites = [suite for suite in suites if suite == "shape"]
    for suite in suites:
        run_step(suite, tally)
    tally.tell_failures()
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped", flush=True)
    sys.exit(1 if tally.failed else 0)


if __name__ == "__main__":
    main()
