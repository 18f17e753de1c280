"""Runs compress_client on pretend nodes: the preload over the vendor's stand-in, on emulated CUDA.
A test writes a program (see client.c) of Calls; the rig leaves each rank's input for the client,
and finds its output, the overlay's report, and what the stand-in itself counted."""
import dataclasses
import glob
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cluster"))
import harness  # noqa: E402
import launch  # noqa: E402

for reason, applies in (("built without nvcc, so there are no kernels", "no-kernels" in sys.argv),
                        ("python3 has no numpy", importlib.util.find_spec("numpy") is None)):
    if applies:
        print(f"SKIPPED: {reason}")
        sys.exit(77)
sys.argv = [word for word in sys.argv if word != "kernels"]
import numpy as np  # noqa: E402

import formats  # noqa: E402

TESTS = os.path.join(harness.BUILD, "tests")
CLIENT = os.environ.get("COMPRESS_CLIENT",
                        os.path.join(TESTS, "overlay", "compress", "compress_client"))
LIBRARIES = os.environ.get("COMPRESS_LIBRARIES") or ":".join(
    os.path.join(TESTS, folder) for folder in ("cuda/emulated", "vendor"))
PRELOAD = os.environ.get("COMPRESS_PRELOAD",
                         os.path.join(harness.BUILD, "plugin", "preload", "libslimccl-preload.so"))
STRICT = os.environ.get("COMPRESS_STRICT_NCCL", os.path.join(
    TESTS, "overlay", "compress", "libstrict_nccl.so"))  # for SLIMCCL_NCCL
STARTED = re.compile(r"NOTICE overlay \S+ over NCCL ")
VENDOR_BYTES = re.compile(r"rank 0: .*; (\d+) bytes sent to other nodes")
# The stand-in has settings of its own; both must take the same ranks for a node's.
RANK = 'export VENDOR_SLIMCCL_NODE_ID=$SLIMCCL_NODE_ID; case $RANK in {cases}*) ;; esac; exec "$@"'


