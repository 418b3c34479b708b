"""Numbers of studies and benchmarks in, a matplotlib Figure out; `figures` has the rest."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from sbd_utils.figures import DECODER_COLORS, NAMES, new_figure
from sbd_utils.metrics import interval

STYLES = ("o-", "^--", "s:")  # of lines that share a color


def seed_spread(
    rows: Sequence[Mapping], panels: Mapping[str, str], bounds: Mapping[str, float] | None = None
) -> Figure:
    """One panel a score, one dot a seed, the decoders apart; beside them mean and 95% interval.

    rows: scores as results/seeds.csv holds them. panels: score to its axis label.
    bounds: score to the threshold that its claim has, drawn as a dotted line.
    """
    figure = new_figure(8, 2.7)
    for axes, (name, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for place, decoder in enumerate(DECODER_COLORS):
            values = [row[name] for row in rows if row["decoder"] == decoder]
            offsets = np.linspace(-0.12, 0.12, len(values))
            axes.plot(place + np.array(offsets), values, "o", ms=5, alpha=0.8,
                      color=DECODER_COLORS[decoder])
            low, high = interval(values)
            middle = (low + high) / 2
            axes.errorbar(place + 0.27, middle, middle - low, fmt="_", capsize=3,
                          color=DECODER_COLORS[decoder])
        if bounds and name in bounds:
            axes.axhline(bounds[name], color="black", lw=0.8, ls=":")
        axes.set(xticks=[0, 1], xticklabels=["DeConv", "SBD"], xlim=(-0.5, 1.5), ylabel=label)
    return figure


def growth(
    curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    labels: Mapping[str, tuple[str, str]],
) -> Figure:
    """One log-log panel a quantity, one line a decoder.

    curves: panel to line to (what grows, the cost). A line is a decoder, "plain" or "ours" after
    it if both loops are drawn: dashed for the plain one. labels: panel to its axes' labels.
    """
    figure = new_figure(8, 3.2)
    same = len({y_label for _, y_label in labels.values()}) == 1
    panels = figure.subplots(1, len(curves), sharey=same)
    for axes, (panel, lines) in zip(panels, curves.items(), strict=True):
        for line, (values, costs) in lines.items():
            decoder, _, loop = line.partition(" ")
            axes.plot(values, costs, marker="o", ms=4, color=DECODER_COLORS[decoder],
                      ls="--" if loop == "plain" else "-",
                      label=f"{NAMES[decoder]} {loop}".strip())
        axes.set(xscale="log", yscale="log", xlabel=labels[panel][0])
        if axes is panels[0] or not same:
            axes.set_ylabel(labels[panel][1])
        axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.margins(y=0)
    for axes in panels[:1] if same else panels:  # whole decades, so that each has ticks to read
        low, high = np.log10(axes.get_ylim())
        axes.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def pieces(losses: Sequence[Mapping]) -> Figure:
    """How much slower a step is without each piece: rows of results/bench.json's `without`."""
    figure = new_figure(8, 2.9)
    panels = figure.subplots(1, len(DECODER_COLORS), sharex=True)
    for axes, decoder in zip(panels, DECODER_COLORS, strict=True):
        rows = sorted((r for r in losses if r["decoder"] == decoder), key=lambda r: r["ratio"])
        ratios = np.array([r["ratio"] for r in rows])
        spans = np.abs(np.array([[r["low"] for r in rows], [r["high"] for r in rows]])
                       - ratios)
        axes.errorbar(ratios, range(len(rows)), xerr=spans, fmt="o", ms=5, capsize=2,
                      color=DECODER_COLORS[decoder])
        axes.axvline(1, color="black", lw=0.8, ls=":")
        axes.set(yticks=range(len(rows)), yticklabels=[r["piece"] for r in rows],
                 title=NAMES[decoder], xlabel="a step without it, over a step with it")
    return figure


def bars(rows: Mapping[str, Mapping[str, np.ndarray]], x_label: str, y_label: str) -> Figure:
    """Panels in rows and columns by name, each a bar for every one of its values [N]."""
    figure = new_figure(8, 1.1 * len(rows) + 0.6)
    grid = figure.subplots(len(rows), len(next(iter(rows.values()))), sharex=True, sharey=True)
    for panels, (row, columns) in zip(grid, rows.items(), strict=True):
        panels[0].set_ylabel(row)
        for axes, (name, values) in zip(panels, columns.items(), strict=True):
            axes.bar(range(len(values)), values, width=1, edgecolor="white", color="#666666")
            if axes in grid[0]:
                axes.set_title(name)
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    return figure


