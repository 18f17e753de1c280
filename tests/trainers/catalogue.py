"""Every trainer that is measured, and what of its traffic must be compressed: the one list that
`./dev trainers run`, its gates, the tests and docs/trainers.md go by."""
from dataclasses import dataclass, field

NOTHING = "0 bytes between nodes"
OPS = ("all_gather", "reduce_scatter", "all_reduce")
# Runs without the overlay whose gradients go through DeepSpeed's INT4 rule: how many elements are
# under one scale. DeepSpeed makes groups as long as a matrix's shorter side: 2048 and more in models
# that people train, 256 in this one. The first is judged, the other shown (ADR 22).
CONTROLS = {"ds4": 256, "ds4-2048": 2048}
JUDGED = "ds4-2048"
WITHOUT_OVERLAY = ("none", *CONTROLS)


@dataclass(frozen=True)
class Op:
    """What is asked of one operation: a ratio at least (the exact two-level scheme's bytes between
    nodes by those sent) and the share of its elements that must cross compressed; or the reason why
    all of its large calls stay exact, or NOTHING."""

    least: float = None
    reason: str = None
    share: float = 0.95

    def __str__(self):
        return f"compressed, {self.least}x" if self.least else self.reason


# 16 or 32 bits an element beside 8.25 (q8) and 4.27 (q4s). An all-reduce has two hops: `auto` sends
# the sums of the second as q8.
WEIGHTS = Op(1.9)
# Gathered between nodes for one pass, for the others in the node: on N nodes a rank sends 1/N as much
# in the first as in each of the others.
WEIGHTS_ONCE, ONCE_ON_FOUR = Op(1.9, share=0.35), Op(1.9, share=0.2)
GRADIENTS_BF16, GRADIENTS_FP32 = Op(3.6), Op(7)
REDUCED_FP32 = {"auto": Op(4.8), "zeropp": Op(7)}
REDUCED_BF16 = {"auto": Op(2.4), "zeropp": Op(3.6)}
NONE = Op(reason=NOTHING)
NO_EVIDENCE, TYPE, FLOOR = Op(reason="no evidence"), Op(reason="type"), Op(reason="under the floor")
RULE = Op(reason="rule")


def both(op):
    return {"auto": op, "zeropp": op}


def only_zeropp(op):
    return {"auto": NO_EVIDENCE, "zeropp": op}


@dataclass(frozen=True)
class Trainer:
    script: str
    arguments: tuple
    what: str
    all_gather: dict = field(default_factory=lambda: both(NONE))
    reduce_scatter: dict = field(default_factory=lambda: both(NONE))
    all_reduce: dict = field(default_factory=lambda: both(FLOOR))
    rules: str = ""
    # What differs on clusters of more than two nodes, by operation.
    wider: dict = field(default_factory=dict)

    def asked(self, op, profile, nodes):
        table = self.wider.get(op) if nodes > 2 else None
        return (table or getattr(self, op))[profile]


BF16 = ("--bf16",)
# Where matrices are gathered one by one: an eighth of one is over the floor of 65536 elements.
WIDE = ("--width", "768")
SHARDED = {"all_gather": both(WEIGHTS), "reduce_scatter": both(GRADIENTS_FP32)}

TRAINERS = {
    "fsdp2": Trainer("fsdp2", BF16, "FSDP2, bf16, gradients reduced in fp32", **SHARDED),
    "fsdp2-bf16": Trainer("fsdp2", (*BF16, "--reduce", "bf16"),
                          "FSDP2, bf16, gradients reduced in bf16",
                          all_gather=both(WEIGHTS), reduce_scatter=both(GRADIENTS_BF16)),
    "fsdp2-accumulate": Trainer("fsdp2", (*BF16, "--accumulate", "2"),
                                "FSDP2, two backward passes a step", **SHARDED),
    "fsdp2-recompute": Trainer("fsdp2", (*BF16, "--recompute"),
                               "FSDP2, activation checkpointing", **SHARDED),
    "fsdp2-mixed": Trainer("fsdp2", ("--mixed-types",), "FSDP2, units of bf16 and fp32 parameters",
                           all_gather=both(TYPE), reduce_scatter=both(GRADIENTS_FP32)),
    "fsdp2-in-node": Trainer("fsdp2", (*BF16, "--keep-in-node"),
                             "FSDP2, reshard_after_forward = ranks of a node",
                             all_gather=both(WEIGHTS_ONCE), reduce_scatter=both(GRADIENTS_FP32),
                             wider={"all_gather": both(ONCE_ON_FOUR)}),
    "fsdp1": Trainer("fsdp1", BF16, "FSDP1, bf16, gradients reduced in fp32",
                     all_gather=only_zeropp(WEIGHTS), reduce_scatter=only_zeropp(GRADIENTS_FP32)),
    "hsdp": Trainer("hsdp", BF16, "HSDP (FSDP2): shards in a node, replicas between nodes",
                    all_reduce=REDUCED_FP32),
    "hsdp-bf16": Trainer("hsdp", (*BF16, "--reduce", "bf16"), "HSDP, gradients reduced in bf16",
                         all_reduce=REDUCED_BF16),
    "ddp": Trainer("ddp", BF16, "DDP, bf16 autocast", all_reduce=only_zeropp(GRADIENTS_FP32)),
    "zero1": Trainer("zero", (*BF16, "--stage", "1"), "DeepSpeed ZeRO-1, bf16",
                     all_gather=only_zeropp(WEIGHTS), all_reduce=only_zeropp(GRADIENTS_BF16)),
    "zero2": Trainer("zero", (*BF16, "--stage", "2"), "DeepSpeed ZeRO-2, bf16",
                     all_gather=only_zeropp(WEIGHTS), all_reduce=only_zeropp(GRADIENTS_BF16)),
    "zero3": Trainer("zero", BF16, "DeepSpeed ZeRO-3, bf16",
                     all_gather=both(WEIGHTS), reduce_scatter=both(GRADIENTS_BF16)),
    "zero3-hpz": Trainer("zero", (*BF16, "--hpz", *WIDE),
                         "DeepSpeed ZeRO-3 with its own hpZ, bf16, a model 768 wide",
                         all_gather=both(WEIGHTS_ONCE), reduce_scatter=both(GRADIENTS_BF16),
                         wider={"all_gather": both(ONCE_ON_FOUR)}),
    "fsdp2-tp": Trainer("fsdp2_tp", (*BF16, "--batch", "16"),
                        "FSDP2 and tensor parallelism across the nodes",
                        all_reduce=both(RULE), rules="*:all_reduce=exact", wider=SHARDED),
}
