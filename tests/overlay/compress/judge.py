"""Is a call's result what it must be? By the bounds of docs/formats, element by element."""
import hashlib

import numpy as np

import formats
from rig import Rig

GAIN = {"q8": 0.002, "q4s": 0.01, None: 0}  # at most so far from 1; those of two hops add


def scale_of(call, rank, ranks):
    if call.reduction == "avg":
        return float(np.float32(1) / np.float32(ranks))
    return 0.5 + 0.25 * rank if call.reduction.startswith("premul") else 1.0


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


class Judge(Rig):
    def inputs(self, run, call):
        return [formats.from_type(run.data(call, rank, "in"), call.type)
                for rank in range(len(run.labels))]

    def sums(self, run, call, codec):
        """The exact sums of all slices, one after the other, and how far off they may be."""
        nodes = formats.Nodes(run.labels)
        inputs = [values * scale_of(call, rank, nodes.ranks)
                  for rank, values in enumerate(self.inputs(run, call))]
        total = np.sum(inputs, axis=0)
        rounding = np.sum(np.abs(inputs), axis=0) * 2.0**-22
        error = rounding.copy()
        for owner, (begin, elems) in enumerate(formats.slices(call.op, call.count, nodes.ranks)):
            part = slice(begin, begin + elems)
            for node in range(nodes.count):
                if node == nodes.node[owner]:
                    continue  # its partial sum is never encoded
                partial = np.sum([inputs[rank][part] for rank in nodes.members[node]], axis=0)
                error[part] += formats.bound(codec, partial, rounding[part])
        return total, error

    def assert_close(self, call, where, result, expected, error, codecs):
        rounding = (np.abs(expected) + error) * formats.ROUNDING[call.type]
        allowed = error + rounding + formats.SMALLEST[call.type]
        self.assertTrue(np.isfinite(result).all(), f"{call} {where}: not finite")
        wrong = np.flatnonzero(np.abs(result - expected) > allowed)
        if len(wrong) > 0:
            at = wrong[0]
            self.fail(f"{call} {where}: {len(wrong)} of {len(result)} elements are out of bounds, "
                      f"the first is {at}: {result[at]} for {expected[at]}, {allowed[at]} allowed")
        power = np.dot(expected, expected)
        if power > 0 and len(expected) >= 2048:
            gain = np.dot(result, expected) / power
            allowed = sum(GAIN[codec] for codec in codecs) + formats.ROUNDING[call.type]
            self.assertLessEqual(abs(gain - 1), allowed, f"{call} {where}: gain {gain}")

    def check(self, run, call, profile="zeropp"):
        """All ranks' results of one call under that profile; "exact" for one that stays so."""
        codecs = formats.CODECS[profile][call.op]
        getattr(self, call.op)(run, call, codecs)

    def check_all(self, run, profile="zeropp"):
        for call in run.calls:
            self.check(run, call, profile)

    def all_gather(self, run, call, codecs):
        size = call.count * formats.WIDTH[call.type]
        outputs = [run.data(call, rank) for rank in range(len(run.labels))]
        for owner, values in enumerate(self.inputs(run, call)):
            seen = [data[owner * size:(owner + 1) * size] for data in outputs]
            if call.in_place:
                own = run.data(call, owner, "in")
                self.assertEqual(digest(seen.pop(owner)), digest(own), f"{call}: own slot changed")
            hashes = {digest(data) for data in seen}
            self.assertEqual(len(hashes), 1, f"{call}: slot {owner} differs between ranks")
            error = formats.bound(codecs[1], values)
            self.assert_close(call, f"slot {owner}", formats.from_type(seen[0], call.type), values,
                              error, codecs)

    def reduce_scatter(self, run, call, codecs):
        expected, error = self.sums(run, call, codecs[0])
        for rank in range(len(run.labels)):
            part = slice(rank * call.count, (rank + 1) * call.count)
            result = formats.from_type(run.data(call, rank), call.type)
            self.assert_close(call, f"rank {rank}", result, expected[part], error[part], codecs)

    def all_reduce(self, run, call, codecs):
        outputs = [run.data(call, rank) for rank in range(len(run.labels))]
        self.assertEqual(len({digest(data) for data in outputs}), 1, f"{call}: ranks differ")
        expected, error = self.sums(run, call, codecs[0])
        for begin, elems in formats.slices(call.op, call.count, len(run.labels)):
            part = slice(begin, begin + elems)
            error[part] += formats.bound(codecs[1], expected[part], error[part])
        self.assert_close(call, "result", formats.from_type(outputs[0], call.type), expected, error,
                          codecs)

    def assert_compressed(self, run, counts=None, vendor=True):
        """Every call of the run was compressed on every rank, and sent what the formats say.
        `counts`: {operation: calls} if not each call of the run once."""
        nodes = formats.Nodes(run.labels)
        wanted = {}
        for call in run.calls:
            wanted[call.op] = wanted.get(call.op, 0) + 1
        wanted = counts or wanted
        for rank in range(nodes.ranks):
            self.assertEqual(run.reasons(rank),
                             {op: {"compressed": calls} for op, calls in wanted.items()},
                             f"rank {rank}: {run.text}")
            formula = self.formula(run, nodes, rank)
            exact = self.formula(run, nodes, rank, "exact")
            self.assertEqual(run.between_nodes(rank, "exact_bytes"), exact, f"rank {rank}")
            self.assertLessEqual(abs(run.between_nodes(rank) - formula), 0.02 * formula,
                                 f"rank {rank}")
            if formula > 100000:
                self.assertLess(1.7 * run.between_nodes(rank), exact, f"rank {rank}")
        if vendor:
            formula = self.formula(run, nodes, 0)
            self.assertLessEqual(abs(run.vendor_bytes() - formula), 0.02 * formula + 4096,
                                 f"{run.vendor_bytes()} bytes of rank 0, not {formula}")

    def formula(self, run, nodes, rank, profile="zeropp"):
        return sum(formats.out_bytes(call.op, call.count, call.type, nodes, rank,
                                     formats.CODECS[profile][call.op]) for call in run.calls)

    def assert_exact(self, run, reason, warnings=0, of_rank=None):
        """Every call stayed exact on every rank for that reason (or that of `of_rank`), and has an
        exact result."""
        for rank in range(len(run.labels)):
            self.assertNotEqual(run.reasons(rank), {}, run.text)
            for op, reasons in run.reasons(rank).items():
                self.assertEqual(list(reasons), [(of_rank or {}).get(rank, reason)],
                                 f"rank {rank} {op}: {run.text}")
            self.assertEqual(run.between_nodes(rank), 0, f"rank {rank}")
        self.assertEqual(len(run.warnings), warnings, run.text)
        self.check_all(run, "exact")
