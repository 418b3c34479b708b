"""What the shared plots show, asked of their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba
from numpy.testing import assert_allclose

from sbd_utils.metrics.geometry import lattice_places
from sbd_utils.plots import charts, pictures
from sbd_utils.plots.geometry import geometry, geometry_epochs
from sbd_utils.plots.style import (
    FACTOR_COLORS,
    NAMES,
    OTHER_COLORS,
    Picture,
    colors_and_labels,
    new_figure,
)

RED, BLUE = "#D55E00", "#0072B2"  # DeConv and Spatial Broadcast, everywhere
COLORS = {"deconv": RED, "sbd": BLUE, "mine": "#009E73", "yours": "#CC79A7"}
LABELS = {"deconv": "DeConv", "sbd": "Spatial Broadcast", "mine": "mine", "yours": "yours"}
RANDOM = np.random.default_rng(0)
sets_of_names = pytest.mark.parametrize(
    "names", [["sbd"], ["mine", "deconv", "yours", "sbd"]], ids=" ".join
)


def color(artist):
    return to_hex(artist.get_color()).upper()


def legend(figure):
    """Label to the color of its handle."""
    (box,) = figure.legends or [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    colors = [
        handle.get_color() if hasattr(handle, "get_color") else handle.get_facecolor()
        for handle in box.legend_handles
    ]
    return {
        text.get_text(): to_hex(c).upper() for text, c in zip(box.get_texts(), colors, strict=True)
    }


def shown(axes):
    (image,) = axes.images
    return np.asarray(image.get_array())


def ticks(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def test_each_name_has_a_color_of_its_own_and_a_label():
    names = ["sbd-width22", "sbd", "mine", "deconv", "yours"]
    found = colors_and_labels(names + names)
    colors = [BLUE, OTHER_COLORS[0], OTHER_COLORS[1], RED, OTHER_COLORS[2]]
    labels = ["Spatial Broadcast, 22 channels", *(LABELS[name] for name in names[1:])]
    assert found == dict(zip(names, zip(colors, labels, strict=True), strict=True))
    assert colors_and_labels(["plain-kernel2"]) == {"plain-kernel2": (RED, "plain-kernel2")}


@pytest.mark.parametrize("given", [{"name": "../a"}, {"name": ""}, {"alt": " "}])
def test_a_picture_has_a_name_and_a_text(given):
    with pytest.raises(ValueError, match="must be"):
        Picture(**{"figure": new_figure(), "name": "some_name", "alt": "text"} | given)


def test_an_image_is_shown_pixel_by_pixel_and_a_white_one_is_a_gap():
    axes, image = new_figure().subplots(), RANDOM.uniform(-0.2, 1.2, size=(3, 4, 5))
    pictures.draw_image(axes, image)
    assert_allclose(shown(axes), np.clip(image.transpose(1, 2, 0), 0, 1))
    assert axes.images[0].get_interpolation() == "nearest" and axes.images[0].origin == "upper"
    assert not axes.get_xticks().size and not axes.get_yticks().size
    gap = new_figure().subplots()
    pictures.draw_image(gap, np.ones((3, 4, 5)))
    for frame, expected in ((axes, "#888888"), (gap, "white")):
        assert {spine.get_edgecolor() for spine in frame.spines.values()} == {to_rgba(expected)}


def test_image_grid_has_its_images_and_labels_in_order():
    images = RANDOM.uniform(size=(2, 3, 3, 4, 4))
    figure = pictures.image_grid(images, ["a", "b"], ["c", "d", "e"], "title", "below")
    for axes, image in zip(figure.axes, images.reshape(6, 3, 4, 4), strict=True):
        assert_allclose(shown(axes), image.transpose(1, 2, 0))
    assert [axes.get_ylabel() for axes in figure.axes] == ["a", "", "", "b", "", ""]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "c", "d", "e"]
    assert (figure.get_suptitle(), figure.get_supxlabel()) == ("title", "below")


def test_image_grid_takes_no_batch_of_images(unenforced_annotations):
    with pytest.raises(ValueError, match="images must be"):
        pictures.image_grid(RANDOM.uniform(size=(3, 3, 4, 4)))


@pytest.mark.parametrize("names, latent_dim", [(["mine"], 1), (["sbd", "deconv"], 7)])
def test_traversals(names, latent_dim):
    inputs = RANDOM.uniform(size=(3, 3, 8, 8))
    drawn = {name: RANDOM.uniform(size=inputs.shape) for name in names}
    sweeps = {name: RANDOM.uniform(size=(latent_dim, *inputs.shape)) for name in names}
    figure = pictures.traversals(inputs, drawn, sweeps, (-2, 0, 2), start=1)
    for name, part in zip(names, figure.subfigs, strict=True):
        rows = np.array(part.axes).reshape(-1, 3)
        expected = [inputs, drawn[name], *sweeps[name]]
        for cells, images in zip(rows, expected, strict=True):
            for axes, image in zip(cells, images, strict=True):
                assert_allclose(shown(axes), image.transpose(1, 2, 0))
        assert [axes.get_ylabel() for axes in rows[:, 0]] == [
            "input",
            "recon-\nstruction",
            *(f"latent {k + 1}" for k in range(latent_dim)),
        ]
        assert [axes.get_xlabel() for axes in rows[-1]] == ["-2", "0", "2"]
        framed = [axes.spines["top"].get_linewidth() > 2 for axes in part.axes]
        assert framed == [index == 1 for index in range(len(framed))]
        assert (part.get_suptitle(), color(part._suptitle)) == (LABELS[name], COLORS[name])
        assert part.get_supxlabel() == "value the latent is set to"


@pytest.mark.parametrize(
    "low, high, log, limits, colors",
    [
        (-1, 3, False, (-3, 3), "RdBu_r"),
        (1, 3, False, (1, 3), "viridis"),
        (1, 3, True, (1, 3), "viridis"),
        (-3, -1, False, (-3, -1), "viridis"),
    ],
)
def test_heat_maps_have_one_scale(low, high, log, limits, colors):
    first, second = np.full((2, 3), low, dtype=float), np.full((4, 4), high, dtype=float)
    second[0, 0] = np.nan
    rows = {"upper": {"a": first, "b": second}, "lower": {"c": second}}
    *panels, bar = pictures.heat_maps(rows, "what", (0, 1), "below", log).axes
    for axes, numbers in zip(panels, (first, second, second), strict=False):
        assert_allclose(shown(axes)[1:], numbers[1:])
        assert axes.images[0].get_clim() == limits and axes.images[0].get_cmap().name == colors
        assert list(axes.get_xticks()) == [0, 1] and axes.yaxis_inverted()
        assert type(axes.images[0].norm).__name__ == ("LogNorm" if log else "Normalize")
    assert [axes.get_title() for axes in panels] == ["a", "b", "c", ""]
    assert [axes.get_ylabel() for axes in panels] == ["upper", "", "lower", ""]
    assert [axes.get_xlabel() for axes in panels[:3]] == ["", "", "below"]
    assert bar.get_ylabel() == "what" and not panels[3].axison


@sets_of_names
def test_seed_spread(names):
    rows = pd.DataFrame(
        {
            "decoder": np.repeat(names, 5),
            "seed": [0, 1, 2, 3, 4] * len(names),
            "kl": np.arange(5.0 * len(names)),
            "mixing": [1, *[np.nan] * 4] * len(names),
        }
    )
    figure = charts.seed_spread(rows, {"kl": "KL", "mixing": "share"}, {"kl": 1.5})
    assert [axes.get_title() for axes in figure.axes] == ["KL", "share"]
    kl, mixing = figure.axes
    assert ticks(kl.xaxis) == [LABELS[name].replace(" ", "\n") for name in names]
    dots = [line for line in kl.lines if len(line.get_xdata()) == 5]
    means = [line for line in kl.lines if line.get_markerfacecolor() == "white"]
    for place, (name, line, mean) in enumerate(zip(names, dots, means, strict=True)):
        assert_allclose(line.get_ydata(), rows.kl[rows.decoder == name])
        assert (np.abs(line.get_xdata() - place) < 0.4).all() and color(line) == COLORS[name]
        assert mean.get_ydata()[0] == 5 * place + 2
        assert to_hex(mean.get_markeredgecolor()).upper() == COLORS[name]
        span, interval = kl.collections[2 * place : 2 * place + 2]
        assert_allclose(span.get_segments()[0][:, 1], [5 * place, 5 * place + 4])
        low, high = interval.get_segments()[0][:, 1]
        assert (low, high) == (5 * place, 5 * place + 4)  # of few seeds
        assert interval.get_linewidth() > span.get_linewidth()
    assert_allclose(kl.lines[-1].get_ydata(), 1.5)
    assert kl.lines[-1].get_linestyle() == ":" and len(mixing.lines) == len(names)
    assert all(axes.get_xlim() == (-0.5, len(names) - 0.5) for axes in figure.axes)
    assert not kl.texts and not mixing.texts
    kl, _ = charts.seed_spread(rows, {"kl": "KL", "mixing": "share"}, most={"kl": 9}).axes
    assert kl.texts[0].get_text() == "at most 9"
    assert [line.get_ydata()[0] for line in kl.lines if line.get_linestyle() == "--"] == [9]
    only = rows.assign(mixing=rows.mixing.where(rows.decoder == names[0]))
    assert len(charts.seed_spread(only, {"mixing": "share"}).axes[0].lines) == 1
    twice = pd.concat([rows, rows[rows.seed == 4]])
    (again,) = charts.seed_spread(twice, {"kl": "KL"}).axes
    circle = next(line for line in again.lines if line.get_markerfacecolor() == "white")
    assert circle.get_ydata()[0] == 2  # a seed with two runs counts once


RUNS = pd.DataFrame(
    {
        "decoder": ["sbd", "sbd", "deconv", "deconv"],
        "start": ["broadcast"] * 2 + ["linear"] * 2,
        "bent": [0.01, 0.02, 0.3, 0.4],
        "kl": [3.0, 5, 7, 9],
        "hollow": [False, True, True, False],
    }
)
MANY = pd.concat(
    [RUNS, *(RUNS.assign(decoder=RUNS.decoder + f"-{k}", start="other") for k in range(3))]
)


def dots(axes):
    """(x, y, color, whether it is filled) of each dot that is no handle of a legend."""
    return {
        (
            round(float(x), 4),
            round(float(y), 4),
            color(line),
            to_hex(line.get_markerfacecolor()).upper() == color(line),
        )
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in line.get_xydata()
    }


@pytest.mark.parametrize("rows", [RUNS, RUNS[::2], MANY], ids=["two", "one run each", "eight"])
@pytest.mark.parametrize("hollow", ["", "folded"])
def test_dots(rows, hollow):
    scales = {"bent": (0.01, 0.1), "kl": (0, 10), "unused": (1, 2)}
    panels = {"bent": "b", "kl": "k"}
    figure = charts.dots(rows, "decoder", "start", panels, hollow, scales, 0.05)
    names = list(rows.decoder.unique())
    shades = {"broadcast": BLUE, "linear": RED, "other": OTHER_COLORS[0]}
    for axes, (score, title) in zip(figure.axes, panels.items(), strict=True):
        assert {(x, round(y), *rest) for x, y, *rest in dots(axes)} == {
            (run[score], names.index(run.decoder), shades[run.start], not (hollow and run.hollow))
            for _, run in rows.iterrows()
        }
        assert axes.get_title() == title
        assert axes.get_xscale() == ("log" if score == "bent" else "linear")
        assert axes.get_ylim() == (len(names) - 0.5, -0.5)
    assert ticks(figure.axes[0].xaxis) == ["0.01", "0.1"]
    assert figure.axes[0].get_xlim()[0] < 0.01 and figure.axes[0].get_xlim()[1] > 0.1
    assert ticks(figure.axes[0].yaxis) == names
    assert any(list(line.get_xdata()) == [0.05, 0.05] for line in figure.axes[0].lines)
    expected = {NAMES.get(start, start): shades[start] for start in rows.start}
    assert legend(figure) == expected | ({"hollow: folded": "#000000"} if hollow else {})


def test_dots_of_one_line_stay_apart_and_lie_by_their_group():
    rows = pd.DataFrame({"world": "a", "decoder": ["deconv", "sbd"] * 3, "score": 0.5})
    (axes,) = charts.dots(rows, "world", "decoder", {"score": "s"}).axes
    at = sorted((y, shade) for _, y, shade, _ in dots(axes))
    assert [shade for _, shade in at] == [RED] * 3 + [BLUE] * 3
    assert np.diff([y for y, _ in at]) == pytest.approx([0.1] * 5)
    assert sum(y for y, _ in at) == pytest.approx(0)


PLACES = lattice_places(np.linspace(0, 1, 11))
BENT = PLACES + 0.1 * PLACES[..., ::-1] ** 2


def is_lattice(axes, lattice):
    """Whether lines of equal x are green and those of equal y pink, dark at the larger end."""
    greens, pinks = axes.lines[::2], axes.lines[1::2]
    for k, (vertical, horizontal) in enumerate(zip(greens, pinks, strict=True)):
        assert_allclose(vertical.get_xydata(), lattice[:, 2 * k])
        assert_allclose(horizontal.get_xydata(), lattice[2 * k])
        assert is_green(vertical.get_color()) and not is_green(horizontal.get_color())
    for some in (greens, pinks):
        assert (np.diff([sum(to_rgba(line.get_color())[:3]) for line in some]) < 0).all()
    for some, factor in ((greens, "x"), (pinks, "y")):
        assert some[-1].get_label() == f"lines of equal ${factor}$ (darker: larger)"
        assert is_green(some[-1].get_color()) == is_green(FACTOR_COLORS[factor])
    assert len(greens) == 6


def is_green(color):
    """Whether it has more of green than of red and of blue."""
    red, green, blue, _ = to_rgba(color)
    return green > max(red, blue)


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_geometry(count):
    points = {"truth": PLACES} | {f"panel {k}": BENT + k for k in range(1, count)}
    labels = dict.fromkeys(points, ("latent 2", "latent 1")) | {"truth": ("x", "y")}
    figure = geometry(points, labels)
    for axes, (name, lattice) in zip(figure.axes, points.items(), strict=False):
        is_lattice(axes, lattice)
        assert axes.get_title() == name
        assert (axes.get_xlabel(), axes.get_ylabel()) == labels[name]
        assert axes.yaxis_inverted() == (name == "truth") and not axes.xaxis_inverted()
        assert axes.get_aspect() == 1
    gaps = -count % (5 if count > 6 else 3)
    assert [axes.axison for axes in figure.axes] == [True] * count + [False] * gaps
    assert all(bool(axes.get_xticks().size) == (count <= 6) for axes in figure.axes[:count])
    assert [is_green(shade) for shade in legend(figure).values()] == [True, False]


def test_geometry_marks_the_unseen_places():
    unseen = np.zeros((11, 11), dtype=bool)
    unseen[7:, 8:] = True
    figure = geometry(
        {"DeConv": BENT, "SB": BENT + 1}, dict.fromkeys(("DeConv", "SB"), ("x", "y")), unseen
    )
    for axes, lattice in zip(figure.axes, (BENT, BENT + 1), strict=False):
        *lines, dots = axes.lines
        assert len(lines) == 12
        assert_allclose(dots.get_xydata(), lattice[7:, 8:].reshape(-1, 2))
    assert set(legend(figure)) >= {"places not seen in training"}


@sets_of_names
def test_geometry_epochs(names):
    rows = {name: {f"epoch {e}": BENT + e for e in range(k + 1)} for k, name in enumerate(names)}
    captions = {name: {title: f"{name} {title}" for title in row} for name, row in rows.items()}
    figure = geometry_epochs(rows, captions)
    grid = np.array(figure.axes).reshape(len(names), -1)
    for name, panels in zip(names, grid, strict=True):
        assert panels[0].get_ylabel() == LABELS[name]
        assert color(panels[0].yaxis.label) == COLORS[name]
        for axes, (title, lattice) in zip(panels, rows[name].items(), strict=False):
            is_lattice(axes, lattice)
            assert (axes.get_title(), axes.get_xlabel()) == (title, f"{name} {title}")
            assert axes.yaxis_inverted()
        assert [axes.axison for axes in panels] == [k < len(rows[name]) for k in range(len(panels))]
