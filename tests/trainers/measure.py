"""One measured run of a trainer of the catalogue: loss, bytes, time, and what the overlay reports.
A run that was made already, with the same libraries and scripts, is read again."""
import collections
import glob
import hashlib
import os
import re
import statistics
import subprocess

import meter
import rows
import torchrun
from catalogue import OPS, TRAINERS

launch = torchrun.launch

WIDTH = 256  # so that every unit's share of 8 ranks is over the floor of 65536 elements
STEPS = 60
SETTLED = 46  # the step from which on bytes and seconds count: `auto` has its evidence by then
RATE = "1gbit"
MEDDLING = ("SLIMCCL_", "VENDOR_SLIMCCL_", "NCCL_", "TRAINERS_GRADIENTS")
HARMLESS = ("SLIMCCL_ROOT", "SLIMCCL_BUILD", "SLIMCCL_CACHE")
FOLDER = os.path.join(torchrun.MADE, "measured")
SECONDS = re.compile(r"^step \d+ loss .* in (\S+) s$", re.M)
VALIDATION = re.compile(r"^validation loss (\S+) ", re.M)


def files_that_matter(script):
    """Whatever a result can depend on."""
    scripts = [os.path.join(torchrun.HERE, "scripts", f"{name}.py")
               for name in ("gpt", "text", script)]
    core = os.path.join(os.path.dirname(torchrun.PRELOAD), "libslimccl-core.so")
    sites = glob.glob(os.path.join(torchrun.HERE, "site", "*.py"))
    found = [os.path.join(torchrun.MADE, "libfallback.so"), torchrun.PRELOAD, core]
    for library, folders in torchrun.LIBRARIES.items():
        found += [path for folder in folders.split(":")
                  for path in glob.glob(os.path.join(folder, library))]
    return scripts + sorted(sites) + found


def fingerprint(trainer):
    digest = hashlib.sha256(repr((trainer.arguments, trainer.rules, WIDTH)).encode())
    for path in files_that_matter(trainer.script):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()[:16]


def meddling():
    """Settings of our own environment that all ranks would inherit; a measurement has none."""
    return sorted(name for name in os.environ if name.startswith(MEDDLING) and name not in HARMLESS)


def missing(script=None):
    """Why nothing can be measured here, or None."""
    fatbin = os.path.join(torchrun.BUILD, "src", "quant", "cuda", "kernels.fatbin")
    if not os.path.exists(torchrun.PRELOAD):
        return f"no overlay to preload: {torchrun.PRELOAD} is not built; ./dev build builds it"
    if torchrun.PRELOAD.startswith(torchrun.BUILD) and not os.path.exists(fatbin):
        return ("the overlay was built without nvcc and has no CUDA kernels: it would compress "
                "nothing; ./dev trainers setup fetches nvcc, then ./dev build")
    return torchrun.missing(script)


