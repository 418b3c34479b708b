"""The latent space as a map: lattices of places in it, and the widths that it wants."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sbd_utils import checks
from sbd_utils.plots.style import DECODER_COLORS, Movie, colors_and_labels, new_figure


def geometry(
    points: Mapping[str, np.ndarray],
    axis_labels: Mapping[str, tuple[str, str]],
    unseen: np.ndarray | None = None,
) -> Figure:
    """Lattices of places, true or encoded, three panels per row; five of more than six, and small.

    points: panel title to a lattice [n, n, 2], n = 5 k + 1. axis_labels: panel title to the names
    of its axes; an axis "y" goes downward, as in the pictures. unseen: bool [n, n], which places
    get a black dot, as they were not seen in training.
    """
    checks.mapping("points", points), checks.mapping("axis_labels", axis_labels, points)
    if unseen is not None:
        for name, lattice in points.items():
            checks.arrays(unseen=(unseen, "n n"), **{f"points[{name!r}]": (lattice, "n n 2")})
        unseen = np.asarray(unseen, dtype=bool)
    for name in points:
        checks.labels(f"axis_labels[{name!r}]", axis_labels[name], 2)
    columns = 5 if (small := len(points) > 6) else 3
    height = -(-len(points) // columns)
    figure = new_figure(8.4, (1.9 if small else 2.7) * height + 0.5)
    figure.get_layout_engine().set(w_pad=0.12 - 0.06 * small)  # else a label touches a panel
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    for axes, (name, lattice) in zip(panels, points.items(), strict=False):
        _draw_lattice(axes, lattice, marker="." if height == 1 and unseen is None else "")
        if unseen is not None:
            axes.plot(
                *np.asarray(lattice)[unseen].T,
                ".",
                color="black",
                ms=3,
                label="places not seen in training",
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
    """How the lattice of places is encoded as training goes on, one row per decoder.

    lattices: decoder to panel title to a lattice [n, n, 2], n = 5 k + 1. captions: the same, to
    what stands below a panel.
    """
    checks.mapping("lattices", lattices), checks.mapping("captions", captions, lattices)
    for decoder, row in lattices.items():
        checks.mapping(f"lattices[{decoder!r}]", row)
        checks.mapping(f"captions[{decoder!r}]", captions[decoder], row, of=str)
    figure = new_figure(8.4, 2.0 * len(lattices) + 0.4)
    grid = figure.subplots(len(lattices), max(map(len, lattices.values())), squeeze=False)
    for panels, (decoder, (color, name)) in zip(
        grid, colors_and_labels(lattices).items(), strict=True
    ):
        row = lattices[decoder]
        for axes in panels[len(row) :]:
            axes.set_axis_off()
        for axes, (title, lattice) in zip(panels, row.items(), strict=False):
            _draw_lattice(axes, lattice)
            axes.invert_yaxis()  # y grows downward, as in the pictures
            axes.set(xlabel=captions[decoder][title], xticks=[], yticks=[])
            axes.set_title(title, fontsize="medium")
            axes.xaxis.label.set_fontsize("small")
        panels[0].set_ylabel(name, color=color)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    return figure


def geometry_movie(
    truth: np.ndarray,
    planes: Mapping[str, Sequence[np.ndarray]],
    epochs: Sequence[int],
    name: str,
    alt: str,
    milliseconds: int = 250,
) -> Movie:
    """The true lattice beside where decoders encode it, one frame per epoch; the last one stays.

    truth: [n, n, 2], n = 5 k + 1. planes: decoder to a lattice of that shape for each of epochs.
    """
    checks.mapping("planes", planes), checks.lattices(truth=truth)
    for decoder, lattices in planes.items():
        checks.arrays(
            truth=(truth, "n n 2"),
            epochs=(epochs, "epochs"),
            **{f"planes[{decoder!r}]": (lattices, "epochs n n 2")},
        )
    checks.check_int("milliseconds", milliseconds)
    figure = new_figure(8, 3.0)
    panels = figure.subplots(1, len(planes) + 1)
    styles, frames = colors_and_labels(planes), []
    for i, epoch in enumerate(epochs):
        for axes in panels:
            axes.clear()
            axes.set(xticks=[], yticks=[])
        _draw_lattice(panels[0], truth)
        panels[0].set_title("true places")
        for axes, (decoder, (color, label)) in zip(panels[1:], styles.items(), strict=True):
            _draw_lattice(axes, planes[decoder][i])
            axes.set_title(label, color=color)
            axes.set_xlabel(f"code after epoch {epoch}")
        for axes in panels:
            axes.invert_yaxis()  # y grows downward, as in the pictures
        file = BytesIO()
        figure.savefig(file, format="png", dpi=125)  # small enough for a page to load at once
        # The palette takes the mean of colors that are alike, and white must stay white.
        frames.append(Image.open(file).convert("RGB").point(lambda v: 255 if v > 247 else v))
    # A fifth of the bytes; by coverage, else rare colors go, such as those of the titles.
    palette = frames[-1].quantize(64, Image.Quantize.MAXCOVERAGE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = BytesIO()
    frames[0].save(
        file,
        format="webp",
        save_all=True,
        append_images=frames[1:],
        loop=0,
        duration=[milliseconds] * (len(frames) - 1) + [3000],
        lossless=True,
    )
    return Movie(file.getvalue(), name, alt, width=800)


def wanted_widths(precision: np.ndarray, axis_labels: tuple[str, str]) -> Figure:
    """The posterior that the loss wants, of two latents, and the best that a diagonal q can do.

    precision [2, 2]: the wanted one. On the left along the latents, on the right along its own
    eigenvectors, where the two ellipses, of one standard deviation, are the same.
    """
    precision = checks.definite("precision", precision, "2 2")
    checks.labels("axis_labels", axis_labels, 2)
    figure = new_figure(8, 4.0)
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    turned = np.linalg.eigh(precision)[1].T[::-1]  # the most precise first
    labels = axis_labels, ("offset along the short axis", "offset along the long axis")
    titles = "along the latents", "along the ellipse's own axes"
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, turn, names, title in zip(panels, (np.eye(2), turned), labels, titles, strict=True):
        matrix = turn @ precision @ turn.T
        wanted = np.linalg.inv(np.linalg.cholesky(matrix)).T @ circle
        axes.fill(
            *wanted, color=DECODER_COLORS["sbd"], alpha=0.35, lw=0, label="wanted by the loss"
        )
        axes.plot(
            *(circle.T / np.sqrt(np.diagonal(matrix))).T,
            "--",
            color="black",
            label="best diagonal q",
        )
        axes.set(title=title, xlabel=names[0], ylabel=names[1])
        axes.set_aspect("equal")
        axes.tick_params(labelleft=True)  # else the right panel's label lies on its ticks
        axes.locator_params(nbins=4)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_lattice(axes: Axes, lattice: np.ndarray, marker: str = "") -> None:
    """Six lines each way through a lattice [n, n, 2], in shades of the factors' colors."""
    (lattice,) = checks.lattices(lattice=lattice)
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
