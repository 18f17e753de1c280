"""One measured run of a trainer of the catalogue: loss, bytes, time, and what the overlay reports.
A run that was made already, with the same libraries and scripts, is read again."""
import collections
import contextlib
import glob
import hashlib
import itertools
import os
import re
import statistics
import subprocess

import meter
import rows
import torchrun
from catalogue import CONTROLS, OPS, TRAINERS, WITHOUT_OVERLAY

launch = torchrun.launch

WIDTH = 256  # so that every unit's share of 8 ranks is over the floor of 65536 elements
STEPS = 60
SETTLED = 46  # the step from which on bytes and seconds count: `auto` has its evidence by then
RATE = "1gbit"
MEDDLING = ("SLIMCCL_", "VENDOR_SLIMCCL_", "NCCL_", "TRAINERS_DS4_GROUP", "LD_PRELOAD", "UCX_",
            "TORCH_", "DS_")
HARMLESS = ("SLIMCCL_ROOT", "SLIMCCL_BUILD", "SLIMCCL_CACHE")
FOLDER = os.path.join(torchrun.MADE, "measured")
SECONDS = re.compile(r"^step \d+ loss .* in (\S+) s$", re.M)
VALIDATION = re.compile(r"^validation loss (\S+) ", re.M)
NUMBERS = itertools.count(1)


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
    packages = os.path.join(torchrun.HERE, "requirements.txt")
    return [packages, *scripts, *sorted(sites), *found]


def fingerprint(trainer):
    settings = [environment(trainer, profile, "") for profile in ("zeropp", *CONTROLS)]
    digest = hashlib.sha256(repr((trainer.arguments, trainer.rules, WIDTH, settings)).encode())
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
    if profile in CONTROLS:
        return {**variables, "TRAINERS_DS4_GROUP": CONTROLS[profile]}
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


@contextlib.contextmanager
def own_cluster(count, rate):
    """Its name: another one each time, so that one that does not go down is in nobody's way."""
    name = f"m{os.getpid()}-{next(NUMBERS)}"
    launch.cluster_up(name, count, rate)
    try:
        yield name
    finally:
        try:
            launch.cluster(name, "down")
        except subprocess.SubprocessError as error:
            print(f"WARN trainers: {error}; it goes away with this process", flush=True)


def metered_run(trainer, arguments, name, nodes, profile, rate, on_step=None):
    """(the run, its meter, its ranks' reports), on a cluster of its own."""
    count = int(nodes.split("x")[0])
    folder = os.path.join(torchrun.MADE, "runs", name)
    pattern = os.path.join(folder, "report-%p.json")
    preload = None if profile in WITHOUT_OVERLAY else torchrun.PRELOAD
    try:
        with own_cluster(count, rate) as cluster, \
                meter.Meter(cluster, count, folder, on_step) as metered:
            done = torchrun.run(trainer.script, arguments, name, nodes, cluster, preload,
                                environment(trainer, profile, pattern), timeout=900)
        return done, metered, list(torchrun.read_reports(pattern))
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise torchrun.Failed(f"{name}: {error}; what there is of it: {folder}") from error


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
    validation = VALIDATION.findall(done.ranks[0])
    if len(validation) != 1:
        raise torchrun.Failed(f"{done.folder}: {len(validation)} validation losses, not one", done)
    sent = metered.per_step(settled, steps - 1)
    if not sent:
        raise torchrun.Failed(f"{done.folder}: no bytes were metered at step {settled} or the last",
                              done)
    return {
        "losses": done.losses, "loss": float.fromhex(validation[0]),
        "parameters": done.parameters[0],
        "ranks_active": sum(report["made"] > 0 for report in reports),
        "settled": settled, "bytes_per_step": sent,
        "seconds": statistics.median(seconds[settled + 1:]), "seconds_wall": round(done.seconds, 1),
        "traffic": traffic(reports),
    }


def holds(record, trainer, steps, rate):
    """Whether a record says what a run of now would: of these libraries and scripts, of all steps,
    of the same ones in its medians, over links of this rate."""
    return (record["fingerprint"] == fingerprint(trainer) and len(record["losses"]) == steps
            and record.get("settled") == settled_of(steps) and record["rate"] == rate)


def measured(name, nodes="2x2", profile="none", seed=0, steps=STEPS, rate=RATE):
    """(the record, whether it was made just now)"""
    path = os.path.join(FOLDER, key(name, nodes, profile, seed, steps) + ".json")
    if os.path.exists(path):
        record = rows.read(path)
        if holds(record, TRAINERS[name], steps, rate):
            return record, False
    # As they are before it: somebody may build or commit meanwhile.
    made_of = {"fingerprint": fingerprint(TRAINERS[name]), "commit": commit()}
    record = {"trainer": name, "nodes": nodes, "profile": profile, "seed": seed, "steps": steps,
              "rate": rate, **run_now(name, nodes, profile, seed, steps, rate), **made_of}
    rows.write(path, **record)
    return record, True
