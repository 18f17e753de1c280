"""What the rows of trainers.json must show. A gate that is not met is RED, and shown like all others."""
import statistics

import rows

SEED_LOSS, MEAN_LOSS = 0.01, 0.005  # the most that a loss may be worse than exact
LEARNED = 0.6  # of the first loss: the exact run's last one must be below
PAIRED = ("fsdp2", "zero3")  # with three seeds
SETTLED = 1.1  # `auto`'s bytes a step beside `zeropp`'s, where both compress the same


class Gates:
    def __init__(self):
        self.found = []

    def add(self, name, text, value, passed):
        self.found.append({"gate": f"{name}: {text}", "value": value, "passed": bool(passed)})


def name_of(row):
    return (f"{row['trainer']} {row['nodes']}x{row['ranks_per_node']} {row['profile']}"
            f" seed {row['seed']}")


def of_row(gates, row):
    name = name_of(row)
    if row["profile"] == "ds4":
        return
    ranks = row["nodes"] * row["ranks_per_node"]
    gates.add(name, f"all {ranks} ranks had the overlay", row["ranks_active"],
              row["ranks_active"] == ranks)
    if row["profile"] == "exact":
        gates.add(name, "every loss has the bits of the run without the overlay",
                  row["identical"], row["identical"])
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
        groups.setdefault(where, []).append(rows.worse(row))
    for (trainer, nodes, profile), losses in groups.items():
        if trainer not in PAIRED or len(losses) < 3 or profile not in ("auto", "zeropp"):
            continue
        mean = statistics.mean(losses)
        name = f"{trainer} {nodes} {profile}, mean of {len(losses)} seeds"
        gates.add(name, f"loss at most {MEAN_LOSS:+.1%}", round(mean, 5), mean <= MEAN_LOSS)
        control = groups.get((trainer, nodes, "ds4"), [])
        if len(control) == len(losses):
            worse = statistics.mean(control)
            gates.add(name, f"DeepSpeed's INT4 rule is worse: {worse:+.3%}", round(mean, 5),
                      worse > mean)


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


def gates_of(all_rows):
    gates = Gates()
    for row in all_rows:
        of_row(gates, row)
    of_seeds(gates, all_rows)
    of_settled_bytes(gates, all_rows)
    return gates.found


def show(found, only_red=False):
    for gate in found:
        if not (only_red and gate["passed"]):
            print(f"{'PASS' if gate['passed'] else 'RED '}  {gate['gate']}: {gate['value']}")
    red = sum(not gate["passed"] for gate in found)
    print(f"== gates: {len(found) - red} PASS, {red} RED")
    return red
