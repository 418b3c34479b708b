"""Dots and intervals of many runs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbd_utils.metrics.intervals import mean
from sbd_utils.plots.style import colors_and_labels, new_figure


def seed_spread(
    rows: pd.DataFrame,
    panels: Mapping[str, str],
    bounds: Mapping[str, float] | None = None,
    most: Mapping[str, float] | None = None,
) -> Figure:
    """One panel per score, one dot per run, the decoders side by side.

    Beside the dots, a thin line spans their range, and a thick one the 95% interval of the mean of
    seeds.

    Args:
        rows: scores as `tables.read` gives them.
        panels: score to its axis label.
        bounds: score to the threshold of its claim, a dotted line.
        most: score to the highest value that it can have, a dashed line.
    """
    bounds, most = ({} if lines is None else lines for lines in (bounds, most))
    figure = new_figure(8, 3)
    names = colors_and_labels(rows.decoder.unique())
    places = range(len(names))
    for axes, (score, label) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for place, (decoder, (color, _)) in zip(places, names.items(), strict=True):
            runs = rows[rows.decoder == decoder].dropna(subset=score)
            values = runs[score]
            if values.empty:
                continue
            offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else 0
            axes.plot(place - 0.1 + offsets, values, "o", ms=5, alpha=0.8, color=color, mew=0)
            axes.vlines(place + 0.28, values.min(), values.max(), color=color, lw=1)
            if runs.seed.nunique() > 1:
                spread = mean(runs.groupby("seed")[score].mean())
                axes.vlines(place + 0.28, spread.low, spread.high, color=color, lw=4)
                axes.plot(place + 0.28, spread.value, "o", ms=5, color="white", mec=color)
        if score in bounds:
            axes.axhline(bounds[score], color="black", lw=0.8, ls=":")
        if score in most:
            top = most[score]
            axes.axhline(top, color="#777777", lw=0.8, ls="--")
            axes.annotate(
                f"at most {top:g}",
                (len(names) - 0.55, top),
                (0, -3),
                ha="right",
                va="top",
                textcoords="offset points",
                fontsize="small",
                color="#555555",
            )
        axes.set_xticks(places, [name.replace(" ", "\n") for _, name in names.values()])
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_title(label, fontsize="medium")
    return figure


def legend_below(figure: Figure, panels: Iterable[Axes], **look: object) -> None:
    """One legend below all panels, with each label once."""
    found = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside lower center", **look)


def dots(
    rows: pd.DataFrame,
    line: str,
    group: str,
    panels: Mapping[str, str],
    hollow: str = "",
    ticks: Mapping[str, Sequence[float]] | None = None,
    bound: float | None = None,
) -> Figure:
    """One line per kind of run, one panel per score, one dot per run.

    Args:
        rows: one per run, with a boolean column `hollow` if dots may be hollow.
        line: the column that says on which line a dot lies.
        group: the column that sets a dot's color.
        panels: score to its title.
        hollow: what a hollow dot means.
        ticks: score to the ticks of its axis, a log axis unless 0 is one of them.
        bound: of the first score, a dotted line.
    """
    ticks = {} if ticks is None else ticks
    styles = colors_and_labels(rows[group].unique())
    names, order = list(rows[line].unique()), rows[group].map([*styles].index)
    rows = rows.assign(hollow=rows.hollow if hollow else False)
    rows = rows.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    runs = rows.groupby(line)
    share = runs.cumcount() / (runs[line].transform("size") - 1).clip(lower=1)
    places = rows[line].map(names.index) + 0.5 * (share - 0.5)  # so that equal dots stay apart
    figure = new_figure(8, 0.24 * len(names) + 1.4)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (score, label) in zip(grid, panels.items(), strict=True):
        for (name, empty), some in rows.groupby([group, "hollow"]):
            color = styles[name][0]
            axes.plot(
                some[score],
                places[some.index],
                "o",
                ms=4,
                alpha=0.8,
                color=color,
                mfc="white" if empty else color,
            )
        axes.set_title(label, fontsize="small")
        axes.tick_params(left=False)
        if score in ticks:  # all in view, with the dots
            axes.update_datalim([(tick, 0) for tick in ticks[score]])
            axes.set_xscale("linear" if 0 in ticks[score] else "log")
            axes.autoscale_view()
            axes.set_xticks(ticks[score], [f"{tick:g}" for tick in ticks[score]])
            axes.minorticks_off()
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="y", lw=0.4)
    axes.set_ylim(len(names) - 0.5, -0.5)
    if bound is not None:
        grid[0].axvline(bound, color="black", lw=0.8, ls=":")
    for color, label in styles.values():
        axes.plot([], [], "o", ms=4, color=color, label=label)
    if hollow:
        axes.plot([], [], "o", ms=4, color="black", mfc="white", label=f"hollow: {hollow}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
