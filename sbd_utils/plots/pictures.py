"""Pictures in grids, and maps of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sbd_utils import checks
from sbd_utils.plots.style import FACTOR_COLORS, colors_and_labels, new_figure


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Show an image [3, height, width] in [0, 1] in a thin frame; an all-white one is a gap."""
    checks.check_type("axes", axes, Axes)
    (image,) = checks.pictures(image=(image, "3 height width"))
    axes.imshow(np.clip(np.moveaxis(image, 0, -1), 0, 1), interpolation="nearest")
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
    (images,) = checks.pictures(images=(images, "rows columns 3 height width"))
    rows, columns = images.shape[:2]
    for name, labels, count in (
        ("row_labels", row_labels, rows),
        ("column_labels", column_labels, columns),
    ):
        if not isinstance(labels, (list, tuple)) or labels:
            checks.labels(name, labels, count)
    checks.check_type("title", title, str), checks.check_type("x_label", x_label, str)
    checks.check_positive("cell", cell)
    figure = new_figure(columns * cell + 1.0, rows * cell + 0.5 * bool(title) + 0.3)
    _fill_grid(figure, images, row_labels, column_labels)
    figure.suptitle(title)
    figure.supxlabel(x_label, fontsize="medium")
    return figure


def _fill_grid(figure, images, row_labels, column_labels, gap: int = 0) -> np.ndarray:
    """Images in a grid, whose axes are returned; gap: the rows above a small space, if any."""
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


LAYER_WORDS = {
    "Linear": "linear",
    "Unflatten": "reshape",
    "TransposedConv2d": "deconv",
    "Broadcast": "broad-\ncast",
    "AppendCoordinates": "append\nx and y",
    "Conv2d": "conv",
    "FrugalConv2d": "conv",
}


def schematic(steps: Mapping[str, Sequence[tuple[str, str, Sequence[int]]]]) -> Figure:
    """Decoders as rows of blocks, whose sides grow as the root of their pixels.

    steps: decoder to, per layer, its class, its kernel ("3×3" or "") and its output's shape, which
    is [channels] or [channels, height, width]. The first step is the code itself.
    """
    checks.mapping("steps", steps)
    for decoder, layers in steps.items():
        _check_layers(f"steps[{decoder!r}]", layers)
    figure = new_figure(8, 2.1 * len(steps))
    rows = figure.subplots(len(steps), 1, squeeze=False)[:, 0]
    ends = []
    for axes, (decoder, (known, name)) in zip(rows, colors_and_labels(steps).items(), strict=True):
        right, layers = 0.0, steps[decoder]
        for i, (layer, kernel, shape) in enumerate(layers):
            if i > 0:
                axes.annotate(
                    "",
                    (right + 0.64, 0),
                    (right + 0.06, 0),
                    arrowprops={
                        "arrowstyle": "-|>",
                        "color": "#555555",
                        "shrinkA": 0,
                        "shrinkB": 0,
                    },
                )
                axes.text(
                    right + 0.34,
                    0.06,
                    f"{LAYER_WORDS.get(layer, layer)}\n{kernel}".strip(),
                    ha="center",
                    va="bottom",
                    fontsize=8,
                )
                right += 0.7
            colors = [known] * shape[0]
            if layer == "AppendCoordinates":
                colors[-2:] = FACTOR_COLORS["x"], FACTOR_COLORS["y"]
            left, right = right, _draw_block(axes, right, shape, colors)
            role = "(code)" if i == 0 else "(image)" if i == len(layers) - 1 else ""
            size = " channels\nof " + "×".join(map(str, shape[1:])) if shape[1:] else "\nnumbers"
            axes.text(
                (left + right) / 2,
                -0.7,
                f"{shape[0]}{size}\n{role}".strip(),
                ha="center",
                va="top",
                fontsize=8,
            )
        ends.append(right)
        axes.set(ylim=(-1.3, 0.75), aspect="equal")
        axes.set_axis_off()
        axes.set_title(f"{name} decoder", color=known, loc="left")
    for axes in rows:
        axes.set_xlim(-0.4, max(ends) + 0.1)
    return figure


def _check_layers(name: str, layers: Sequence) -> None:
    try:
        fine = len(layers) > 0
        for layer, kernel, shape in layers:
            channels, *sides = (checks.check_int(name, side) for side in shape)
            fine &= isinstance(layer, str) and isinstance(kernel, str) and len(sides) in (0, 2)
            fine &= layer != "AppendCoordinates" or channels > 2
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise checks.argument_error(name, "steps (class, kernel, shape), one at least", layers)


def _draw_block(axes: Axes, left: float, shape: Sequence[int], colors: Sequence[str]) -> float:
    """Numbers as a bar, channels as sheets from back to front; returns where the block ends."""
    count = shape[0]
    side = 0.1 if len(shape) == 1 else 0.11 * shape[1] ** 0.5
    few = count < 20
    if len(shape) == 1:
        height = 0.05 * count**0.55
        corners = [(left, height * (0.5 - (k + 1) / count)) for k in range(count)]
        size, depth = (side, height / count), 0.0
    else:
        depth = 0.04 * (count - 1) if few else 0.035 * count**0.5
        shifts = [depth * (count - 1 - k) / max(1, count - 1) for k in range(count)]
        corners = [(left + shift, shift - (side + depth) / 2) for shift in shifts]
        size = side, side
    for k, (corner, color) in enumerate(zip(corners, colors, strict=True)):
        edge = "white" if few or (depth and k == count - 1) else color
        axes.add_patch(Rectangle(corner, *size, facecolor=color, edgecolor=edge, linewidth=0.6))
    return left + side + depth