def gradients(rng, elems):
    """Noise whose size differs from block to block, as from layer to layer."""
    sizes = np.repeat(np.exp(rng.standard_normal(elems // 512 + 1)), 512)[:elems]
    return (rng.standard_normal(elems) * sizes * 1e-3).astype(np.float32)


def weights(rng, elems):
    return (rng.standard_normal(elems) * 0.02).astype(np.float32)


def zeros(_, elems):
    return np.zeros(elems, np.float32)


@dataclasses.dataclass
class Call:
    op: str
    count: int
    type: str = "float32"
    reduction: str = "sum"
    in_place: bool = False
    offset: int = 0
    stream: int = 0
    comm: int = 0
    content: object = None  # of (random generator, elements); else what suits the operation
    spoil: object = None  # of (rank, values): changes a rank's values
    number: int = -1  # given by the run

    def line(self):
        return (f"call {self.number} {self.op} {self.type} {self.count} {self.reduction} "
                f"{'in' if self.in_place else 'out'} {self.offset} {self.stream} {self.comm}")

    def values(self, rank, ranks):
        content = self.content or (weights if self.op == "all_gather" else gradients)
        elems = self.count * (ranks if self.op == "reduce_scatter" else 1)
        made = content(np.random.default_rng([self.number, rank]), elems)
        if self.spoil:
            self.spoil(rank, made)
        return made


class Run:
    """What a finished run left behind."""

    def __init__(self, folder, labels, calls, processes, complaints):
        self.folder, self.labels, self.calls = folder, labels, calls
        self.processes, self.complaints = processes, complaints
        self.texts = [process.text for process in processes]
        self.text = "\n".join(f"[{index}] {line}" for index, text in enumerate(self.texts)
                              for line in text.splitlines())
        self.warnings = [line for line in self.text.splitlines() if "WARN overlay" in line]
        self.communicators = []  # of all processes, as the overlay reports them
        for path in glob.glob(os.path.join(folder, "report-*.json")):
            with open(path) as file:
                self.communicators += json.load(file)["communicators"]

    def data(self, call, rank, which="out"):
        with open(os.path.join(self.folder, f"{call.number}.{rank}.{which}"), "rb") as file:
            return file.read()

    def of_rank(self, rank):
        return [one for one in self.communicators if one["rank"] == rank]

    def reasons(self, rank):
        """{operation: {reason: calls}} of all communicators of a rank."""
        sums = {}
        for one in self.of_rank(rank):
            for op, reasons in one["calls"].items():
                for reason, calls in reasons.items():
                    sums.setdefault(op, {}).setdefault(reason, 0)
                    sums[op][reason] += calls
        return sums

    def between_nodes(self, rank, which="compressed_bytes"):
        return sum(one["between_nodes"][which] for one in self.of_rank(rank))

    def vendor_bytes(self):
        """What rank 0 sent to other nodes, as the stand-in counted it."""
        return sum(int(found) for found in VENDOR_BYTES.findall(self.texts[0]))


class Rig(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, folder, programs, ranks):
        """Programs and inputs; returns the calls, numbered."""
        calls = []
        for thread, program in enumerate(programs):
            lines = []
            for step in program:
                if isinstance(step, Call):
                    step = dataclasses.replace(step, number=len(calls))
                    calls.append(step)
                lines.append(step.line() if isinstance(step, Call) else step)
            with open(os.path.join(folder, f"program.{thread}"), "w") as file:
                file.write("\n".join(lines) + "\n")
        for call in calls:
            for rank in range(ranks):
                with open(os.path.join(folder, f"{call.number}.{rank}.in"), "wb") as file:
                    file.write(formats.to_type(call.values(rank, ranks), call.type))
        return calls

    def run_client(self, *programs, nodes="2x2", per_node=False, preload=True, profile="zeropp",
                   env=None, of_process=None, comms=1, abort=None, timeout=90, may_fail=False):
        """`programs`: one for each host thread. `of_process`: {its number: more variables}."""
        labels = launch.parse_nodes(nodes)
        folder = tempfile.mkdtemp(dir=self.folder)
        calls = self.write(folder, programs, len(labels))
        order = list(dict.fromkeys(labels))
        groups = [[rank for rank, label in enumerate(labels) if label == node] for node in order] \
            if per_node else [[rank] for rank in range(len(labels))]
        variables = {
            "LD_LIBRARY_PATH": LIBRARIES, "FOLDER": folder, "COMMS": comms,
            "THREADS": len(programs), "RANKS_OF": ";".join(",".join(map(str, g)) for g in groups),
            "SLIMCCL_EMULATED_DEVICES": 4, "SLIMCCL_EMULATED_MB": 2048,
            "SLIMCCL_EMULATED_DELAY_US": 100, "SLIMCCL_PROFILE": profile, "SLIMCCL_FLOOR": 1000,
            "SLIMCCL_NET_GBITS": 0.001,  # so slow that it always pays to compress
            "SLIMCCL_ARENA_MB": 64, "SLIMCCL_AGREE_S": 30, "SLIMCCL_TIMEOUT_S": 60,
            "SLIMCCL_ADDRESS": "127.0.0.1", "VENDOR_SLIMCCL_ADDRESS": "127.0.0.1",
            "VENDOR_SLIMCCL_TIMEOUT_S": 60, "VENDOR_SLIMCCL_LOG": "notice", "SLIMCCL_LOG": "notice",
            "SLIMCCL_REPORT": os.path.join(folder, "report-%p.json"),
            **({"LD_PRELOAD": PRELOAD} if preload else {}),
            **({"ABORT": abort} if abort else {}), **(env or {})}
        cases = "".join(f"{index}) export {' '.join(f'{k}={v}' for k, v in more.items())};; "
                        for index, more in (of_process or {}).items())
        command = ["/bin/bash", "-c", RANK.format(cases=cases), "bash", CLIENT]
        processes = launch.start(command, order if per_node else labels, env=variables)
        complaints = launch.finish(processes, timeout, stop_on_failure=not may_fail)
        run = Run(folder, labels, calls, processes, complaints)
        self.assertEqual(complaints, [], run.text)
        for complaint in ("BROKEN", "HUNG", "FAILED", "emulated CUDA"):
            self.assertNotIn(complaint, run.text)
        if not may_fail:
            for text in run.texts:
                self.assertIn("DONE", text, run.text)
        if preload:
            for text in run.texts:
                self.assertRegex(text, STARTED)
        return run
