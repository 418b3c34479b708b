"""Curves, bars and dots: of one run, of many seeds, of a benchmark."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from sbd_utils.figures.style import DECODER_COLORS, FACTOR_COLORS, NAMES, new_figure
from sbd_utils.measures.intervals import mean

STYLES = ("o-", "^--", "s:")  # of lines that share a color
# Of the networks of the study `coordconv`.
END_COLORS = {"plain": DECODER_COLORS["deconv"], "coordconv": DECODER_COLORS["sbd"]}


TERM_TITLES = {"reconstruction": "reconstruction term", "kl": "KL term"}


def loss_curves(
    histories: Mapping[str, Mapping[str, Sequence[float]]],
    published: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Both loss terms by epoch, nats an image, that of the reconstruction on a log scale.

    histories and published: decoder to "reconstruction" and "kl"; a curve, and the post's end.
    """
    figure = new_figure(8, 3.4)
    panels = figure.subplots(1, 2)
    for axes, term in zip(panels, ("reconstruction", "kl"), strict=True):
        for decoder, terms in histories.items():
            color = DECODER_COLORS[decoder]
            epochs = np.arange(1, len(terms[term]) + 1)
            axes.plot(epochs, terms[term], color=color, label=NAMES[decoder])
            axes.axhline(published[decoder][term], color=color, ls=":", lw=1,
                         label=f"{NAMES[decoder]}, post's last epoch")
        axes.set(xlabel="epoch", ylabel="nats an image", title=TERM_TITLES[term])
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(LogFormatter())  # 10, not a power of ten
    panels[0].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    panels[0].legend(fontsize="small")
    return figure


def responses(
    values: np.ndarray, centroids: Mapping[str, np.ndarray], colors: Mapping[str, np.ndarray]
) -> Figure:
    """The blob's place and color against each latent, two rows a decoder.

    values: [V]. centroids: decoder to [latent_dim, V, 2] in pixels. colors: to [latent_dim, V, 3].
    """
    figure = new_figure(8, 6.4)
    for part, decoder in zip(figure.subfigures(len(colors), 1), colors, strict=True):
        latent_dim = len(colors[decoder])
        grid = part.subplots(2, latent_dim, sharex=True, sharey="row")
        for k in range(latent_dim):
            for axis, factor in enumerate("xy"):
                grid[0, k].plot(values, centroids[decoder][k, :, axis], label=factor,
                                color=FACTOR_COLORS[factor])
            for channel, name in enumerate(("red", "green", "blue")):
                grid[1, k].plot(values, colors[decoder][k, :, channel], label=name, color=name)
            grid[0, k].set(title=f"latent {k}", ylim=(0, 64))
            grid[1, k].set(ylim=(-0.05, 1.05))
        grid[0, 0].set_ylabel("centroid, pixels")
        grid[1, 0].set_ylabel("share of color")
        for row in grid:
            row[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))
        part.suptitle(NAMES[decoder], color=DECODER_COLORS[decoder])
    figure.supxlabel("value the latent is set to", fontsize="medium")
    return figure


def moves(shares: Mapping[str, Mapping[str, np.ndarray]], threshold: float) -> Figure:
    """How far a sweep of each latent moves each factor; decoder to factor to [latent_dim]."""
    figure = new_figure(8, 2.9)
    panels = figure.subplots(1, len(shares), sharey=True)
    for axes, (decoder, factors) in zip(panels, shares.items(), strict=True):
        for i, (factor, values) in enumerate(factors.items()):
            axes.bar(np.arange(len(values)) + 0.27 * (i - 1), values, 0.25,
                     color=FACTOR_COLORS[factor], label=factor)
        axes.axhline(threshold, color="black", lw=0.8, ls=":")
        axes.set(xlabel="latent", title=NAMES[decoder], xticks=range(len(values)))
    panels[0].set(ylabel="share of the full range", ylim=(0, 1.2))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper",
                  title="factor", fontsize="small")
    return figure


