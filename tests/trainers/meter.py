"""Bytes that the nodes of a pretend cluster have sent at each step of a run, read from their
interfaces when rank 0 prints the step's line."""
import glob
import os
import re
import threading

CLUSTERS = "/run/slimccl-cluster"  # tools/dev/cluster
STEP = re.compile(rb"^step (\d+) ", re.M)


class Meter:
    """Watches the output of a run in `folder` from `with` until its end."""

    PAUSE_S = 0.01

    def __init__(self, cluster, nodes, folder):
        self.folder, self.sent_by_step = folder, {}
        self.counters = []
        for node in range(nodes):
            with open(os.path.join(CLUSTERS, cluster, f"{node}.pid"), encoding="utf-8") as file:
                keeper = file.read().strip()  # its mounts are the node's
            self.counters.append(f"/proc/{keeper}/root/sys/class/net/eth0/statistics/tx_bytes")
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def sent(self):
        total = 0
        for path in self.counters:
            with open(path, encoding="utf-8") as file:
                total += int(file.read())
        return total

    def output(self):
        found = glob.glob(os.path.join(self.folder, "node0", "*", "attempt_0", "0", "stdout.log"))
        return found[0] if found else None

    def watch(self):
        file, text = None, b""
        while not self.ended.wait(self.PAUSE_S):
            if file is None and self.output():
                file = open(self.output(), "rb")  # pylint: disable=consider-using-with
            if file is None:
                continue
            text = text[text.rfind(b"\n") + 1:] + file.read()
            for step in STEP.findall(text[:text.rfind(b"\n") + 1]):
                self.sent_by_step.setdefault(int(step), self.sent())
        if file:
            file.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def per_step(self, first, last):
        """Mean bytes of a step between nodes, all nodes together, from the end of one step to the
        end of another; None where a line was not seen."""
        if first not in self.sent_by_step or last not in self.sent_by_step:
            return None
        return (self.sent_by_step[last] - self.sent_by_step[first]) / (last - first)