def learning(panels: Mapping[str, Mapping[str, Mapping[int, tuple]]]) -> Figure:
    """Score against seconds, one line a network.

    panels: split to "plain" or "CoordConv" to a number of parameters to (seconds, scores).
    """
    figure = new_figure(8, 3.4)
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for network, sizes in lines.items():
            color = DECODER_COLORS["deconv" if network == "plain" else "sbd"]
            for style, (size, (seconds, scores)) in zip(STYLES, sizes.items(), strict=False):
                axes.plot(seconds, scores, style, ms=4, lw=1, color=color,
                          label=f"{network} {size:,}")
        axes.set(title=title, xscale="log", xlabel="seconds of training on one core")
        axes.xaxis.set_major_formatter("{x:g}")
    grid[0].set_ylabel("right answers in the test")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right", fontsize="small",
                  title="parameters", title_fontsize="small")
    return figure


def variants(
    rows: Sequence[Mapping], panels: Mapping[str, str], bounds: Mapping[str, float],
    log: Mapping[str, Sequence[float]],
) -> Figure:
    """One line a decoder, one panel a score, one dot a seed; colored by how the decoder starts.

    rows: of `study.read_scores`, and the recipe's `start`. panels: score to its title. bounds:
    score to a bound, drawn as a dotted line. log: the scores that need a log axis, to its ticks.
    """
    names = list(dict.fromkeys(row["decoder"] for row in rows))
    colors = {"linear": DECODER_COLORS["deconv"], "broadcast": DECODER_COLORS["sbd"]}
    figure = new_figure(10, 0.22 * len(names) + 1.3)
    for axes, (score, label) in zip(
        figure.subplots(1, len(panels), sharey=True), panels.items(), strict=True
    ):
        for row in rows:
            place = names.index(row["decoder"]) + 0.2 * (row["seed"] - 1)  # equal dots stay apart
            axes.plot(row[score], place, "o", ms=3.5, alpha=0.7, color=colors[row["start"]])
        axes.set_title(textwrap.fill(label, 15), fontsize="small")
        if score in bounds:
            axes.axvline(bounds[score], color="black", lw=0.8, ls=":")
        axes.tick_params(labelsize="small", left=False)
        if score in log:
            axes.set_xscale("log")
            axes.set_xticks(log[score], [f"{tick:g}" for tick in log[score]])
            axes.minorticks_off()
        else:
            axes.locator_params(axis="x", nbins=3)
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="y", lw=0.4)
    axes.set_ylim(len(names) - 0.5, -0.5)
    for start, color in colors.items():
        axes.plot([], [], "o", ms=4, color=color, label=f"{start} start")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2,
                  fontsize="small")
    return figure


def rate_distortion(rows: Sequence[Mapping]) -> Figure:
    """Squared error an image against KL term, a dot a run, a line a decoder and number of epochs.

    rows: of `study.read_scores`. A line joins the means over the seeds.
    """
    figure = new_figure(8, 4)
    axes = figure.subplots()
    for epochs, marker in zip(sorted({row["epochs"] for row in rows}), "o*", strict=True):
        for decoder, color in DECODER_COLORS.items():
            points: dict[float, list] = {}
            for row in rows:
                if (row["decoder"], row["epochs"]) == (decoder, epochs):
                    points.setdefault(row["weight"], []).append((row["kl"], row["error"]))
                    axes.plot(row["kl"], row["error"], marker, ms=5, color=color, alpha=0.7,
                              mfc=color if row["beta"] == 1 else "white")
            line = [np.mean(points[weight], axis=0) for weight in sorted(points)]
            axes.plot(*np.transpose(line), color=color, lw=1)
            axes.plot([], [], marker, color=color, label=f"{NAMES[decoder]}, {epochs:.0f} epochs")
    axes.plot([], [], "o", color="black", mfc="white", label="β other than 1")
    axes.set(yscale="log", xlabel="rate: KL term, nats an image",
             ylabel="distortion: squared error an image")
    axes.set_yticks((3, 10, 30, 100), ("3", "10", "30", "100"))
    axes.minorticks_off()
    axes.legend()
    return figure
