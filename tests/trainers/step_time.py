#!/usr/bin/python3
"""./dev trainers time: a step of FSDP2 (bf16 parameters, gradients reduced in fp32) at 1 Gbit/s between
two nodes, with and without the overlay. The runs take turns; medians; three gates. ./dev demo shows it.

An emulated GPU computes on a core, so there is a rank for each core, one or two a node, and each node has
cores of its own. The batch is one sequence a rank, so that the network is what a step waits for, as where
SlimCCL is meant for."""
import os
import signal
import statistics
import sys

import gates
import measure
import rows
import torchrun

NODES, RATE, BITS_A_SECOND = 2, "1gbit", 1e9
STEPS, WARM_UP, ROUNDS = 24, 6, 5
ARGUMENTS = ["--bf16", "--width", 512, "--blocks", 4, "--batch", 1, "--steps", STEPS]
LEAST_RATIO, LEAST_OF_IDEAL = 1.8, 0.6
RESULT = os.path.join(torchrun.MADE, "step_time.json")
PROFILES = ("none", "zeropp")


def cores():
    return len(os.sched_getaffinity(0))


def topology():
    return f"{NODES}x{max(1, min(2, cores() // NODES))}"


def one_run(profile, nodes, on_step):
    """What one run printed and sent."""
    done, metered, reports = measure.metered_run(
        measure.TRAINERS["fsdp2"], ARGUMENTS, f"time-{profile}", nodes, profile, RATE, on_step)
    traffic = measure.traffic(reports)
    compressed = sum(traffic[op]["compressed_elements"] for op in rows.OPS)
    if bool(compressed) != (profile != "none"):
        raise torchrun.Failed(f"{done.folder}: {compressed} elements crossed compressed, profile {profile}")
    sent = metered.per_step(WARM_UP, STEPS - 1)
    if not sent or len(done.losses) != STEPS:
        raise torchrun.Failed(f"{done.folder}: {len(done.losses)} of {STEPS} steps were seen, {sent} bytes each")
    return {
        "seconds": statistics.median(
            float(one) for one in measure.SECONDS.findall(done.ranks[0])[WARM_UP:]),
        "bytes": sent,
        "losses": [float.fromhex(loss) for loss in done.losses],
        "loss": float.fromhex(measure.VALIDATION.findall(done.ranks[0])[0]),
        "traffic": traffic,
    }


def race(on_run=None, on_step=None, rounds=ROUNDS):
    """The runs, by profile, taking turns."""
    samples = {profile: [] for profile in PROFILES}
    for turn in range(rounds):
        for profile in PROFILES if turn % 2 == 0 else reversed(PROFILES):
            if on_run:
                on_run(turn, profile)
            samples[profile].append(one_run(profile, topology(), on_step))
    return samples


def summary(samples):
    exact, slim = (samples[profile] for profile in PROFILES)
    ratios = [one["seconds"] / other["seconds"] for one, other in zip(exact, slim)]
    bytes_exact, sent = (statistics.median(run["bytes"] for run in runs) for runs in (exact, slim))
    last = slim[-1]["traffic"]
    return {
        "trainer": "fsdp2", "profile": "zeropp", "nodes": NODES,
        "ranks_per_node": int(topology().split("x")[1]), "rate": RATE, "steps": STEPS,
        "rounds": len(exact), "arguments": " ".join(map(str, ARGUMENTS)), "cores": cores(),
        "seconds_exact": statistics.median(run["seconds"] for run in exact),
        "seconds": statistics.median(run["seconds"] for run in slim),
        "ratio": statistics.median(ratios), "ratios": ratios,
        "bytes_exact_per_step": bytes_exact, "bytes_per_step": sent, "ideal": bytes_exact / sent,
        # What the links need for a node's half of them.
        "wire_seconds_exact": bytes_exact / NODES * 8 / BITS_A_SECOND,
        "wire_seconds": sent / NODES * 8 / BITS_A_SECOND,
        "weights_ratio": rows.ratio(last, "all_gather"),
        "gradients_ratio": rows.ratio(last, "reduce_scatter", "all_reduce"),
        "loss_exact": exact[-1]["loss"], "loss": slim[-1]["loss"],
        "losses_exact": exact[-1]["losses"], "losses": slim[-1]["losses"],
        "commit": measure.commit(),
    }


def judge(found):
    judged = gates.Gates()
    judged.add("step", f"time ratio at least {LEAST_RATIO}", round(found["ratio"], 3),
               found["ratio"] >= LEAST_RATIO, timed=True)
    share = found["ratio"] / found["ideal"]
    judged.add("step", f"at least {LEAST_OF_IDEAL:.0%} of the ideal, the {found['ideal']:.2f} times "
               "fewer bytes", round(share, 3), share >= LEAST_OF_IDEAL, timed=True)
    worse = rows.worse(found)
    judged.add("step", f"validation loss at most {gates.SEED_LOSS:+.1%}", round(worse, 5),
               worse <= gates.SEED_LOSS)
    return judged.found


def show(found):
    print(f"\n== FSDP2 on {found['nodes']} nodes x {found['ranks_per_node']} ranks, {found['rate']}, "
          f"medians of {found['rounds']} rounds")
    print(f"{'':12}{'s a step':>10}{'on the wire':>13}{'MB a step':>12}{'validation loss':>18}")
    for label, end in (("exact", "_exact"), ("zeropp", "")):
        sent = found["bytes_exact_per_step" if end else "bytes_per_step"]
        print(f"{label:12}{found['seconds' + end]:10.3f}{found['wire_seconds' + end]:13.3f}"
              f"{sent / 1e6:12.2f}{found['loss' + end]:18.4f}")
    print(f"{'':12}{found['ratio']:9.2f}x{'':13}{found['ideal']:11.2f}x{rows.worse(found):18.3%}")
    print("   (the ratio of times is the median of the rounds' ratios)")


def main():
    """Ends with 1 if a gate is RED."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reason = "needs root: the nodes are network namespaces" if os.getuid() else measure.missing()
    if measure.meddling():
        reason = f"unset {', '.join(measure.meddling())}: it would change what is measured"
    if reason:
        sys.exit(f"trainers time: {reason}")
    try:
        found = summary(race(
            lambda turn, profile: print(f"   round {turn + 1} of {ROUNDS}, {profile}", flush=True)))
    except torchrun.Failed as error:
        sys.exit(f"trainers time: {error}")
    except KeyboardInterrupt:
        sys.exit("trainers time: interrupted, nothing was written")
    judged = judge(found)
    show(found)
    red = gates.show(judged)
    rows.write(RESULT, **found, gates=judged)
    print(f"== wrote {RESULT}")
    sys.exit(1 if red else 0)


if __name__ == "__main__":
    main()
