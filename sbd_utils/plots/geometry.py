"""Lattices of positions in the latent space."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sbd_utils.plots.style import colors_and_labels, new_figure


def geometry(
    points: Mapping[str, np.ndarray],
    axis_labels: Mapping[str, tuple[str, str]],
    unseen: Bool[np.ndarray, "n n"] | None = None,
) -> Figure:
    """Lattices of positions, true or encoded, in panels.

    Args:
        points: panel title to a lattice [n, n, 2] with n = 5 k + 1.
        axis_labels: panel title to the names of its axes; an axis "y" points down.
        unseen: positions that training left out; they get a black dot.
    """
    columns = 5 if (small := len(points) > 6) else 3
    height = -(-len(points) // columns)
    figure = new_figure(8.4, (1.9 if small else 2.7) * height + 0.5)
    figure.set_layout_engine(
        "constrained", w_pad=0.12 - 0.06 * small
    )  # else a label touches a panel
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    for axes, (name, lattice) in zip(panels, points.items(), strict=False):
        draw_lattice_lines(axes, lattice, marker="." if height == 1 and unseen is None else "")
        if unseen is not None:
            axes.plot(
                *lattice[unseen].T, ".", color="black", ms=3, label="places not seen in training"
            )
        x_label, y_label = axis_labels[name]
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title(name, fontsize="medium" if small else "large")
        if small:
            axes.set(xticks=[], yticks=[])
        if y_label == "y":
            axes.invert_yaxis()
    for axes in panels[len(points) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def geometry_epochs(
    lattices: Mapping[str, Mapping[str, np.ndarray]], captions: Mapping[str, Mapping[str, str]]
) -> Figure:
    """The encoded lattice of positions during training, one row per decoder.

    Args:
        lattices: decoder to panel title to a lattice [n, n, 2] with n = 5 k + 1.
        captions: the same keys, to the text below a panel.
    """
    figure = new_figure(8.4, 2.0 * len(lattices) + 0.4)
    grid = figure.subplots(len(lattices), max(map(len, lattices.values())), squeeze=False)
    for panels, (decoder, (color, name)) in zip(
        grid, colors_and_labels(lattices).items(), strict=True
    ):
        row = lattices[decoder]
        for axes in panels[len(row) :]:
            axes.set_axis_off()
        for axes, (title, lattice) in zip(panels, row.items(), strict=False):
            draw_lattice_lines(axes, lattice)
            axes.invert_yaxis()  # y grows downward, as in the pictures
            axes.set(xlabel=captions[decoder][title], xticks=[], yticks=[])
            axes.set_title(title, fontsize="medium")
            axes.xaxis.label.set_fontsize("small")
        panels[0].set_ylabel(name, color=color)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    return figure


def draw_lattice_lines(axes: Axes, lattice: np.ndarray, marker: str = "") -> None:
    """Six lines each way through a lattice [n, n, 2], in shades of the colors of x and y."""
    step = (len(lattice) - 1) // 5
    for i, k in enumerate(range(0, len(lattice), step)):
        shade = 0.35 + 0.6 * i / 5
        for line, colormap, name in (
            (lattice[:, k], "Greens", "lines of equal $x$ (darker: larger)"),
            (lattice[k, :], "RdPu", "lines of equal $y$ (darker: larger)"),
        ):
            axes.plot(
                *line.T,
                color=colormaps[colormap](shade),
                lw=1.2,
                ms=3,
                marker=marker,
                label=name if i == 5 else None,
            )
    axes.set_aspect("equal", adjustable="datalim")