def commit():
    """Of the working tree; with a + where files differ from it."""
    command = ["git", "-C", torchrun.ROOT, "describe", "--always", "--dirty=+", "--abbrev=12"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return result.stdout.strip() or "unknown"


def key(name, nodes, profile, seed, steps):
    return f"{name}-{nodes}-{profile}-seed{seed}-{steps}steps"


def environment(trainer, profile, report):
    """Kernels by the host's rows, and no delays: the run is for numbers, not for the emulator."""
    variables = dict(torchrun.FAST)
    if profile == "ds4":  # the control: exact calls, gradients by DeepSpeed's rule
        return {**variables, "TRAINERS_GRADIENTS": "ds4"}
    if profile != "none":
        variables.update(SLIMCCL_PROFILE=profile, SLIMCCL_REPORT=report, SLIMCCL_NET_GBITS=1)
    if trainer.rules and profile != "none":
        variables["SLIMCCL_RULES"] = trainer.rules
    return variables


def traffic(reports):
    """By operation, of all ranks: elements, those that crossed compressed, bytes between nodes
    beside the exact scheme's, calls by reason."""
    found = {}
    for op in OPS:
        sums = dict.fromkeys(("elements", "compressed_elements", "exact_bytes", "bytes"), 0)
        calls = collections.Counter()
        for report in reports:
            total = report["total"]
            calls.update(total["calls"].get(op, {}))
            sums["elements"] += total["elements"].get(op, 0)
            crossed = total.get("between_nodes", {}).get(op, {})
            sums["compressed_elements"] += crossed.get("elements", 0)
            sums["exact_bytes"] += crossed.get("exact_bytes", 0)
            sums["bytes"] += crossed.get("compressed_bytes", 0)
        found[op] = {**sums, "calls": dict(calls)}
    return found


def metered_run(trainer, arguments, name, nodes, profile, rate, on_step=None):
    """(the run, its meter, its ranks' reports), on a cluster of its own."""
    count = int(nodes.split("x")[0])
    folder = os.path.join(torchrun.MADE, "runs", name)
    pattern = os.path.join(folder, "report-%p.json")
    preload = torchrun.PRELOAD if profile not in ("none", "ds4") else None
    cluster = f"m{os.getpid()}"
    launch.cluster_up(cluster, count, rate)
    try:
        with meter.Meter(cluster, count, folder, on_step) as metered:
            done = torchrun.run(trainer.script, arguments, name, nodes, cluster, preload,
                                environment(trainer, profile, pattern), timeout=900)
    finally:
        launch.cluster(cluster, "down")
    return done, metered, list(torchrun.read_reports(pattern))


def run_now(name, nodes, profile, seed, steps, rate):
    trainer = TRAINERS[name]
    arguments = ["--steps", steps, "--seed", seed, "--width", WIDTH, *trainer.arguments]
    run_name = "measured-" + key(name, nodes, profile, seed, steps)
    return record_of(*metered_run(trainer, arguments, run_name, nodes, profile, rate), steps)


def settled_of(steps):
    """The step after which bytes and seconds of a run count."""
    return SETTLED if steps > SETTLED + 2 else steps // 2


def record_of(done, metered, reports, steps):
    seconds = [float(one) for one in SECONDS.findall(done.ranks[0])]
    settled = settled_of(steps)
    if len(seconds) != steps:
        raise torchrun.Failed(f"{done.folder}: {len(seconds)} steps were reported, not {steps}",
                              done)
    if len(set(map(tuple, done.losses_by_rank))) != 1:
        raise torchrun.Failed(f"{done.folder}: ranks report different losses", done)
    sent = metered.per_step(settled, steps - 1)
    if not sent:
        raise torchrun.Failed(f"{done.folder}: no bytes were metered at step {settled} or the last",
                              done)
    return {
        "losses": done.losses, "loss": float.fromhex(VALIDATION.findall(done.ranks[0])[0]),
        "parameters": done.parameters[0],
        "ranks_active": sum(report["made"] > 0 for report in reports),
        "settled": settled, "bytes_per_step": sent,
        "seconds": statistics.median(seconds[settled + 1:]), "seconds_wall": round(done.seconds, 1),
        "traffic": traffic(reports),
    }


def holds(record, trainer, steps):
    """Whether a record says what a run of now would: of these libraries and scripts, of all steps,
    and of the same ones in its means."""
    settled = record.get("settled", settled_of(steps))
    return (record["fingerprint"] == fingerprint(trainer) and len(record["losses"]) == steps
            and settled == settled_of(steps))


def measured(name, nodes="2x2", profile="none", seed=0, steps=STEPS, rate=RATE):
    """(the record, whether it was made just now)"""
    path = os.path.join(FOLDER, key(name, nodes, profile, seed, steps) + ".json")
    if os.path.exists(path):
        record = rows.read(path)
        if holds(record, TRAINERS[name], steps):
            return record, False
    print_of_now = fingerprint(TRAINERS[name])
    record = {"trainer": name, "nodes": nodes, "profile": profile, "seed": seed, "steps": steps,
              "rate": rate, **run_now(name, nodes, profile, seed, steps, rate),
              "fingerprint": print_of_now, "commit": commit()}
    rows.write(path, **record)
    return record, True
