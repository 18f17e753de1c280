#!/usr/bin/python3
"""Records tests/data/traces: what rank 0 of four calls, on two nodes of two, in a few steps.

  tests/trainers/record.py [NAME...]        after ./dev trainers setup and ./dev build
"""
import glob
import json
import os
import sys

import torchrun

TRACES = os.path.join(torchrun.ROOT, "tests", "data", "traces")
WIDE = ["--width", 256]  # of so many elements that calls are over the floor
SHARDED = {"all_gather": "weights", "reduce_scatter": "gradients"}
REPLICATED = {"all_reduce": "gradients", "broadcast": "weights"}
# By name: the script, its arguments, and what its calls carry where the script does not say.
RUNS = {
    "fsdp2_bf16": ("fsdp2", ["--bf16"], SHARDED),
    "fsdp2_bf16_reduce": ("fsdp2", ["--bf16", "--reduce", "bf16"], SHARDED),
    "fsdp2_fp32": ("fsdp2", [], SHARDED),
    "fsdp1_bf16": ("fsdp1", ["--bf16"], SHARDED),
    "ddp": ("ddp", [], REPLICATED),
    "zero3_bf16": ("zero", ["--bf16"], SHARDED),
    "fsdp1_checkpoint": ("checkpoint1", [], {}),
    "fsdp2_checkpoint": ("checkpoint2", [], {}),
    "activations": ("activations", [], {}),
    "codes": ("codes", ["--width", 576], {}),
    "small": ("small", ["--batch", 4], {}),
}
FLOATS = ("fp32", "bf16", "fp16")
FEW = 128  # elements of norms, losses and flags: never weights or gradients


def loss(call):
    """gpt.report() ends each step with it."""
    return call["op"] == "all_reduce" and call["count"] == 1 and call["reduction"] == "avg"


def content_of(call, line, marks, standard):
    """The word of the mark that the line lies in, or the trainer's."""
    content = standard
    for mark in marks:
        if mark["first"] <= line < mark["end"]:
            content = mark["content"]
    if isinstance(content, str):
        return content
    few = call["op"] == "all_reduce" and call["count"] < FEW
    return "other" if few or call["type"] not in FLOATS else content.get(call["op"], "other")


def annotated(calls, marks, standard):
    """Each call with the number of its step, from 0, and what it carries."""
    steps = sum(map(loss, calls))
    step = 0
    for line, call in enumerate(calls):
        yield {**({"step": step} if step < steps else {}), **call,
               "content": content_of(call, line, marks, standard)}
        step += loss(call)


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def rank_0(folder):
    for path in glob.glob(os.path.join(folder, "trace-*.jsonl")):
        calls = read(path)
        if next(call["rank"] for call in calls if call["ranks"] == 4) == 0:
            marks = read(path + ".marks") if os.path.exists(path + ".marks") else []
            return calls, marks
    raise RuntimeError(f"no trace of rank 0 in {folder}: is the overlay preloaded?")


def record(name, steps=4):
    script, arguments, standard = RUNS[name]
    folder = os.path.join(torchrun.MADE, "traces", name)
    os.makedirs(folder, exist_ok=True)
    for old in glob.glob(os.path.join(folder, "*")):
        os.remove(old)
    torchrun.run(script, [*WIDE, "--steps", steps, *arguments], f"record-{name}",
                 preload=torchrun.PRELOAD,
                 env={"SLIMCCL_TRACE": os.path.join(folder, "trace-%p.jsonl")})
    path = os.path.join(TRACES, f"{name}.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        for call in annotated(*rank_0(folder), standard):
            file.write(json.dumps(call, separators=(",", ":")) + "\n")
    print(f"{path}: {os.path.getsize(path)} bytes", flush=True)


def main():
    os.makedirs(TRACES, exist_ok=True)
    for name in sys.argv[1:] or RUNS:
        record(name)


if __name__ == "__main__":
    main()
