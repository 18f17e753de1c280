"""Bytes that the nodes of a pretend cluster have sent at each step of a run, read from their
interfaces when rank 0 prints the step's line."""
import glob
import os
import re
import shutil
import statistics
import threading

CLUSTERS = "/run/slimccl-cluster"  # tools/dev/cluster
STEP = re.compile(rb"^step (\d+) .*$", re.M)


class Meter:
    """Watches the output of a run in `folder` from `with` until its end."""

    PAUSE_S = 0.01

    def __init__(self, cluster, nodes, folder, on_step=None):
        """on_step: called with each step's line and the bytes sent since the one before."""
        self.folder, self.sent_by_step = folder, {}
        self.on_step, self.before = on_step, None
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
            for found in STEP.finditer(text[:text.rfind(b"\n") + 1]):
                self.see(int(found[1]), found[0].decode(errors="replace"))
        if file:
            file.close()

    def see(self, step, line):
        sent = self.sent()
        self.sent_by_step[step] = sent
        if self.on_step:
            self.on_step(line, sent - self.before if self.before else None)
        self.before = sent

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run before
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def per_step(self, first, last):
        """Bytes of a step between nodes, all nodes together, from the end of step `first` to that of
        `last`; None where a line was not seen. A reading may come late, when some of the next step
        was sent already: so it is the median over pairs of steps that are half of all apart."""
        sent = [self.sent_by_step.get(step) for step in range(first, last + 1)]
        if None in sent or last <= first:
            return None
        apart = len(sent) // 2
        return statistics.median((later - earlier) / apart
                                 for earlier, later in zip(sent, sent[apart:]))