def broadcast(tiled: np.ndarray) -> Figure:
    """The input of the SB decoder [latent_dim + 2, height, width], channel by channel."""
    (tiled,) = checks.arrays(tiled=(tiled, "channels height width"))
    if len(tiled) < 3:
        raise checks.argument_error("tiled", "of a latent at least, and x and y", tiled)
    latent_dim = len(tiled) - 2
    figure = new_figure(8, 1.6)
    bound = max(1.0, float(np.abs(tiled).max()))
    labels = [f"latent {k}" for k in range(1, latent_dim + 1)] + ["x", "y"]
    panels = figure.subplots(1, len(tiled))
    for axes, channel, label in zip(panels, tiled, labels, strict=True):
        shown = axes.imshow(channel, cmap="RdBu_r", vmin=-bound, vmax=bound)
        axes.set(xticks=[], yticks=[], title=label)
    panels[0].set(
        xticks=[0, tiled.shape[2] - 1], yticks=[0, tiled.shape[1] - 1], ylabel="pixel row"
    )
    figure.supxlabel("pixel column", fontsize="medium")
    figure.colorbar(shown, ax=panels, shrink=0.8, label="value")
    return figure


def traversals(
    inputs: np.ndarray,
    reconstructions: Mapping[str, np.ndarray],
    sweeps: Mapping[str, np.ndarray],
    values: Sequence[float],
    start: int,
) -> Figure:
    """The post's figure: reconstructions above, latent traversals below, decoders side by side.

    inputs: [n, 3, height, width]. reconstructions: decoder to the same. sweeps: decoder to
    [latent_dim, n, 3, height, width], one code with one latent set to each of the n values. start:
    the input whose code that is, from 0; it gets a frame.
    """
    checks.check_int("start", start, 0)
    given = {"inputs": (inputs, "n 3 height width"), "values": (values, "n")}
    checks.mapping("sweeps", sweeps), checks.mapping("reconstructions", reconstructions, sweeps)
    found = {}
    for decoder in sweeps:
        name = f"reconstructions[{decoder!r}]"
        inputs, values, *found[decoder] = checks.pictures(
            **given,
            **{
                name: (reconstructions[decoder], "n 3 height width"),
                f"sweeps[{decoder!r}]": (sweeps[decoder], "latents n 3 height width"),
            },
        )
    if start >= len(values):
        raise checks.argument_error("start", f"below {len(values)}", start)
    cell = np.clip((8.8 / len(sweeps) - 0.9) / len(values), 0.45, 0.85)
    rows = 2 + max(map(len, sweeps.values()))
    figure = new_figure(len(sweeps) * (len(values) * cell + 0.9), rows * (cell + 0.02) + 1)
    parts = figure.subfigures(1, len(sweeps), squeeze=False)[0]
    for part, (decoder, (color, label)) in zip(
        parts, colors_and_labels(sweeps).items(), strict=True
    ):
        drawn, swept = found[decoder]
        images = np.concatenate([inputs[None], drawn[None], swept])
        labels = ["input", "recon-\nstruction"] + [f"latent {k + 1}" for k in range(len(swept))]
        grid = _fill_grid(part, images, labels, [f"{value:.2g}" for value in values], gap=2)
        for spine in grid[0, start].spines.values():
            spine.set(color=color, linewidth=2.5)
        part.suptitle(label, color=color)
        part.supxlabel("value the latent is set to", fontsize="medium")
    return figure


def regions(numbers: np.ndarray) -> Figure:
    """Cells [height, width] colored by the number that they hold."""
    (numbers,) = checks.arrays(numbers=(numbers, "height width"))
    figure = new_figure(2.6, 2.6)
    axes = figure.subplots()
    axes.pcolormesh(numbers, cmap="Set3", edgecolors="white", linewidth=1)
    axes.set(aspect="equal", xticks=[], yticks=[])
    return figure


def heat_maps(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    label: str,
    ticks: Sequence[int] = (),
    x_label: str = "",
    log: bool = False,
) -> Figure:
    """Maps [height, width] in rows and columns by name, in one scale, of what `label` says.

    Values of both signs get colors of both signs, with white for 0; a NaN is a gap. log: the scale
    is logarithmic, of values above 0.
    """
    checks.mapping("rows", rows), checks.check_one_of("log", log, (True, False))
    for row, maps in rows.items():
        checks.mapping(f"rows[{row!r}]", maps)
        for name in maps:
            checks.arrays(**{f"rows[{row!r}][{name!r}]": (maps[name], "?height width")})
    if not isinstance(ticks, (list, tuple)) or ticks:
        checks.arrays(ticks=(ticks, "n"))
    checks.check_type("label", label, str), checks.check_type("x_label", x_label, str)
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
