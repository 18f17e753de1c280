"""The rows of trainers.json: a run under a profile beside the same run without the overlay."""
import json
import math
import os
import statistics

from catalogue import NOTHING, OPS, TRAINERS

# Why a call may stay exact where nothing is asked to cross between nodes,
IN_NODE = {"one node", "under the floor", "type", "operation"}
# and where something is: flags and the like. Whatever else is exact was left out by mistake.
ASIDE = IN_NODE | {"reduction", "no elements"}
COMPRESSED = {"compressed", "would be compressed"}
AUTO_SHARE = 0.25  # of what is asked of `zeropp`, at least: it is exact until it has its evidence


def ratio(traffic, *ops):
    """The exact scheme's bytes between nodes by those sent, of compressed calls; None without any."""
    sent = sum(traffic[op].get("bytes", 0) for op in ops)
    return sum(traffic[op]["exact_bytes"] for op in ops) / sent if sent else None


def share(traffic, op):
    """Of all elements that the operation carried: those that crossed compressed."""
    return traffic[op]["compressed_elements"] / max(1, traffic[op]["elements"])


def operations_of(traffic):
    return {op: {"ratio": ratio(traffic, op), "share": share(traffic, op),
                 "exact_bytes": traffic[op]["exact_bytes"], "bytes": traffic[op]["bytes"],
                 "calls": traffic[op]["calls"]} for op in OPS}


def same_bits(base, run):
    """Of every loss, the validation's too, and of the parameters at the end."""
    return all(run[part] == base[part] for part in ("losses", "loss", "parameters"))


def apart(base, run):
    """How far the training losses lie from the exact run's: root mean square over the steps, as a
    share of these. Above it by chance at one step and below at another, they do not cancel. None
    of a run that ended early."""
    exact, own = ([float.fromhex(loss) for loss in one["losses"]] for one in (base, run))
    if len(exact) != len(own):
        return None
    return math.sqrt(statistics.mean((b / a - 1)**2 for a, b in zip(exact, own)))


def row_of(base, run):
    nodes, ranks = (int(part) for part in run["nodes"].split("x"))
    traffic = run["traffic"]
    return {
        "trainer": run["trainer"], "nodes": nodes, "ranks_per_node": ranks,
        "profile": run["profile"], "seed": run["seed"], "steps": run["steps"],
        "loss_exact": base["loss"], "loss": run["loss"],
        "bytes_exact_per_step": base["bytes_per_step"], "bytes_per_step": run["bytes_per_step"],
        "weights_ratio": ratio(traffic, "all_gather"),
        "gradients_ratio": ratio(traffic, "reduce_scatter", "all_reduce"),
        "seconds_exact": base["seconds"], "seconds": run["seconds"],
        "first_loss": float.fromhex(base["losses"][0]), "rate": run["rate"],
        "identical": same_bits(base, run), "losses_apart": apart(base, run),
        "ranks_active": run["ranks_active"],
        "operations": operations_of(traffic),
        "commit": run["commit"], "fingerprint": run["fingerprint"],
    }


def rows_of(records):
    """In the records' order; those without their run without the overlay are left out."""
    bases = {(one["trainer"], one["nodes"], one["seed"], one["steps"]): one
             for one in records if one["profile"] == "none"}
    for one in records:
        base = bases.get((one["trainer"], one["nodes"], one["seed"], one["steps"]))
        if one["profile"] != "none" and base and base["fingerprint"] == one["fingerprint"]:
            yield row_of(base, one)


def worse(row):
    """How much higher the validation loss is than the exact run's, as a share of it."""
    return row["loss"] / row["loss_exact"] - 1


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write(path, **content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.rename(path + ".new", path)


def asks_compression(row):
    trainer = TRAINERS[row["trainer"]]
    return any(trainer.asked(op, row["profile"], row["nodes"]).least for op in OPS)


def op_gate(row, op, share=None):
    """(what is asked, what was seen, whether it is met); `share`: of a run of few steps, else the
    catalogue's."""
    asked = TRAINERS[row["trainer"]].asked(op, row["profile"], row["nodes"])
    seen = row["operations"][op]
    text, calls = f"{op} {asked}", set(seen["calls"])
    if asked.least:
        before = {"no evidence"} if row["profile"] == "auto" else set()
        strange = calls - COMPRESSED - ASIDE - before
        share = share or asked.share * (AUTO_SHARE if row["profile"] == "auto" else 1)
        text += f" for {share:.0%} of its elements"
        good = bool(seen["ratio"] and seen["ratio"] >= asked.least) and seen["share"] >= share
        value = f"{seen['ratio'] or 1:.3f}x for {seen['share']:.1%}"
        return text, seen["calls"] if strange else value, good and not strange
    if seen["ratio"]:
        return text, seen["ratio"], False
    if asked.reason == NOTHING:
        return text, seen["calls"], calls <= IN_NODE
    return text, seen["calls"], asked.reason in calls and calls <= ASIDE | {asked.reason}
