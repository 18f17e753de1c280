"""What the rows of trainers.json must show. A gate that is not met is RED, and shown like all others."""
import math
import statistics

import rows
from catalogue import CONTROLS, JUDGED

SEED_LOSS, MEAN_LOSS = 0.01, 0.005  # the most that a loss may be worse than exact
LEARNED = 0.6  # of the first loss: the exact run's last one must be below
PAIRED = ("fsdp2", "zero3")  # with three seeds
INTERFACES = 0.025  # of the exact bytes: how far the saving seen may be from the one reported
APART = 2  # times as far as ours the control's training losses must lie from the exact run's
SETTLED = 1.1  # `auto`'s bytes a step beside `zeropp`'s, where both compress the same


class Gates:
    def __init__(self):
        self.found = []

    def add(self, name, text, value, passed, **more):
        self.found.append({"gate": f"{name}: {text}", "value": value, "passed": bool(passed), **more})


def name_of(row):
    return (f"{row['trainer']} {row['nodes']}x{row['ranks_per_node']} {row['profile']}"
            f" seed {row['seed']}")


def of_row(gates, row):
    name = name_of(row)
    if row["profile"] in CONTROLS:
        gates.add(name, "the control changed the gradients: other losses than the exact run's",
                  not row["identical"], not row["identical"])
        return
    ranks = row["nodes"] * row["ranks_per_node"]
    gates.add(name, f"all {ranks} ranks had the overlay", row["ranks_active"],
              row["ranks_active"] == ranks)
    if row["profile"] == "exact" or not rows.asks_compression(row):
        gates.add(name, "every loss has the bits of the run without the overlay",
                  row["identical"], row["identical"])
    if row["profile"] == "exact":
        return
    gates.add(name, f"the exact run learned: its loss fell below {LEARNED:.0%} of the first",
              round(row["loss_exact"], 4), row["loss_exact"] < LEARNED * row["first_loss"])
    for op in rows.OPS:
        gates.add(name, *rows.op_gate(row, op))
    gates.add(name, f"loss at most {SEED_LOSS:+.1%}", round(rows.worse(row), 5),
              rows.worse(row) <= SEED_LOSS)


def of_seeds(gates, all_rows):
    """Means over the seeds of a trainer, beside those of the control."""
    groups = {}
    for row in all_rows:
        where = row["trainer"], f"{row['nodes']}x{row['ranks_per_node']}", row["profile"]
        groups.setdefault(where, []).append(row)
    for (trainer, nodes, profile), own in groups.items():
        if trainer not in PAIRED or len(own) < 3 or profile not in ("auto", "zeropp"):
            continue
        mean = statistics.mean(map(rows.worse, own))
        name = f"{trainer} {nodes} {profile}, mean of {len(own)} seeds"
        gates.add(name, f"loss at most {MEAN_LOSS:+.1%}", round(mean, 5), mean <= MEAN_LOSS)
        control = groups.get((trainer, nodes, JUDGED), [])
        if len(control) == len(own):
            of_control(gates, name, own, control)


def of_control(gates, name, own, control):
    """DeepSpeed's rule is seen as what it is, or such runs could not tell a good rule from a bad one."""
    rule = f"DeepSpeed's INT4 rule in groups of {CONTROLS[JUDGED]}"
    ours, theirs = (statistics.mean(map(rows.worse, some)) for some in (own, control))
    gates.add(name, f"{rule} is worse: {theirs:+.3%}", round(ours, 5), theirs > max(ours, 0))
    ours, theirs = ({row["seed"]: row["losses_apart"] for row in some} for some in (own, control))
    times = [theirs[seed] / far for seed, far in ours.items() if far and theirs.get(seed)]
    gates.add(name, f"{rule} takes the losses of all steps at least {APART} times as far from the "
              "exact run's, in every seed", [round(one, 2) for one in times],
              len(times) == len(ours) and all(APART <= one < math.inf for one in times))


def of_settled_bytes(gates, all_rows):
    sent = {(row["trainer"], row["nodes"], row["profile"]): row["bytes_per_step"]
            for row in all_rows if row["seed"] == 0}
    for (trainer, nodes, profile), own in sent.items():
        other = sent.get((trainer, nodes, "zeropp"))
        same = all(rows.TRAINERS[trainer].asked(op, "auto", nodes)
                   == rows.TRAINERS[trainer].asked(op, "zeropp", nodes) for op in rows.OPS)
        if profile == "auto" and other and own and same:
            gates.add(f"{trainer}, {nodes} nodes", f"auto's settled bytes a step at most {SETTLED}x"
                      " those of zeropp", round(own / other, 4), own <= SETTLED * other)


def reported_saving(row, of_zeropp):
    """Bytes a step that the overlay says it saves once it compresses; under `auto` at its own
    ratios, of what `zeropp` compresses from the first step on."""
    saved = 0
    for op in rows.OPS:
        ratio = row["operations"][op]["ratio"]
        saved += of_zeropp["operations"][op]["exact_bytes"] * (1 - 1 / ratio) if ratio else 0
    return saved / row["steps"]


def of_interfaces(gates, all_rows):
    """The ratios are the overlay's own word: the nodes' interfaces must have seen the same."""
    zeropp = {(row["trainer"], row["nodes"], row["seed"]): row
              for row in all_rows if row["profile"] == "zeropp"}
    for row in all_rows:
        other = zeropp.get((row["trainer"], row["nodes"], row["seed"]))
        if row["profile"] not in ("auto", "zeropp") or not other:
            continue
        exact = row["bytes_exact_per_step"]
        seen = (exact - row["bytes_per_step"]) / exact
        told = reported_saving(row, other) / exact
        gates.add(name_of(row), f"the interfaces saw the saving that was reported, {told:.1%} of "
                  "the bytes a step", f"{seen:.1%}", abs(seen - told) <= INTERFACES)


def beside(planned):
    """Of the runs, those that need one without the overlay."""
    return [run for run in planned if run[2] != "none"]


def missing(all_rows, planned):
    """Runs that failed, or have no run without the overlay of the same fingerprint."""
    made = {(row["trainer"], f"{row['nodes']}x{row['ranks_per_node']}", row["profile"], row["seed"])
            for row in all_rows}
    return [" ".join(map(str, run)) for run in beside(planned) if run not in made]


def of_plan(gates, all_rows, planned):
    count, without = len(beside(planned)), missing(all_rows, planned)
    gates.add("all", f"{count} runs beside runs without the overlay", without or "all there",
              count and not without)


def gates_of(all_rows, planned=None):
    """`planned`: (trainer, nodes, profile, seed) of what should be there."""
    gates = Gates()
    if planned is not None:
        of_plan(gates, all_rows, planned)
    for row in all_rows:
        of_row(gates, row)
    of_seeds(gates, all_rows)
    of_settled_bytes(gates, all_rows)
    of_interfaces(gates, all_rows)
    return gates.found


def show(found):
    """The RED ones last: there are hundreds."""
    for gate in sorted(found, key=lambda gate: not gate["passed"]):
        print(f"{'PASS' if gate['passed'] else 'RED '}  {gate['gate']}: {gate['value']}")
    red = sum(not gate["passed"] for gate in found)
    print(f"== gates: {len(found) - red} PASS, {red} RED")
    return red
