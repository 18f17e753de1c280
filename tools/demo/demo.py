#!/usr/bin/python3
"""./dev demo: on a pretend cluster of 2 nodes, exact beside quantized.

Training: a small GPT under FSDP2, with and without the preload (training.py); left out, with the
reason, where PyTorch cannot be had. Collectives, from C: forward all-gather and backward all-gather
of real weights, reduce-scatter (average) of real gradients, both of a small trained GPT, repeated to
a useful size, in bf16. Exact and quantized runs take turns; medians are shown. Bytes are what the
nodes' network interfaces sent. Writes build/demo/demo.json and build/demo/demo.png. Ends with 1 if
bytes, accuracy or loss are RED, or training failed; times may be, on a busy machine.
"""
import json
import os
import statistics
import sys
import time

import numpy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "dev"))
import launch  # noqa: E402
import chart  # noqa: E402
import report  # noqa: E402
import training  # noqa: E402

ROOT = os.environ["SLIMCCL_ROOT"]
BUILD = os.environ["SLIMCCL_BUILD"]
FOLDER = os.path.join(BUILD, "demo")
DATA = os.path.join(ROOT, "tests", "data", "tensors")
NODES, RANKS = 2, 4
TOPOLOGY = "2x2"
# Rate, its bits per second, MiB of bf16 per collective, rounds (an exact and a quantized run each).
PASSES = (("1gbit", 1e9, 64, 5), ("100mbit", 1e8, 32, 3))
OPS = {"all_gather_forward": "q8", "all_gather_backward": "q8", "reduce_scatter_gradients": "q4s"}
PROFILES = {"exact": "exact", "quantized": "zeropp"}


def write_bf16(array, path):
    """Rounds fp32 to bf16, to nearest even."""
    bits = numpy.ascontiguousarray(array, dtype=numpy.float32).view(numpy.uint32).astype(numpy.uint64)
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16).tofile(path)


def prepare():
    os.makedirs(os.path.join(FOLDER, "gradients"), exist_ok=True)
    weights = os.path.join(FOLDER, "weights.bf16")
    write_bf16(numpy.load(os.path.join(DATA, "weights.npy")).ravel(), weights)
    for rank in range(RANKS):
        gradients = numpy.load(os.path.join(DATA, f"gradients.rank{rank}.npy")).ravel()
        write_bf16(gradients, os.path.join(FOLDER, "gradients", f"{rank}.bf16"))
    return weights


def run_step(cluster, weights, elems, profile):
    command = [os.path.join(BUILD, "perf", "zero3_step"), weights, os.path.join(FOLDER, "gradients"),
               str(elems), "1", "eth0"]
    env = {"SLIMCCL_PROFILE": profile, "SLIMCCL_LOG": "warn"}
    ranks = launch.run(command, TOPOLOGY, cluster, env, timeout=120)
    lines = [line for line in ranks[0].text.splitlines() if line.startswith("{")]
    return {sample["op"]: sample for sample in map(json.loads, lines)}


def run_pass(cluster, weights, rate, mebibytes, rounds):
    """Samples per profile and operation."""
    launch.cluster(cluster, "rate", rate)
    elems = mebibytes << 19
    samples = {name: {op: [] for op in OPS} for name in PROFILES}
    for turn in range(rounds):
        for name, profile in PROFILES.items():
            started = time.monotonic()
            for op, sample in run_step(cluster, weights, elems, profile).items():
                if sample["compressed"] != (name == "quantized"):
                    raise RuntimeError(f"{op} with profile {profile}: compressed is "
                                       f"{sample['compressed']}")
                samples[name][op].append(sample)
            seconds = sum(samples[name][op][-1]["seconds"] for op in OPS)
            print(f"   {rate}, round {turn + 1} of {rounds}, {name:9}: one step's communication "
                  f"{seconds:7.3f} s   (with start-up {time.monotonic() - started:.1f} s)", flush=True)
    return samples


def median(samples, field):
    return statistics.median(sample[field] for sample in samples)


def summarize(samples, rate, mebibytes):
    rows = []
    for op, codec in OPS.items():
        exact, quantized = samples["exact"][op], samples["quantized"][op]
        bytes_exact, bytes_sent = median(exact, "bytes"), median(quantized, "bytes")
        rows.append({
            "op": op.rsplit("_", 1)[0], "name": op, "codec": codec, "rate": rate, "mebibytes": mebibytes,
            "bytes_formula": (mebibytes << 20) * (NODES - 1),
            "bytes_exact": bytes_exact, "bytes": bytes_sent, "ratio": bytes_exact / bytes_sent,
            "seconds_exact": median(exact, "seconds"), "seconds": median(quantized, "seconds"),
            "sqnr_db": median(quantized, "sqnr_db"), "sqnr_db_exact": median(exact, "sqnr_db"),
            "gain": median(quantized, "gain"),
        })
    return rows


def run_collectives():
    """The rows of each pass."""
    weights = prepare()
    cluster = f"demo{os.getpid()}"
    print("\n== collectives from C: 2 nodes, 2 ranks each; one ZeRO-3 step on real weights and gradients")
    rows = []
    launch.cluster_up(cluster, NODES)
    try:
        for rate, _, mebibytes, rounds in PASSES:
            samples = run_pass(cluster, weights, rate, mebibytes, rounds)
            rows.append(summarize(samples, rate, mebibytes))
    finally:
        launch.cluster(cluster, "down")
    return rows


def run_training():
    """(what was seen, its gates); (None, []) where there is no PyTorch."""
    reason = training.missing()
    if reason:
        print(f"== no training: {reason}; what follows is the demo in C alone", flush=True)
        return None, []
    print("== training: a GPT under FSDP2, by torchrun, 2 nodes at 1 Gbit/s, GPUs emulated", flush=True)
    try:
        return training.run()
    except training.Failed as error:  # the rest is worth seeing
        print(f"== training failed: {error}", flush=True)
        return None, [{"gate": "training: all runs ended well", "value": str(error).splitlines()[0],
                       "passed": False}]


def main():
    if os.getuid() != 0:
        sys.exit("demo: the pretend cluster is made of network namespaces and needs root; run it with "
                 "sudo ./dev demo")
    started = time.monotonic()
    trained, judged = run_training()
    rows = run_collectives()
    report.show(rows)
    judged += report.gates(rows[0], rows[1])
    report.show_gates(judged)
    context = {"nodes": NODES, "ranks": RANKS, "topology": TOPOLOGY, "type": "bfloat16",
               "rate": PASSES[0][0], "rounds": PASSES[0][3], "cores": len(os.sched_getaffinity(0)),
               "seconds_total": round(time.monotonic() - started, 1),
               "bytes_are": "sent by all nodes' interfaces, median of the rounds"}
    with open(os.path.join(FOLDER, "demo.json"), "w") as file:
        json.dump({**context, "training": trained, "collectives": rows[0],
                   "collectives_100mbit": rows[1], "gates": judged}, file, indent=1)
    chart.draw(rows, trained, os.path.join(FOLDER, "demo.png"))
    print(f"== wrote {FOLDER}/demo.json and demo.png; {time.monotonic() - started:.0f} s")
    sys.exit(1 if report.is_wrong(judged) else 0)


if __name__ == "__main__":
    main()
