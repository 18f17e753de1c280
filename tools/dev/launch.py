#!/usr/bin/python3
"""Starts the ranks of a program, on this machine or on the nodes of a pretend cluster.

  launch.py [--cluster NAME] [--nodes 2x2|3+1|0,1,0,1] [--timeout S] -- PROGRAM ARGS...

Every rank gets torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR,
MASTER_PORT). Without --cluster the ranks run here and SLIMCCL_NODE_ID pretends the nodes. The first
rank that fails, or the time-out, ends all the others; the report says who failed and how. No rank
outlives the launcher.
"""
import argparse
import ctypes
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time

CLUSTER_TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cluster")


def parse_nodes(text):
    """'2x2', '3+1' or '0,1,0,1' -> the node of each rank, nodes numbered by their lowest rank."""
    try:
        if "x" in text:
            nodes, ranks = (int(part) for part in text.split("x"))
            labels = [node for node in range(nodes) for _ in range(ranks)]
        elif "," in text:
            labels = [int(part) for part in text.split(",")]
        else:
            labels = [node for node, part in enumerate(text.split("+")) for _ in range(int(part))]
    except ValueError:
        labels = []
    if not labels or min(labels) < 0:
        raise ValueError(f"'{text}' is no topology; write 2x2, 3+1 or 0,1,0,1")
    return labels


def cluster_up(name, nodes, rate="none"):
    """A cluster that goes away with this process, even if it is killed before it says down."""
    env = dict(os.environ, CLUSTER_NAME=name, CLUSTER_OWNER=str(os.getpid()))
    subprocess.run([CLUSTER_TOOL, "up", str(nodes), rate], env=env, check=True, timeout=30)


def cluster(name, *command):
    env = dict(os.environ, CLUSTER_NAME=name)
    return subprocess.run([CLUSTER_TOOL, *command], env=env, check=True, timeout=30, text=True,
                          stdout=subprocess.PIPE).stdout


def cluster_bytes(name):
    """[(sent, received)] per node."""
    lines = cluster(name, "bytes").splitlines()
    return [tuple(int(word) for word in line.split()[1:3]) for line in lines]


class Rank:
    """One started process; its output is collected, and shown with a prefix when asked for."""

    def __init__(self, rank, node, process):
        self.rank, self.node, self.process = rank, node, process
        self.output, self.code = b"", None

    @property
    def text(self):
        return self.output.decode(errors="replace")


def die_with_parent():
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def kill(ranks):
    for rank in ranks:
        if rank.process.poll() is None:
            try:
                os.killpg(rank.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                rank.process.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(command, nodes, cluster_name=None, env=None, output=subprocess.PIPE):
    """Starts all ranks and returns them; the caller ends them with finish() or kill(). With `output`,
    a file, they print there and only kill() ends them."""
    labels = parse_nodes(nodes) if isinstance(nodes, str) else nodes
    address = f"10.88.0.{labels[0] + 1}" if cluster_name else "127.0.0.1"
    port = random.randrange(20000, 30000) if cluster_name else free_port()
    prefixes = {}
    for node in set(labels):
        text = cluster(cluster_name, "prefix", str(node)) if cluster_name else ""
        prefixes[node] = text.split()
    ranks = []
    try:
        for rank, node in enumerate(labels):
            variables = {"RANK": rank, "WORLD_SIZE": len(labels), "MASTER_ADDR": address,
                         "MASTER_PORT": port, "LOCAL_RANK": labels[:rank].count(node),
                         "LOCAL_WORLD_SIZE": labels.count(node), **(env or {})}
            if not cluster_name:
                variables.setdefault("SLIMCCL_NODE_ID", f"node{node}")
            full = dict(os.environ, **{name: str(value) for name, value in variables.items()})
            process = subprocess.Popen(prefixes[node] + command, env=full, stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT,
                                       preexec_fn=die_with_parent)
            ranks.append(Rank(rank, node, process))
    except BaseException:
        kill(ranks)
        raise
    return ranks


def finish(ranks, timeout=120, show=False, stop_on_failure=True):
    """Collects output until all ranks have ended. Returns a list of complaints, empty if all is well."""
    complaints, deadline = [], time.monotonic() + timeout

    def look():
        for rank in ranks:
            if rank.code is None and rank.process.poll() is not None:
                rank.code = rank.process.returncode
                if rank.code != 0 and stop_on_failure and not complaints:
                    complaints.append(f"rank {rank.rank} on node {rank.node} {how(rank.code)}")

    with selectors.DefaultSelector() as selector:
        for rank in ranks:
            selector.register(rank.process.stdout, selectors.EVENT_READ, rank)
        try:
            # The end of the output comes a little before the end of the process.
            while selector.get_map() or any(rank.code is None for rank in ranks):
                for key, _ in selector.select(0.1) if selector.get_map() else ():
                    read_some(key.data, selector, show)
                failed_before = bool(complaints)
                look()
                if complaints and not failed_before:
                    deadline = min(deadline, time.monotonic() + 2)  # others may explain it
                if time.monotonic() > deadline:
                    late = [rank.rank for rank in ranks if rank.process.poll() is None]
                    if late and not complaints:
                        complaints.append(f"ranks {late} were still running after {timeout} s")
                    break
                if not selector.get_map():
                    time.sleep(0.002)
        finally:
            kill(ranks)
            for rank in ranks:
                rank.process.wait(10)
                if rank.code is None:
                    rank.code = rank.process.returncode
                rank.process.stdout.close()
    return complaints


def read_some(rank, selector, show):
    data = os.read(rank.process.stdout.fileno(), 65536)
    if not data:
        selector.unregister(rank.process.stdout)
    rank.output += data
    if show and data:
        sys.stdout.write(data.decode(errors="replace"))
        sys.stdout.flush()


def how(code):
    if code >= 0:
        return f"exited with code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def run(command, nodes, cluster_name=None, env=None, timeout=120, show=False):
    """Starts, collects, and raises RuntimeError with every rank's last lines if one failed."""
    ranks = start(command, nodes, cluster_name, env)
    complaints = finish(ranks, timeout, show)
    if complaints:
        tails = [f"[rank {rank.rank}] " + line for rank in ranks
                 for line in rank.text.splitlines()[-6:]]
        raise RuntimeError("\n".join(complaints + tails))
    return ranks


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", help="name of a cluster that is up (CLUSTER_NAME)")
    parser.add_argument("--nodes", default="2x2")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(options.command, options.nodes, options.cluster, timeout=options.timeout, show=True)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"launch: {error}")


if __name__ == "__main__":
    main()
