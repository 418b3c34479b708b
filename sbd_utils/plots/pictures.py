"""Images in grids, and heat maps."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from sbd_utils.plots.style import colors_and_labels, new_figure


def draw_image(axes: Axes, image: Float[np.ndarray, "3 height width"]) -> None:
    """Show an image in [0, 1] in a thin frame; an all-white one is a gap."""
    axes.imshow(np.clip(np.moveaxis(image, 0, -1), 0, 1), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color("#888888" if np.min(image) < 1 else "white")


def image_grid(
    images: Float[np.ndarray, "rows columns 3 height width"],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    title: str = "",
    x_label: str = "",
    cell: float = 0.8,
) -> Figure:
    """Images in a grid, with labels for rows and columns.

    Raises:
        ValueError: Unless images are [rows, columns, 3, height, width].
    """
    if images.ndim != 5 or images.shape[2] != 3:
        raise ValueError(f"images must be [rows, columns, 3, height, width], got {images.shape}")
    rows, columns = images.shape[:2]
    figure = new_figure(columns * cell + 1.0, rows * cell + 0.5 * bool(title) + 0.3)
    _fill_grid(figure, images, row_labels, column_labels)
    figure.suptitle(title)
    figure.supxlabel(x_label, fontsize="medium")
    return figure


def _fill_grid(figure, images, row_labels, column_labels, gap: int = 0) -> np.ndarray:
    """Draw images in a grid and return its axes; `gap` rows stand above a small space."""
    rows, columns = np.shape(images)[:2]
    heights = [1] * rows
    if gap:
        heights.insert(gap, 0.15)
    grid = figure.subplots(
        len(heights), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    if gap:
        for axes in grid[gap]:
            axes.remove()
        grid = np.delete(grid, gap, axis=0)
    for cells, pictures in zip(grid, images, strict=True):
        for axes, image in zip(cells, pictures, strict=True):
            draw_image(axes, image)
    for axes, label in zip(grid[:, 0], row_labels, strict=False):
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, label in zip(grid[-1], column_labels, strict=False):
        axes.set_xlabel(label)
    return grid


def traversals(
    inputs: Float[np.ndarray, "n 3 height width"],
    reconstructions: Mapping[str, Float[np.ndarray, "n 3 height width"]],
    sweeps: Mapping[str, Float[np.ndarray, "_ n 3 height width"]],
    values: Sequence[float] | Float[np.ndarray, " n"],
    start: int,
) -> Figure:
    """The post's figure: reconstructions above latent traversals, decoders side by side.

    Args:
        reconstructions: by decoder.
        sweeps: by decoder, a code with one latent set to each of the n values.
        start: index of the input whose code is swept; it gets a frame.
    """
    cell = np.clip((8.8 / len(sweeps) - 0.9) / len(values), 0.45, 0.85)
    rows = 2 + max(map(len, sweeps.values()))
    figure = new_figure(len(sweeps) * (len(values) * cell + 0.9), rows * (cell + 0.02) + 1)
    parts = figure.subfigures(1, len(sweeps), squeeze=False)[0]
    for part, (decoder, (color, label)) in zip(
        parts, colors_and_labels(sweeps).items(), strict=True
    ):
        swept = sweeps[decoder]
        images = np.concatenate([inputs[None], reconstructions[decoder][None], swept])
        labels = ["input", "recon-\nstruction"] + [f"latent {k + 1}" for k in range(len(swept))]
        grid = _fill_grid(part, images, labels, [f"{value:.2g}" for value in values], gap=2)
        for spine in grid[0, start].spines.values():
            spine.set(color=color, linewidth=2.5)
        part.suptitle(label, color=color)
        part.supxlabel("value the latent is set to", fontsize="medium")
    return figure


def heat_maps(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    label: str,
    ticks: Sequence[int] = (),
    x_label: str = "",
    log: bool = False,
) -> Figure:
    """Maps [height, width] in rows and columns by name, all in one color scale.

    Values of both signs get a diverging scale centered on 0. NaN leaves a gap.

    Args:
        label: of the color bar.
        log: make the scale logarithmic; all values must be above 0.
    """
    count = max(map(len, rows.values()))
    cell = min(7.2 / count, 6 / len(rows))
    figure = new_figure(count * cell + 0.8, len(rows) * cell + 0.4)
    grid = figure.subplots(len(rows), count, squeeze=False)
    values = np.concatenate([np.ravel(m) for maps in rows.values() for m in maps.values()])
    if np.isnan(values).all() or (log and np.nanmin(values) <= 0):
        raise ValueError("rows must have a number, and all above 0 on a log scale")
    low, high = np.nanmin(values), np.nanmax(values)
    signed = low < 0 < high
    bound = max(-low, high)
    scale = (
        LogNorm(low, high) if log else Normalize(-bound, bound) if signed else Normalize(low, high)
    )
    for cells, (row, maps) in zip(grid, rows.items(), strict=True):
        cells[0].set_ylabel(row)
        for axes in cells[len(maps) :]:
            axes.set_axis_off()
        for axes, (name, numbers) in zip(cells, maps.items(), strict=False):
            shown = axes.imshow(numbers, norm=scale, cmap="RdBu_r" if signed else "viridis")
            axes.set(xticks=ticks, yticks=ticks)
            axes.set_title(name, fontsize="small")
    for axes in grid[-1]:
        axes.set_xlabel(x_label)
    figure.colorbar(shown, ax=grid, label=label)
    return figure