def geometry(
    points: Mapping[str, np.ndarray], axis_labels: Mapping[str, tuple[str, str]]
) -> Figure:
    """Ground truth and latent planes, every sixth line of a lattice drawn through its points.

    points: panel title to a lattice [31, 31, 2], the truth first. axis_labels: panel title to the
    names of its axes.
    """
    figure = new_figure(8.4, 3.3)
    figure.get_layout_engine().set(w_pad=0.12)  # else a label touches the panel on its left
    panels = figure.subplots(1, len(points))
    for axes, (name, lattice) in zip(panels, points.items(), strict=True):
        drawn = list(range(0, len(lattice), 6))
        for i, k in enumerate(drawn):
            shade = 0.35 + 0.6 * i / (len(drawn) - 1)
            for line, colormap, marker in (
                (lattice[:, k], "Blues", "vertical lines ($x$ fixed)"),
                (lattice[k, :], "Oranges", "horizontal lines ($y$ fixed)"),
            ):
                label = marker if i == len(drawn) - 1 else None
                axes.plot(*line.T, color=colormaps[colormap](shade), lw=1.2, marker=".", ms=3,
                          label=label)
        x_label, y_label = axis_labels[name]
        axes.set(title=name, xlabel=x_label, ylabel=y_label)
        axes.set_aspect("equal", adjustable="datalim")
    panels[0].invert_yaxis()  # y grows downward, as in the pictures
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


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
            spread = mean(values)
            axes.errorbar(place + 0.27, spread.value,
                          [[spread.value - spread.low], [spread.high - spread.value]], fmt="_",
                          capsize=3, color=DECODER_COLORS[decoder])
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


