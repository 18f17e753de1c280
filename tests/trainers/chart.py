"""The picture of trainers.json: bytes between nodes a step of each trainer, and what the loss did."""
import rows

GREY, BLUE, GREEN = "#9aa5b1", "#1f6fb4", "#2f9e6e"


def bars(axes, shown, names, field, label, color, shift):
    places, heights = [], []
    for place, name in enumerate(names):
        row = shown.get(name)
        if row and row[field]:
            places.append(place + shift)
            heights.append(row[field] / 1e6)
    axes.bar(places, heights, 0.26, color=color, label=label)


def draw(found, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    first = [row for row in found if row["seed"] == 0]
    shapes = sorted({(row["nodes"], row["ranks_per_node"]) for row in first})
    if not shapes:
        return
    figure, panels = pyplot.subplots(2, len(shapes), figsize=(6.5 * len(shapes), 8), squeeze=False)
    for column, (nodes, ranks) in enumerate(shapes):
        here = [row for row in first if (row["nodes"], row["ranks_per_node"]) == (nodes, ranks)]
        names = list(dict.fromkeys(row["trainer"] for row in here))
        top, bottom = panels[0][column], panels[1][column]
        by_profile = {profile: {row["trainer"]: row for row in here if row["profile"] == profile}
                      for profile in ("zeropp", "auto")}
        bars(top, by_profile["zeropp"], names, "bytes_exact_per_step", "exact", GREY, -0.27)
        bars(top, by_profile["auto"], names, "bytes_per_step", "auto, settled", GREEN, 0)
        bars(top, by_profile["zeropp"], names, "bytes_per_step", "zeropp", BLUE, 0.27)
        top.set_title(f"{nodes} nodes x {ranks} ranks: MB between nodes a step", fontsize=10)
        for profile, color in (("auto", GREEN), ("zeropp", BLUE)):
            shown = by_profile[profile]
            bottom.scatter([names.index(name) for name in shown],
                           [100 * rows.worse(row) for row in shown.values()], color=color,
                           label=profile)
        bottom.axhline(0, color=GREY, linewidth=1)
        bottom.axhline(1, color="#c0392b", linewidth=1, linestyle="--", label="limit of one seed")
        bottom.set_title("validation loss beside the exact run's, %", fontsize=10)
        for axes in (top, bottom):
            axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
            axes.legend(frameon=False, fontsize=8)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
