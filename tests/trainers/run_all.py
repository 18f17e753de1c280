#!/usr/bin/python3
"""./dev trainers run [NAME...] [--all]: trainers on pretend nodes at 1 Gbit/s, exact and compressed.

Each NAME of the catalogue (default: fsdp2 zero3 ddp) runs on 2x2 ranks without the overlay and with
it, under the profiles exact, auto and zeropp. --all: on 4x2 as well, and fsdp2 and zero3 with three
seeds and beside DeepSpeed's INT4 rule; without NAME every trainer. Runs that were made with the same
libraries and scripts are not repeated. Writes build/trainers/trainers.json and trainers.png, shows
the gates, and ends with 1 if one is RED. Root only: the nodes are network namespaces.
"""
import argparse
import os
import signal
import sys
import time

import chart
import gates
import measure
import rows
import torchrun
from catalogue import CONTROLS, TRAINERS

STANDARD = ("fsdp2", "zero3", "ddp")
PROFILES = ("none", "zeropp", "auto", "exact")
RESULT = os.path.join(torchrun.MADE, "trainers.json")


def plan(names, everything):
    """(trainer, nodes, profile, seed) of all runs, in the order in which they are made."""
    for name in names:
        yield from ((name, "2x2", profile, 0) for profile in PROFILES)
    if not everything:
        return
    for name in filter(gates.PAIRED.__contains__, names):
        yield from ((name, "2x2", profile, 0) for profile in CONTROLS)
        for seed in (1, 2):
            yield from ((name, "2x2", profile, seed)
                        for profile in ("none", "zeropp", "auto", *CONTROLS))
    for name in names:
        yield from ((name, "4x2", profile, 0) for profile in PROFILES)


def tell(record, number, count, how):
    saved = f"{record['bytes_per_step'] / 1e6:8.2f} MB a step,"
    print(f"   {number:3} of {count}: {record['trainer']:17} {record['nodes']} "
          f"{record['profile']:7} seed {record['seed']}: loss {record['loss']:.4f}, {saved} "
          f"{record['seconds']:.3f} s a step   ({how})", flush=True)


def run_plan(runs):
    """(records, failures)"""
    records, failures = [], []
    for number, (name, nodes, profile, seed) in enumerate(runs, 1):
        started = time.monotonic()
        try:
            record, made = measure.measured(name, nodes, profile, seed)
        except torchrun.Failed as error:
            failures.append(f"{name} {nodes} {profile} seed {seed}: {error}")
            print(f"FAILED {failures[-1]}", flush=True)
            continue
        records.append(record)
        tell(record, number, len(runs),
             f"{time.monotonic() - started:.0f} s" if made else "made before")
    return records, failures


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TRAINERS))
    parser.add_argument("--all", action="store_true")
    chosen = parser.parse_args()
    for name in chosen.names:
        if name not in TRAINERS:
            parser.error(f"no trainer '{name}'; there are {', '.join(TRAINERS)}")
    return chosen


def main():
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.getuid() != 0:
        sys.exit("trainers: the pretend nodes are network namespaces and need root; use sudo")
    if measure.meddling():
        sys.exit(f"trainers: {', '.join(measure.meddling())} would change what is measured; unset "
                 "and run again: the measurement is at defaults")
    names = chosen.names or (list(TRAINERS) if chosen.all else STANDARD)
    for script in {TRAINERS[name].script for name in names}:
        if measure.missing(script):
            sys.exit(f"trainers: {measure.missing(script)}")
    planned = list(plan(names, chosen.all))
    try:
        records, failures = run_plan(planned)
    except KeyboardInterrupt:
        sys.exit("trainers: interrupted; the same command goes on with the run that was under way")
    found = list(rows.rows_of(records))
    judged = gates.gates_of(found, planned)
    red = gates.show(judged)
    rows.write(RESULT, commit=measure.commit(), rows=found, gates=judged, failures=failures)
    chart.draw(found, RESULT.replace(".json", ".png"))
    print(f"== wrote {RESULT} and trainers.png; {len(failures)} runs failed")
    sys.exit(1 if red or failures else 0)


if __name__ == "__main__":
    main()