def learning(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Score against steps, one line per network, in the color of the end that it belongs to.

    panels: split to network ("plain..." or "coordconv...") to (steps, scores).
    """
    figure = new_figure(8, 3.4)
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True)
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        counts = Counter()
        for network, (steps, scores) in lines.items():
            end = network.partition("-")[0]
            axes.plot(steps, scores, STYLES[counts[end]], ms=4, lw=1, color=END_COLORS[end],
                      label=network)
            counts[end] += 1
        axes.set(title=title, xscale="log", xlabel="steps of training")
        axes.xaxis.set_major_formatter("{x:g}")
    grid[0].set_ylabel("share right in the test")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right")
    return figure


# How a decoder starts, in the color of the decoder that is known for it.
START_COLORS = {"linear": DECODER_COLORS["deconv"], "broadcast": DECODER_COLORS["sbd"]}


def dissociation(rows: pd.DataFrame, bound: float) -> Figure:
    """How bent a plane is against the checkerboard that a decoder leaves, one dot per run.

    rows: of `studies.tables.read`, with `start` (the recipe's), `bent` (1 - affine R²) and `folds`
    (folded cells); hollow where there are any. bound: of `bent`, a dotted line.
    """
    figure = new_figure(8, 4.4)
    axes = figure.subplots()
    for marker, (decoder, runs) in zip("osDXo", rows.groupby("decoder", sort=False), strict=True):
        color = START_COLORS[runs.start.iloc[0]]
        for folded, some in runs.groupby(runs.folds > 0):
            axes.plot(some.pattern, some.bent, marker, ms=7, color=color, alpha=0.7,
                      mfc="white" if folded else color)
        axes.plot([], [], marker, color=color, label=decoder)
    axes.plot([], [], "o", color="black", mfc="white", label="hollow: with folded cells")
    axes.axhline(bound, color="black", lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", ylim=(5e-4, 3),
             xlabel="checkerboard: share of the residual's variance",
             ylabel="bent: 1 - affine R², worst color")
    axes.set_yticks((0.001, 0.01, 0.1, 1), ("0.001", "0.01", "0.1", "1"))
    for x, side, pattern in ((0.01, "left", "without"), (0.99, "right", "with")):
        for y, vertical, shape in ((0.02, "bottom", "straight"), (0.98, "top", "bent")):
            axes.text(x, y, f"{shape}, {pattern} pattern", ha=side, va=vertical, style="italic",
                      transform=axes.transAxes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def variants(
    rows: pd.DataFrame, panels: Mapping[str, str], log: Mapping[str, Sequence[float]], bound: float
) -> Figure:
    """One line per decoder, one panel per score, one dot per run; colored by the decoder's start.

    rows, and bound in the first panel: as in dissociation. panels: score to its title. log: the
    scores that need a log axis, to its ticks.
    """
    names = list(rows.decoder.unique())
    rank = rows.groupby("decoder").cumcount()
    places = rows.decoder.map(names.index) + 0.4 * (rank / rank.max() - 0.5)  # so dots stay apart
    figure = new_figure(8, 0.24 * len(names) + 1.4)
    grid = figure.subplots(1, len(panels), sharey=True)
    for axes, (score, label) in zip(grid, panels.items(), strict=True):
        for (start, folded), runs in rows.groupby(["start", rows.folds > 0]):
            color = START_COLORS[start]
            axes.plot(runs[score], places[runs.index], "o", ms=4, alpha=0.8, color=color,
                      mfc="white" if folded else color)
        axes.set_title(label, fontsize="small")
        axes.tick_params(left=False)
        if score in log:
            axes.set_xscale("log")
            axes.set_xticks(log[score], [f"{tick:g}" for tick in log[score]])
            axes.minorticks_off()
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="y", lw=0.4)
    axes.set_ylim(len(names) - 0.5, -0.5)
    grid[0].axvline(bound, color="black", lw=0.8, ls=":")
    for start, color in START_COLORS.items():
        axes.plot([], [], "o", ms=4, color=color, label=f"{start} start")
    axes.plot([], [], "o", ms=4, color="black", mfc="white", label="hollow: with folded cells")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def rate_distortion(rows: pd.DataFrame) -> Figure:
    """Squared error against KL term, one dot per run; a line joins the means over the seeds.

    rows: of `studies.tables.read`; one line per decoder and number of epochs.
    """
    figure = new_figure(8, 4)
    axes = figure.subplots()
    markers = dict(zip(sorted(rows.epochs.unique()), "o*", strict=True))
    for (epochs, decoder), runs in rows.groupby(["epochs", "decoder"]):
        color, marker = DECODER_COLORS[decoder], markers[epochs]
        for other, some in runs.groupby(runs.beta != 1):
            axes.plot(some.kl, some.error, marker, ms=5, color=color, alpha=0.7,
                      mfc="white" if other else color)
        line = runs.groupby("weight")[["kl", "error"]].mean()
        axes.plot(line.kl, line.error, color=color, lw=1)
        axes.plot([], [], marker, color=color, label=f"{NAMES[decoder]}, {epochs} epochs")
    axes.plot([], [], "o", color="black", mfc="white", label="hollow: β other than 1")
    axes.set(yscale="log", xlabel="rate: KL term, nats per image",
             ylabel="distortion: squared error per image")
    axes.set_yticks((3, 10, 30, 100), ("3", "10", "30", "100"))
    axes.minorticks_off()
    axes.legend()
    return figure


def ladder(rows: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """One line per network, one panel per score from 0 to 1, one dot per seed.

    rows: of the study `coordconv`, with its `network`, `end` and the scores. panels: score to its
    title.
    """
    names = list(rows.network.unique())
    rank = rows.groupby("network").cumcount()
    places = rows.network.map(names.index) + 0.4 * (rank / rank.max() - 0.5)  # so dots stay apart
    figure = new_figure(8, 0.26 * len(names) + 1)
    grid = figure.subplots(1, len(panels), sharey=True)
    for axes, (score, label) in zip(grid, panels.items(), strict=True):
        for end, runs in rows.groupby("end"):
            axes.plot(runs[score], places[runs.index], "o", ms=4, alpha=0.8, color=END_COLORS[end])
        axes.set_title(label, fontsize="medium")
        axes.set(xlim=(-0.05, 1.05), xticks=(0, 0.5, 1), yticks=range(len(names)),
                 yticklabels=names)
        axes.tick_params(left=False)
        axes.grid(axis="y", lw=0.4)
    axes.set_ylim(len(names) - 0.5, -0.5)
    return figure
