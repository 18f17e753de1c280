"""The demo's picture: bytes and time of each collective, exact beside quantized, per rate."""
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

NAMES = {"all_gather_forward": "all-gather\nforward", "all_gather_backward": "all-gather\nbackward",
         "reduce_scatter_gradients": "reduce-scatter\ngradients"}
RATES = {"1gbit": "1 Gbit/s", "100mbit": "100 Mbit/s"}
GREY, BLUE = "#9aa5b1", "#1f6fb4"


def bars(axes, rows, exact, quantized, unit, digits, title):
    places = range(len(rows))
    highest = max(row[exact] for row in rows) / unit
    for shift, field, color, label in ((-0.2, exact, GREY, "exact bf16"),
                                       (0.2, quantized, BLUE, "quantized")):
        heights = [row[field] / unit for row in rows]
        axes.bar([place + shift for place in places], heights, 0.38, color=color, label=label)
        for place, height, row in zip(places, heights, rows):
            text = f"{height:.{digits}f}"
            if field == quantized:
                text += f"\n{row[exact] / row[field]:.2f}x less"
            axes.text(place + shift, height + 0.015 * highest, text, ha="center", va="bottom",
                      fontsize=7.5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8,
                                    "alpha": 0.85})
    axes.set_xticks(list(places), [NAMES[row["name"]] for row in rows], fontsize=9)
    axes.set_ylim(0, highest * 1.22)
    axes.set_title(title, fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def curves(axes, trained):
    steps = range(1, len(trained["losses"]) + 1)
    axes.plot(steps, trained["losses_exact"], color=GREY, linewidth=3, label="exact")
    axes.plot(steps, trained["losses"], color=BLUE, linewidth=1.3, label=trained["profile"])
    axes.set_title(f"training loss by step; validation {trained['loss_exact']:.3f} exact, "
                   f"{trained['loss']:.3f} {trained['profile']}", fontsize=10)
    axes.legend(frameon=False, fontsize=9)


def pair(axes, exact, own, digits, title):
    axes.bar([0, 1], [exact, own], 0.5, color=[GREY, BLUE])
    for place, height, text in ((0, exact, ""), (1, own, f"\n{exact / own:.2f}x less")):
        axes.text(place, height + 0.015 * exact, f"{height:.{digits}f}{text}", ha="center", va="bottom",
                  fontsize=9)
    axes.set_xticks([0, 1], ["exact", "zeropp"], fontsize=9)
    axes.set_ylim(0, exact * 1.22)
    axes.set_title(title, fontsize=10)


def draw_training(panels, trained):
    curves(panels[0], trained)
    pair(panels[1], trained["bytes_exact_per_step"] / 1e6, trained["bytes_per_step"] / 1e6, 1,
         "MB between the nodes a step of FSDP2")
    pair(panels[2], trained["seconds_exact"], trained["seconds"], 2, "seconds a step at 1 Gbit/s")
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)


def draw(passes, trained, path):
    """`trained`: the demo's training, or None."""
    lines = 2 if trained else 1
    figure, grid = pyplot.subplots(lines, 1 + len(passes), figsize=(13, 4.6 * lines), squeeze=False)
    if trained:
        draw_training(grid[0], trained)
    panels, first = grid[-1], passes[0]
    bars(panels[0], first, "bytes_exact", "bytes", 1e6, 1,
         f"MB between the nodes ({first[0]['mebibytes']} MiB of bf16 each)")
    for axes, rows in zip(panels[1:], passes):
        bars(axes, rows, "seconds_exact", "seconds", 1, 2,
             f"seconds at {RATES.get(rows[0]['rate'], rows[0]['rate'])} ({rows[0]['mebibytes']} MiB each)")
    panels[0].legend(frameon=False, fontsize=9, loc="upper right", bbox_to_anchor=(1.0, 1.0), ncol=2)
    accuracy = ", ".join(f"{NAMES[row['name']]} {row['sqnr_db']:.1f} dB".replace("\n", " ")
                         for row in first)
    title = "One ZeRO-3 step on 2 nodes x 2 ranks, real weights and gradients"
    figure.suptitle(f"Above: a GPT under FSDP2 on 2 nodes. Below: {title}" if trained else title, fontsize=12)
    figure.text(0.5, 0.01, f"Bytes from the interface counters, medians. SQNR: {accuracy}",
                ha="center", fontsize=8, color="#555")
    figure.tight_layout(rect=(0, 0.03, 1, 0.97))
    figure.savefig(path, dpi=120)
