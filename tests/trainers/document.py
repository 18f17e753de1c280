#!/usr/bin/python3
"""Writes the generated parts of docs/trainers.md and README.md: the catalogue's table, and what the
committed results, docs/trainers.json, say."""
import os
import statistics

import rows
from catalogue import CONTROLS, NOTHING, TRAINERS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = os.path.join(ROOT, "docs", "trainers.md")
README = os.path.join(ROOT, "README.md")
SHOWN = ("fsdp2", "fsdp2-bf16", "hsdp", "ddp", "zero2", "zero3")  # in the README, on 2x2 ranks
RESULT = os.path.join(ROOT, "docs", "trainers.json")
STEP_TIME = os.path.join(ROOT, "docs", "step_time.json")
MARKS = "<!-- generated: {} -->\n", "<!-- end of {} -->\n"
TITLES = {"all_gather": "all-gather", "reduce_scatter": "reduce-scatter", "all_reduce": "all-reduce"}


def cell(trainer, op):
    """Both profiles', in few words; under them what differs on more than two nodes."""
    texts = []
    for nodes in (2, 4):
        auto, zeropp = (trainer.asked(op, profile, nodes) for profile in ("auto", "zeropp"))
        texts.append(words(auto) if auto == zeropp else f"`auto` {words(auto)}; `zeropp` {words(zeropp)}")
    return texts[0] if texts[0] == texts[1] else f"{texts[0]}; 4 nodes: {texts[1]}"


def words(asked):
    if asked.least:
        return f"{asked.least:g}x"
    return "0 bytes" if asked.reason == NOTHING else f"exact: {asked.reason}"


def table():
    lines = ["| `NAME` | trainer | " + " | ".join(TITLES.values()) + " |", "|---|---|---|---|---|"]
    for name, trainer in TRAINERS.items():
        what = trainer.what + (f"; `SLIMCCL_RULES={trainer.rules}`" if trainer.rules else "")
        cells = " | ".join(cell(trainer, op) for op in TITLES)
        lines.append(f"| `{name}` | {what} | {cells} |")
    return "\n".join(lines) + "\n"


def number(value, pattern):
    return "" if value is None else format(value, pattern)


def results(found):
    lines = ["| trainer | ranks | profile | seeds | MB a step, exact | MB | fewer | weights | gradients"
             " | loss, exact | beside exact | all steps apart |", "|" + "---|" * 12]
    groups = {}
    for row in found:
        if row["profile"] not in ("exact", *CONTROLS):
            key = row["trainer"], row["nodes"], row["ranks_per_node"], row["profile"]
            groups.setdefault(key, []).append(row)
    for (trainer, nodes, ranks, profile), seeds in groups.items():
        first = seeds[0]
        exact, sent = first["bytes_exact_per_step"], first["bytes_per_step"]
        loss = sum(row["loss_exact"] for row in seeds) / len(seeds)
        worse = sum(map(rows.worse, seeds)) / len(seeds)
        apart = statistics.mean(row["losses_apart"] for row in seeds)
        lines.append(
            f"| {trainer} | {nodes}x{ranks} | {profile} | {len(seeds)} | {exact / 1e6:.2f} | "
            f"{sent / 1e6:.2f} | {exact / sent:.2f}x | {number(first['weights_ratio'], '.2f')} | "
            f"{number(first['gradients_ratio'], '.2f')} | {loss:.4f} | {worse:+.2%} | {apart:.2%} |")
    return "\n".join(lines) + "\n"


def summary(committed):
    """Each run tells the commit that it ran at; + where files differed from it."""
    red = sum(not gate["passed"] for gate in committed["gates"])
    commits = ", ".join(dict.fromkeys(row["commit"] for row in committed["rows"]))
    return (f"Runs at {commits}: {len(committed['gates']) - red} gates PASS, {red} RED.\n\n"
            + results(committed["rows"]))


