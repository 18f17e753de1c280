"""What docs/formats says, in numpy: types, sizes of messages, bounds of errors; and which bytes the
two-level scheme sends between nodes. It shares no code with src/."""
import numpy as np

FLOAT64_OF = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}
ROUNDING = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}  # relative, at most
SMALLEST = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
LARGEST = {"float32": float(np.finfo(np.float32).max), "float16": 65504.0,
           "bfloat16": float(np.uint32(0x7F7F0000).view(np.float32))}
SUPERBLOCK = 2048
SLICE = 32  # slices of an all-reduce begin at multiples of it


def to_type(values, kind):
    """Bytes of float32 values, rounded to nearest even."""
    values = np.ascontiguousarray(values, np.float32)
    if kind == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).tobytes()
    if kind == "float32":
        return values.tobytes()
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    rounded[np.isnan(values)] = 0x7FC0
    return rounded.tobytes()


def from_type(data, kind):
    """float64 values of such bytes."""
    raw = np.frombuffer(data, FLOAT64_OF[kind])
    if kind == "bfloat16":
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float64)


def up(number, multiple):
    return -(-number // multiple) * multiple


def message_bytes(codec, elems, kind):
    """Of one message; codec None: the elements as they are."""
    if codec is None or elems == 0:
        return elems * WIDTH[kind]
    whole, rest = divmod(elems, SUPERBLOCK)
    if codec == "q8":
        return up(whole * 2112 + (64 + up(rest, 16) if rest else 0), 64)
    head = up(4 * -(-elems // SUPERBLOCK), 64)
    return up(head + whole * 1088 + (64 + 16 * -(-rest // 32) if rest else 0), 64)


def peak(values, block):
    """The largest magnitude of each element's block."""
    padded = np.zeros(up(len(values), block))
    padded[: len(values)] = np.abs(values)
    return np.repeat(padded.reshape(-1, block).max(axis=1), block)[: len(values)]


def bound(codec, values, slack=0.0):
    """The most that an encoder of `values`, known to `slack`, may be off at each element. The scale
    is not known to the bit, so it is taken as large as the peak allows."""
    if codec is None:
        return np.zeros(len(values))
    if codec == "q8":
        largest = peak(np.abs(values) + slack, 64)
        return np.maximum(largest / 127 * (1 + 2.0**-8) / 2 * (1 + 2.0**-14),
                          np.where(largest < 2.0**-118, largest, 0))
    in_block, largest = peak(np.abs(values) + slack, 32), peak(np.abs(values) + slack, SUPERBLOCK)
    normal = 1.5 * in_block / 8 * (17 / 16)
    denormal = 11 / 512 * largest / 3584
    lost = np.where(largest < 3584 * 2.0**-99, largest, 0)  # the factor is 0
    return np.maximum(np.maximum(normal, denormal), lost) * (1 + 2.0**-19)


class Nodes:
    """Who is where: nodes numbered by their lowest rank, a rank's place among its node's ranks."""

    def __init__(self, labels):
        order = list(dict.fromkeys(labels))
        self.node = [order.index(label) for label in labels]
        self.ranks, self.count = len(labels), len(order)
        self.members = [[rank for rank, node in enumerate(self.node) if node == number]
                        for number in range(self.count)]

    def carrier(self, node, owner):
        """Which rank of `node` sends that node's part of the slice of `owner`."""
        place = self.members[self.node[owner]].index(owner)
        return self.members[node][place % len(self.members[node])]


def slices(op, count, ranks):
    """(begin, elements) of each rank's slice."""
    if op != "all_reduce":
        return [(rank * count, count) for rank in range(ranks)]
    stride = up(-(-count // ranks), SLICE)
    return [(min(rank * stride, count), max(0, min(stride, count - rank * stride)))
            for rank in range(ranks)]


def out_bytes(op, count, kind, nodes, rank, codecs):
    """What `rank` sends to other nodes; codecs: of partial sums, and of what is gathered."""
    own_node, total = nodes.node[rank], 0
    sizes = [elems for _, elems in slices(op, count, nodes.ranks)]
    for owner in range(nodes.ranks):
        away = nodes.node[owner] != own_node
        if op != "all_gather" and away and nodes.carrier(own_node, owner) == rank:
            total += message_bytes(codecs[0], sizes[owner], kind)
    if op != "reduce_scatter":
        total += (nodes.count - 1) * message_bytes(codecs[1], sizes[rank], kind)
    return total


CODECS = {  # of a profile: partial sums, what is gathered
    "zeropp": {"all_gather": (None, "q8"), "reduce_scatter": ("q4s", None),
               "all_reduce": ("q4s", "q4s")},
    "auto": {"all_gather": (None, "q8"), "reduce_scatter": ("q4s", None),
             "all_reduce": ("q4s", "q8")},
    "exact": dict.fromkeys(("all_gather", "reduce_scatter", "all_reduce"), (None, None)),
}
