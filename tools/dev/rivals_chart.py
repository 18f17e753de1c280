"""The picture of ./dev bench rivals: time of each collective per library, a panel per size, and bytes."""
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

COLORS = ("#1f6fb4", "#9aa5b1", "#c9a66b", "#8fb08c")


def bars(axes, results, cases, value, text):
    """Grouped bars: a group per case, a bar per library."""
    width = 0.8 / len(results.names)
    highest = 0
    for number, name in enumerate(results.names):
        places = [place + (number - (len(results.names) - 1) / 2) * width for place in range(len(cases))]
        heights = [value(case, name) or 0 for case in cases]
        highest = max(highest, *heights)
        axes.bar(places, heights, 0.94 * width, color=COLORS[number % len(COLORS)], label=name)
        for place, height, case in zip(places, heights, cases):
            axes.text(place, height, text(case, name) if height else "none", ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(cases)), [case[0].replace("_", "-") for case in cases], fontsize=9)
    axes.set_ylim(0, 1.12 * highest or 1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw(results, path):
    """`results`: rivals_report.Results."""
    data = results.data
    sizes = data["sizes"]
    figure, panels = pyplot.subplots(1, len(sizes) + 1, figsize=(5.5 * (len(sizes) + 1), 4.6))

    def milliseconds(case, name):
        return (results.median(case, name) or 0) * 1e3

    def mebibytes(case, name):
        return (results.wire(case, name) or 0) / (1 << 20)

    def ratio_text(case, name):
        ratio = None if name == results.ours else results.ratio(case, name)
        return f"{milliseconds(case, name):.0f}" + (f"\n{ratio:.2f}x" if ratio else "")

    for axes, size in zip(panels, sizes):
        cases = [case for case in results.cases if case[1] == size]
        bars(axes, results, cases, milliseconds, ratio_text)
        axes.set_title(f"milliseconds, {size >> 20} MiB, and times as long as ours", fontsize=10)
    cases = [case for case in results.cases if case[1] == sizes[-1]]
    bars(panels[-1], results, cases, mebibytes, lambda case, name: f"{mebibytes(case, name):.0f}")
    panels[-1].set_title(f"MiB that a node sends per call, {sizes[-1] >> 20} MiB", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, fontsize=9, ncol=len(results.names),
                  loc="lower center")
    figure.suptitle(f"Exact collectives, fp32, {data['topology']} ranks at {data['rate']}: medians of "
                    f"{data['rounds']} rounds that take turns", fontsize=12)
    figure.tight_layout(rect=(0, 0.05, 1, 0.97))
    figure.savefig(path, dpi=120)