def short(found):
    """The README's table."""
    lines = ["| 2x2 ranks | MB a step, exact | `zeropp` | `auto` | loss, exact | beside it: `zeropp` |"
             " `auto` |",
             "|" + "---|" * 7]
    for name in SHOWN:
        cells = {}
        for profile in ("zeropp", "auto"):
            seeds = [row for row in found if row["trainer"] == name and row["profile"] == profile
                     and (row["nodes"], row["ranks_per_node"]) == (2, 2)]
            first = seeds[0]
            exact, sent = first["bytes_exact_per_step"], first["bytes_per_step"]
            fewer = exact / sent
            cells[profile] = (f"{sent / 1e6:.1f}, {fewer:.2f}x fewer" if fewer > 1.05 else "exact",
                              f"{sum(map(rows.worse, seeds)) / len(seeds):+.2%}")
            loss = sum(row["loss_exact"] for row in seeds) / len(seeds)
        lines.append(f"| {TRAINERS[name].what} | {exact / 1e6:.1f} | {cells['zeropp'][0]} | "
                     f"{cells['auto'][0]} | {loss:.3f} | {cells['zeropp'][1]} | {cells['auto'][1]} |")
    return "\n".join(lines) + "\n"


def controls(found):
    """What DeepSpeed's rule did to the loss, seed by seed, beside ours in the same seeds."""
    beside = {(row["trainer"], row["profile"], row["seed"]): row for row in found if row["nodes"] == 2}
    seeds = sorted({seed for _, profile, seed in beside if profile in CONTROLS})
    lines = ["| trainer | gradients | " + " | ".join(f"seed {seed}" for seed in seeds)
             + " | mean | all steps apart |", "|---|---|" + "---|" * (len(seeds) + 2)]
    texts = {"zeropp": "`zeropp`", "auto": "`auto`",
             **{name: f"`{name}`: groups of {size}" for name, size in CONTROLS.items()}}
    for trainer in dict.fromkeys(name for name, profile, _ in beside if profile in CONTROLS):
        for profile, text in texts.items():
            runs = [beside[trainer, profile, seed] for seed in seeds]
            cells = [*map(rows.worse, runs), statistics.mean(map(rows.worse, runs))]
            apart = statistics.mean(row["losses_apart"] for row in runs)
            cells = " | ".join([*(f"{one:+.2%}" for one in cells), f"{apart:.2%}"])
            lines.append(f"| {trainer} | {text} | {cells} |")
    return "\n".join(lines) + "\n"


def step(found):
    """The README's sentence on time."""
    share = found["ratio"] / found["ideal"]
    return (f"A step of FSDP2 (14.7 million parameters, one sequence a rank, {found['nodes']}x"
            f"{found['ranks_per_node']} ranks on {found['cores']} cores; `./dev trainers time`): "
            f"{found['seconds_exact']:.3f} s\nexact, {found['wire_seconds_exact']:.3f} of them on the "
            f"wire; {found['seconds']:.3f} s under `zeropp`, {found['wire_seconds']:.3f} on the wire. In "
            f"the median of {found['rounds']} rounds\n{found['ratio']:.2f}x faster "
            f"({min(found['ratios']):.2f}x to {max(found['ratios']):.2f}x), {share:.0%} of the "
            f"{found['ideal']:.2f} times fewer bytes.\n")


def put(text, name, content):
    begin, end = (mark.format(name) for mark in MARKS)
    before, rest = text.split(begin)
    return before + begin + content + end + rest.split(end)[1]


def rewrite(path, **parts):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, content in parts.items():
        text = put(text, name, content)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    rewrite(PATH, catalogue=table())
    if os.path.exists(RESULT):
        committed = rows.read(RESULT)
        rewrite(PATH, results=summary(committed), controls=controls(committed["rows"]))
        rewrite(README, trainers=short(committed["rows"]))
    if os.path.exists(STEP_TIME):
        rewrite(README, time=step(rows.read(STEP_TIME)))


if __name__ == "__main__":
    main()
