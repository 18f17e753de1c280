"""What the cluster and multi suites share: a cluster per test class, runs of collective_perf, and
results in GoogleTest's JSON where ./dev test looks for them (GTEST_OUTPUT)."""
import json
import os
import signal
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "dev"))
import launch  # noqa: E402

BUILD = os.environ.get("SLIMCCL_BUILD", os.path.join(ROOT, "build"))
PERF = os.path.join(BUILD, "perf", "collective_perf")
MIB = 1 << 20


def perf(collective, nodes, cluster=None, env=None, timeout=180, flags=()):
    """Rows of collective_perf -c 1, all of them right, or an exception that shows the ranks' output."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.json")
        command = [PERF, collective, "-c", "1", "-n", "1", "-w", "0", "--json", path, *flags]
        if cluster:
            command += ["--interface", "eth0"]
        environment = {"SLIMCCL_LOG": "warn", "SLIMCCL_TIMEOUT_S": 60, **(env or {})}
        launch.run(command, nodes, cluster, environment, timeout)
        with open(path) as file:
            return json.load(file)


def formula_bytes(collective, nodes, count, width):
    """What an exact two-level collective sends between nodes, all nodes together: every node sends
    the others its shards, or the slices of the others' ranks, once."""
    labels = launch.parse_nodes(nodes)
    others = len(set(labels)) - 1
    total = count * len(labels) if collective != "all_reduce" else count
    return total * others * width * (2 if collective == "all_reduce" else 1)


class ClusterTest(unittest.TestCase):
    """A cluster of `nodes` nodes lives as long as the class."""

    nodes, rate = 3, "none"

    @classmethod
    def setUpClass(cls):
        if os.getuid() != 0:
            raise unittest.SkipTest("making network namespaces needs root")
        cls.cluster = f"t{os.getpid()}{cls.__name__[:3].lower()}"
        launch.cluster_up(cls.cluster, cls.nodes, cls.rate)

    @classmethod
    def tearDownClass(cls):
        launch.cluster(cls.cluster, "down")


class Results(unittest.TextTestResult):
    """Remembers each case with its time and outcome."""

    def __init__(self, *args):
        super().__init__(*args)
        self.cases = []

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()

    def note(self, test, **outcome):
        seconds = time.monotonic() - getattr(self, "started", time.monotonic())
        self.cases.append({"name": test.id(), "classname": type(test).__name__, "status": "RUN",
                           "result": "COMPLETED", "time": f"{seconds:.3f}s", **outcome})
        self.stream.writeln(f"   {test.id()}: {seconds:.1f} s")

    def addSuccess(self, test):
        super().addSuccess(test)
        self.note(test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, result="SKIPPED", skipped=[{"message": reason}])

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, failures=[{"failure": str(error[1])}])

    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, failures=[{"failure": str(error[1])}])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that clusters are taken down
    program = unittest.main(exit=False, verbosity=2, testRunner=unittest.TextTestRunner(
        resultclass=Results, verbosity=2))
    result = program.result
    output = os.environ.get("GTEST_OUTPUT", "")
    if output.startswith("json:"):
        with open(output[5:], "w") as file:
            json.dump({"testsuites": [{"name": "python", "testsuite": result.cases}]}, file)
    sys.exit(0 if result.wasSuccessful() else 1)
