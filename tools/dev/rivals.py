#!/usr/bin/python3
"""./dev bench rivals: our exact collectives beside MPICH's, OpenMPI's and oneCCL's.

2 nodes with 2 ranks each on the pretend cluster, fp32. One group of ranks per library stays up; the
libraries take turns, round by round, and those whose turn it is not are blocked and use no core (which
is measured). A turn is one call that warms up and then timed calls. Size: bytes of the larger side of
the call on each rank (all-gather: the output, reduce-scatter: the input). Every library's results are
checked first, on small integers. Bytes are those of the nodes' interfaces. Writes rivals.json and
rivals.png into --out. The exit code is that of rivals_report.py. Root only.
"""
import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import launch
import rivals_groups
import rivals_report

TOPOLOGY, NODES, RANKS = "2x2", 2, 4
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter")
MIB = 1 << 20
START_TIMEOUT, CALL_TIMEOUT = 60, 120


class Bench:
    """The cluster, the groups that live, and what they measured."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.cluster = f"rivals{os.getpid()}n"
        self.groups, self.samples, self.checks = [], [], []
        names = list(rivals_groups.STARTERS)
        self.failures = dict.fromkeys(names) | dict(options.missing)
        self.versions, self.idle = dict.fromkeys(names, ""), {name: [0.0, 0.0] for name in names}
        self.programs = {**{name: os.path.join(options.peers, f"rivals_{name.lower()}") for name in names},
                         rivals_groups.OURS: options.ours, "peers": options.peers}

    def __enter__(self):
        launch.cluster_up(self.cluster, NODES, self.options.rate)
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave it half removed
        for group in self.groups:
            group.close()
        launch.cluster(self.cluster, "down")

    def fail(self, group, reason):
        print(f"== {group.name} is out: {reason}", flush=True)
        self.failures[group.name] = str(reason)
        if group in self.groups:
            self.groups.remove(group)
        group.close()

    @contextlib.contextmanager
    def watch(self, group):
        """What goes wrong in here ends this group, not the run."""
        try:
            yield
        except (rivals_groups.GroupFailure, OSError) as error:
            self.fail(group, error)

    def open_groups(self):
        for name, starter in rivals_groups.STARTERS.items():
            if self.failures[name]:
                continue

            def start(path, log, starter=starter):
                return starter(self.programs, TOPOLOGY, self.cluster, path, log)

            group = rivals_groups.Group(name, RANKS, self.folder, start)
            with self.watch(group):
                group.open(START_TIMEOUT)
                self.groups.append(group)
                self.versions[name] = group.version
                print(f"   {name}: {group.version}", flush=True)
                expected = [f"{self.cluster}{node}" for node in launch.parse_nodes(TOPOLOGY)]
                if group.hosts() != expected:
                    group.fail(f"its ranks are on {group.hosts()}, not on {expected}")

    def check(self, collective, size):
        """Prepares the call in every group; one whose result is wrong is not timed."""
        right = []
        for group in list(self.groups):
            with self.watch(group):
                answers = group.ask(f"prepare {collective} {size // 4}", CALL_TIMEOUT)
                wrong = sum(answer["wrong"] for answer in answers)
                self.checks.append({"collective": collective, "bytes": size, "library": group.name, "wrong": wrong})
                if wrong == 0:
                    right.append(group)
        return right

    def turn(self, group):
        """Seconds of each timed call, and (sent, received) bytes of each node per call."""
        others = [(other, other.cpu_seconds()) for other in self.groups if other is not group]
        started = time.monotonic()
        before = launch.cluster_bytes(self.cluster)
        calls = 1 + self.options.iterations
        seconds = [group.time(CALL_TIMEOUT) for _ in range(calls)]
        after = launch.cluster_bytes(self.cluster)
        for other, cpu in others:
            self.idle[other.name][0] += max(0.0, other.cpu_seconds() - cpu)
            self.idle[other.name][1] += time.monotonic() - started
        wire = [[(last - first) / calls for first, last in zip(*node)] for node in zip(before, after)]
        return seconds[1:], wire

    def measure(self, collective, size):
        right = self.check(collective, size)
        for number in range(self.options.rounds):
            seen = []
            for group in right:
                if group not in self.groups:
                    continue
                with self.watch(group):
                    seconds, wire = self.turn(group)
                    self.samples.append({"collective": collective, "bytes": size, "library": group.name,
                                         "round": number, "seconds": seconds, "wire": wire})
                    seen.append(f"{group.name} {1e3 * sorted(seconds)[len(seconds) // 2]:.0f}")
            print(f"   {collective}, {size // MIB} MiB, round {number + 1} of {self.options.rounds}, ms: "
                  + ", ".join(seen), flush=True)

    def libraries(self):
        return [{"name": name, "version": self.versions[name], "failure": self.failures[name],
                 "settings": [{"setting": setting, "why": why} for setting, why in rivals_groups.SETTINGS[name]],
                 "idle_cpu": self.idle[name][0] / self.idle[name][1] if self.idle[name][1] else 0.0}
                for name in rivals_groups.STARTERS]


def cpu_model():
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else os.uname().machine


def commit():
    """The short hash, with a + when the tree differs from it; "unknown" outside of git."""
    command = ["git", "-c", "safe.directory=*", "-C", os.path.dirname(os.path.abspath(__file__))]
    result = subprocess.run([*command, "describe", "--always", "--exclude=*", "--dirty=+"], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return result.stdout.strip() or "unknown"


def run(options):
    """All that rivals.json says, but for the summary."""
    load = os.getloadavg()[0]
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    sizes = [size * MIB for size in options.sizes]
    folder = tempfile.mkdtemp(prefix="slimccl-rivals.")
    os.environ["TMPDIR"] = folder  # the MPIs keep files there
    try:
        with Bench(options, folder) as bench:
            bench.open_groups()
            for collective in COLLECTIVES:
                for size in sizes:
                    bench.measure(collective, size)
            libraries = bench.libraries()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"date": date, "commit": commit(), "cpu": cpu_model(), "cores": os.cpu_count(), "kernel": os.uname().release,
            "load_before": load, "load_after": os.getloadavg()[0], "topology": TOPOLOGY, "rate": options.rate,
            "type": "float32", "rounds": options.rounds, "iterations": options.iterations,
            "collectives": list(COLLECTIVES), "sizes": sizes, "libraries": libraries, "checks": bench.checks,
            "samples": bench.samples}


def write(data, out):
    results = rivals_report.Results(data)
    data["results"] = rivals_report.summary(results)
    data["verdicts"] = [{"collective": verdict.case[0], "bytes": verdict.case[1], "rival": verdict.rival,
                         "ratio": verdict.ratio, "passed": verdict.passed, "reason": verdict.reason}
                        for verdict in rivals_report.verdicts(results)]
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "rivals.json"), "w") as file:
        json.dump(data, file, indent=1)
    import rivals_chart  # matplotlib takes its time
    rivals_chart.draw(results, os.path.join(out, "rivals.png"))


def named_reason(text):
    name, found, reason = text.partition("=")
    if name not in rivals_groups.STARTERS or not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not LIBRARY=REASON")
    return name, reason


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the program rivals_slimccl")
    parser.add_argument("--peers", required=True, help="the folder of the rivals and their programs")
    parser.add_argument("--out", required=True, help="the folder of rivals.json and rivals.png")
    parser.add_argument("--missing", action="append", default=[], type=named_reason, metavar="LIBRARY=REASON",
                        help="a library that could not be installed")
    parser.add_argument("--quick", action="store_true", help="one size, 3 rounds: does it work?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3, help="timed calls of a turn (3)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64], metavar="MIB")
    parser.add_argument("--rate", default="1gbit")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.rounds, options.iterations = options.sizes[:1], 3, 1
    if min(options.rounds, options.iterations, *options.sizes) < 1:
        parser.error("rounds, iterations and sizes start at 1")
    return options


def main():
    options = parse()
    if os.getuid() != 0:
        sys.exit("rivals: the pretend cluster is made of network namespaces and needs root; run it with "
                 "sudo ./dev bench rivals")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    started = time.monotonic()
    print("== a pretend cluster: 2 nodes, 2 ranks each; the libraries take turns", flush=True)
    try:
        data = run(options)
    except KeyboardInterrupt:
        sys.exit(130)
    write(data, options.out)
    code = rivals_report.report(data)
    print(f"== wrote {options.out}/rivals.json and rivals.png; {time.monotonic() - started:.0f} s")
    sys.exit(code)


if __name__ == "__main__":
    main()
