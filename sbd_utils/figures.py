"""Results in, a matplotlib Figure out. Nothing here trains, saves or shows."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

# Okabe and Ito's palette, which color-blind readers can tell apart.
DECODER_COLORS = {"deconv": "#D55E00", "sbd": "#0072B2"}
NAMES = {"deconv": "DeConv", "sbd": "Spatial Broadcast"}
FACTOR_COLORS = {"x": "#009E73", "y": "#CC79A7", "color": "#E69F00"}


@dataclass(frozen=True)
class Picture:
    """A figure with the file name that `make reproduce` gives it and a text for who can't see."""

    figure: Figure
    name: str
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        buffer = BytesIO()
        # Without the Software entry the file is the same under every matplotlib patch release.
        self.figure.savefig(buffer, format="png", metadata={"Software": None})
        data = {"image/png": b64encode(buffer.getvalue()).decode(), "text/plain": self.alt}
        return data, {"image/png": {"name": self.name, "alt": self.alt}}


def new_figure(width: float = 8, height: float = 3) -> Figure:
    """An empty figure in the house style, as wide as a GitHub page shows without shrinking."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Show an image [3, height, width] in [0, 1] in a thin frame; an all-white one is a gap."""
    axes.imshow(np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("#888888" if np.min(image) < 1 else "white")


def image_grid(
    images: np.ndarray,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    x_label: str = "",
    cell: float = 0.8,
) -> Figure:
    """Images [rows, columns, 3, height, width] in a grid, with a label a row and a column."""
    rows, columns = np.shape(images)[:2]
    figure = new_figure(columns * cell + 1.0, rows * cell + 0.5 * bool(title) + 0.3)
    _fill_grid(figure, images, row_labels, column_labels)
    figure.suptitle(title)
    figure.supxlabel(x_label, fontsize="medium")
    return figure


def _fill_grid(figure, images, row_labels, column_labels) -> None:
    rows, columns = np.shape(images)[:2]
    grid = figure.subplots(rows, columns, squeeze=False)
    for cells, pictures in zip(grid, images, strict=True):
        for axes, image in zip(cells, pictures, strict=True):
            draw_image(axes, image)
    for axes, label in zip(grid[:, 0], row_labels, strict=False):
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, label in zip(grid[-1], column_labels, strict=False):
        axes.set_xlabel(label)


def broadcast(tiled: np.ndarray) -> Figure:
    """The input of the SB decoder [latent_dim + 2, height, width], channel by channel."""
    latent_dim = len(tiled) - 2
    figure = new_figure(8, 2.1)
    bound = max(1.0, float(np.abs(tiled).max()))
    labels = [f"$z_{i}$ tiled" for i in range(latent_dim)] + ["$x$ grid", "$y$ grid"]
    panels = figure.subplots(1, len(tiled))
    for axes, channel, label in zip(panels, tiled, labels, strict=True):
        shown = axes.imshow(channel, cmap="RdBu_r", vmin=-bound, vmax=bound)
        axes.set(xticks=[0, channel.shape[1] - 1], yticks=[], title=label)
    panels[0].set(yticks=[0, tiled.shape[1] - 1])
    figure.colorbar(shown, ax=panels, shrink=0.7, label="value")
    return figure


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


TERM_TITLES = {"reconstruction": "reconstruction term", "kl": "KL term"}


def traversals(
    inputs: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    sweeps: Mapping[str, np.ndarray],
    values: Sequence[float],
) -> Figure:
    """The post's figure: reconstructions above, latent traversals below, decoders side by side.

    inputs: [n, 3, height, width]. reconstructions: decoder to the same. sweeps: decoder to
    [latent_dim, n, 3, height, width], the middle input's code with one latent set to each value.
    """
    figure = new_figure(8.6, 4.3)
    for part, decoder in zip(figure.subfigures(1, len(sweeps)), sweeps, strict=True):
        latent_dim = len(sweeps[decoder])
        rows = np.concatenate([inputs[None], reconstructions[decoder][None], sweeps[decoder]])
        labels = ["input", "recons"] + [f"lat dim {k}" for k in range(latent_dim)]
        _fill_grid(part, rows, labels, [f"{value:.2g}" for value in values])
        part.suptitle(NAMES[decoder], color=DECODER_COLORS[decoder])
        part.supxlabel("value the latent is set to", fontsize="medium")
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


def regions(numbers: np.ndarray) -> Figure:
    """Cells [height, width] colored by the number that they hold."""
    figure = new_figure(2.6, 2.6)
    axes = figure.subplots()
    axes.pcolormesh(numbers, cmap="Set3", edgecolors="white", linewidth=1)
    axes.set(aspect="equal", xticks=[], yticks=[])
    return figure


def heat_maps(
    rows: Mapping[str, Mapping[str, np.ndarray]], label: str, ticks: Sequence[int] = (),
    x_label: str = "",
) -> Figure:
    """Maps [height, width] in rows and columns by name, in one scale, of what `label` says."""
    count = max(map(len, rows.values()))
    cell = min(7.2 / count, 6 / len(rows))
    figure = new_figure(count * cell + 0.8, len(rows) * cell + 0.4)
    grid = figure.subplots(len(rows), count, squeeze=False)
    values = np.concatenate([m.ravel() for maps in rows.values() for m in maps.values()])
    for cells, (row, maps) in zip(grid, rows.items(), strict=True):
        cells[0].set_ylabel(row)
        for axes, (name, numbers) in zip(cells, maps.items(), strict=True):
            shown = axes.imshow(numbers, vmin=values.min(), vmax=values.max())
            axes.set(xticks=ticks, yticks=ticks)
            axes.set_title(name, fontsize="small")
    for axes in grid[-1]:
        axes.set_xlabel(x_label)
    figure.colorbar(shown, ax=grid, label=label)
    return figure
