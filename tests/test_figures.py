"""What the figures show, asked of their artists: any number of decoders, names and latents."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba
from numpy.testing import assert_allclose
from PIL import Image

from sbd_utils.metrics.geometry import lattice_places
from sbd_utils.plots import charts, pictures
from sbd_utils.plots.geometry import geometry, geometry_epochs, geometry_movie, wanted_widths
from sbd_utils.plots.style import (
    DECODER_COLORS,
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
    "names",
    [["sbd"], ["mine"], ["sbd", "deconv"], ["mine", "deconv", "yours", "sbd"]],
    ids=" ".join,
)


def color(artist):
    return to_hex(artist.get_color()).upper()


def lines(axes):
    """Label to a drawn line, of those that have a label."""
    return {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}


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


def test_the_palette():
    assert (DECODER_COLORS, NAMES["deconv"], NAMES["sbd"]) == (
        {"deconv": RED, "sbd": BLUE},
        "DeConv",
        "Spatial Broadcast",
    )
    assert FACTOR_COLORS == {"x": "#009E73", "y": "#CC79A7", "color": "#E69F00"}
    assert charts.END_COLORS == {"plain": RED, "coordconv": BLUE}
    assert charts.START_COLORS == {"linear": RED, "broadcast": BLUE}


def test_looks_gives_each_name_a_color_of_its_own_and_a_label():
    names = ["sbd-width22", "sbd", "mine", "deconv", "yours"]
    found = colors_and_labels(names + names)
    assert list(found) == names
    assert [c for c, _ in found.values()] == [
        BLUE,
        OTHER_COLORS[0],
        OTHER_COLORS[1],
        RED,
        OTHER_COLORS[2],
    ]
    assert [label for _, label in found.values()] == [
        "Spatial Broadcast, 22 channels",
        "Spatial Broadcast",
        "mine",
        "DeConv",
        "yours",
    ]
    assert colors_and_labels(["plain-kernel2"], charts.END_COLORS) == {
        "plain-kernel2": (RED, "plain-kernel2")
    }


@pytest.mark.parametrize(
    "given",
    [{"name": "../a"}, {"name": ""}, {"alt": " "}, {"alt": None}, {"figure": None}, {"chart": 1}],
)
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


@pytest.mark.parametrize(
    "names, latent_dim",
    [(["sbd"], 10), (["mine"], 1), (["sbd", "deconv"], 7), (["mine", "deconv", "yours", "sbd"], 2)],
)
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


@sets_of_names
def test_schematic(names):
    steps = [
        ("input", "", [5]),
        ("Linear", "", [8]),
        ("AppendCoordinates", "", [7, 16, 16]),
        ("MyLayer", "3×3", [3, 16, 16]),
    ]
    figure = pictures.schematic(dict.fromkeys(names, steps))
    for name, axes in zip(names, figure.axes, strict=True):
        assert axes.get_title(loc="left") == f"{LABELS[name]} decoder"
        assert color(axes._left_title) == COLORS[name]
        faces = [to_hex(patch.get_facecolor()).upper() for patch in axes.patches]
        plain = [COLORS[name]]
        assert faces == plain * 18 + ["#009E73", "#CC79A7"] + plain * 3  # the last two are x and y
        said = [text.get_text() for text in axes.texts]
        assert "5\nnumbers\n(code)" in said and "3 channels\nof 16×16\n(image)" in said
        assert {"linear", "append\nx and y", "MyLayer\n3×3"} < set(said)
        assert axes.get_xlim() == figure.axes[0].get_xlim()


@pytest.mark.parametrize("latent_dim", [1, 7])
def test_broadcast(latent_dim):
    tiled = RANDOM.uniform(-3, 1, size=(latent_dim + 2, 4, 4))
    *panels, bar = pictures.broadcast(tiled).axes
    titles = [f"latent {k + 1}" for k in range(latent_dim)] + ["x", "y"]
    assert [axes.get_title() for axes in panels] == titles
    for axes, channel in zip(panels, tiled, strict=True):
        assert_allclose(shown(axes), channel)
        assert axes.images[0].get_clim() == (tiled.min(), -tiled.min())
        assert axes.images[0].get_cmap().name == "RdBu_r" and axes.yaxis_inverted()
    assert panels[0].get_ylabel() == "pixel row" and bar.get_ylabel() == "value"


def test_regions():
    numbers = np.arange(6.0).reshape(2, 3)
    (axes,) = pictures.regions(numbers).axes
    assert_allclose(axes.collections[0].get_array(), numbers)
    assert axes.get_aspect() == 1


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
def test_loss_curves(names):
    histories = {
        name: {"reconstruction": [9.0, 5.0 + i], "kl": [3.0 + i, 4.0]}
        for i, name in enumerate(names)
    }
    figure = charts.loss_curves(histories, {"sbd": {"reconstruction": 1.0, "kl": 2.0}})
    for axes, term, last in zip(figure.axes, ("reconstruction", "kl"), (1, 2), strict=True):
        drawn = lines(axes)
        for name in names:
            assert_allclose(
                drawn[LABELS[name]].get_xydata(), list(enumerate(histories[name][term], start=1))
            )
            assert color(drawn[LABELS[name]]) == COLORS[name]
        posts = [line for line in axes.lines if line.get_marker() == "D" and line.get_xdata().size]
        assert [(color(post), post.get_ydata()) for post in posts] == [(BLUE, [last])] * (
            "sbd" in names
        )
        (strip,) = (line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1])
        assert 150 < strip < charts.POST and all(post.get_xdata() > strip for post in posts)
        assert ticks(axes.xaxis)[-2:] == ["150", "post"]
        assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == (
            f"{'KL' if term == 'kl' else term} term",
            "epoch",
            "nats per image",
            "log",
        )
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert legend(figure) == {LABELS[name]: COLORS[name] for name in names} | {
        "the post's last epoch": "#000000"
    }


@sets_of_names
def test_responses(names):
    ways = {name: RANDOM.uniform(0, 32, size=(2, k + 1, 4, 2)) for k, name in enumerate(names)}
    hues = {name: RANDOM.uniform(size=(*way.shape[:3], 3)) for name, way in ways.items()}
    ways[names[0]][0, 0, 1] = np.nan
    starts = np.array([[8.0, 9], [20, 21]])
    figure = charts.responses(ways, hues, starts, 32)
    for name, part in zip(names, figure.subfigs, strict=True):
        assert (part.get_suptitle(), color(part._suptitle)) == (LABELS[name], COLORS[name])
        for k, axes in enumerate(part.axes):
            if k >= ways[name].shape[1]:
                assert not axes.axison
                continue
            assert axes.get_title() == f"latent {k + 1}"
            assert (axes.get_xlim(), axes.get_ylim()) == ((0, 32), (32, 0))  # y goes down
            *tracks, rings = axes.lines
            assert_allclose(rings.get_xydata(), starts)
            assert rings.get_markerfacecolor() == "none" and rings.get_markeredgecolor() == "black"
            for line, dots, way, shades in zip(
                tracks, axes.collections, ways[name][:, k], hues[name][:, k], strict=True
            ):
                seen = np.isfinite(way[:, 0])
                assert_allclose(line.get_xydata(), way[seen])
                assert_allclose(dots.get_offsets(), way[seen])
                assert_allclose(dots.get_facecolor()[:, :3], shades[seen])
                assert (np.diff(dots.get_sizes()) < 0).all()
    nothing = np.full((2, 4, 5, 2), np.nan), np.full((2, 4, 5, 3), np.nan)
    assert len(charts.responses(*({"mine": way} for way in nothing), starts, 32).axes) == 4


@sets_of_names
@pytest.mark.parametrize("latent_dim", [1, 2, 7, 10])
def test_moves(names, latent_dim):
    tables = {
        name: pd.DataFrame(RANDOM.uniform(size=(latent_dim, 3)), columns=["x", "y", "color"])
        for name in names
    }
    figure = charts.moves(tables, 0.125)
    for name, axes in zip(names, figure.axes, strict=True):
        assert (axes.get_title(), color(axes.title)) == (LABELS[name], COLORS[name])
        for bars, (factor, shade) in zip(axes.containers, FACTOR_COLORS.items(), strict=True):
            assert_allclose([bar.get_height() for bar in bars], tables[name][factor])
            assert to_hex(bars[0].get_facecolor()).upper() == shade
            assert bars.get_label() == factor
        assert_allclose(axes.lines[0].get_ydata(), 0.125)
        assert axes.get_xlabel() == "latent" and axes.get_ylim() == (0, 1.2)
        assert list(axes.get_xticks()) == list(range(1, latent_dim + 1))
    assert legend(figure) == FACTOR_COLORS
    assert figure.axes[0].get_ylabel() == "share of the full range"


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


@sets_of_names
def test_growth(names):
    rows = pd.DataFrame(
        [
            {"panel": panel, "decoder": name, "loop": loop, "value": value, "cost": value * (k + 1)}
            for panel in ("a", "b")
            for k, name in enumerate(names)
            for loop in ("plain", "ours")
            for value in (16, 32)
        ]
    )
    figure = charts.growth(rows, {"a": ("x a", "y"), "b": ("x b", "y")}, LABELS)
    for axes, panel in zip(figure.axes, "ab", strict=True):
        drawn = lines(axes)
        for k, name in enumerate(names):
            for loop, style in (("plain", "--"), ("our", "-")):
                line = drawn[f"{LABELS[name]}, {loop} loop"]
                assert (color(line), line.get_linestyle()) == (COLORS[name], style)
                assert_allclose(line.get_xydata(), [(16, 16 * (k + 1)), (32, 32 * (k + 1))])
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.get_xlabel() == f"x {panel}" and list(axes.get_xticks()) == [16, 32]
    assert [axes.get_ylabel() for axes in figure.axes] == ["y", ""]
    assert legend(figure) == {
        f"{LABELS[name]}, {loop} loop": COLORS[name] for name in names for loop in ("plain", "our")
    }


@sets_of_names
def test_pieces(names):
    rows = pd.DataFrame(
        [
            {
                "decoder": name,
                "piece": piece,
                "ratio": ratio,
                "low": ratio - 0.25,
                "high": ratio + 0.5,
            }
            for name in names
            for piece, ratio in (("big", 3.0), ("small", 1.5))
        ]
    )
    figure = charts.pieces(rows)
    for name, axes in zip(names, figure.axes, strict=True):
        assert (axes.get_title(), color(axes.title)) == (LABELS[name], COLORS[name])
        points, _, (bars,) = axes.containers[0].lines
        assert_allclose(points.get_xydata(), [(1.5, 0), (3, 1)])
        assert color(points) == COLORS[name] and ticks(axes.yaxis) == ["small", "big"]
        assert_allclose(np.array(bars.get_segments())[..., 0], [(1.25, 2), (2.75, 3.5)])
        assert any(list(line.get_xdata()) == [1, 1] for line in axes.lines)


@pytest.mark.parametrize("splits", [["uniform"], ["uniform", "quadrant", "mine"]])
def test_learning(splits):
    curve = ([10, 20, 40], [0.1, 0.5, 0.9])
    names = ["plain", "plain-a", "plain-b", "plain-c", "coordconv-d", "mine"]
    figure = charts.learning({split: dict.fromkeys(names, curve) for split in splits})
    for split, axes in zip(splits, figure.axes, strict=True):
        drawn = lines(axes)
        assert_allclose(drawn["plain-a"].get_xydata(), np.transpose(curve))
        assert [color(drawn[name]) for name in names] == [RED] * 4 + [BLUE, OTHER_COLORS[0]]
        looks_of = [(line.get_marker(), line.get_linestyle()) for line in drawn.values()]
        assert looks_of == [("o", "-"), ("^", "--"), ("s", ":"), ("o", "-"), ("o", "-"), ("o", "-")]
        assert (axes.get_title(), axes.get_xscale()) == (split, "log")
    assert figure.axes[0].get_ylabel() == "share right in the test"
    assert list(legend(figure)) == names


RUNS = pd.DataFrame(
    {
        "decoder": ["sbd", "sbd", "deconv", "deconv"],
        "start": ["broadcast"] * 2 + ["linear"] * 2,
        "up": ["none", "resize", "deconv", "deconv"],
        "bent": [0.01, 0.02, 0.3, 0.4],
        "folds": [0, 1, 2, 0],
        "pattern": [0.001, 0.002, 0.1, 0.2],
        "seed": [0, 1, 0, 1],
        "epochs": [10, 10, 150, 150],
        "beta": [1, 2, 1, 1.0],
        "kl": [3.0, 5, 7, 9],
        "error": [30.0, 20, 10, 5],
        "weight": [0.3, 0.6, 0.3, 0.3],
    }
)
MANY = pd.concat(
    [RUNS, *(RUNS.assign(decoder=RUNS.decoder + f"-{k}", start="other") for k in range(3))]
)


def dots(axes, marker="o"):
    """(x, y, color, whether it is filled) of each dot that is no handle of a legend."""
    return {
        (
            round(float(x), 4),
            round(float(y), 4),
            color(line),
            to_hex(line.get_markerfacecolor()).upper() == color(line),
        )
        for line in axes.lines
        if line.get_marker() in marker
        for x, y in line.get_xydata()
    }


@pytest.mark.parametrize("rows", [RUNS, RUNS[:1], MANY], ids=["two", "one", "eight"])
def test_dissociation(rows):
    figure = charts.dissociation(rows, 0.05)
    (axes,) = figure.axes
    shades = {"broadcast": BLUE, "linear": RED, "other": OTHER_COLORS[0]}
    markers = dict(zip(dict.fromkeys(rows.up), "osD", strict=False))
    for up, some in rows.groupby("up"):
        expected = {
            (run.pattern, run.bent, shades[run.start], run.folds == 0) for run in some.itertuples()
        }
        assert dots(axes, markers[up]) == expected
    assert legend(figure) == {NAMES.get(start, start): shades[start] for start in rows.start} | (
        dict.fromkeys([*rows.up, "hollow: with folded cells"], "#000000")
    )
    handles = {line.get_label(): line.get_marker() for line in axes.lines}
    assert markers.items() <= handles.items()
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_ylim()) == ("log", "log", (5e-4, 3))
    assert "checkerboard" in axes.get_xlabel() and "bent" in axes.get_ylabel()
    assert any(list(line.get_ydata()) == [0.05, 0.05] for line in axes.lines)
    corner = {text.get_text(): text.get_position() for text in axes.texts}
    assert corner["straight, without pattern"] == (0.01, 0.02)
    assert corner["bent, with pattern"] == (0.99, 0.98)


def test_dissociation_draws_few_runs_above_many():
    (axes,) = charts.dissociation(pd.concat([RUNS, RUNS[:1].assign(up="few")]), 0.05).axes
    above = {line.get_marker(): line.get_zorder() for line in axes.lines if len(line.get_xdata())}
    assert above["X"] > above["D"]


@pytest.mark.parametrize("panels", [{"bent": "b"}, {"bent": "b", "kl": "k", "error": "e"}])
@pytest.mark.parametrize("rows", [RUNS, RUNS[::2], MANY], ids=["two", "one run each", "eight"])
@pytest.mark.parametrize("hollow", ["", "folded"])
def test_dots(rows, panels, hollow):
    rows = rows.assign(hollow=rows.folds > 0)
    figure = charts.dots(
        rows,
        "decoder",
        "start",
        panels,
        hollow,
        {"bent": (0.01, 0.1), "kl": (0, 10), "unused": (1, 2)},
        0.05,
    )
    names = list(rows.decoder.unique())
    shades = {"broadcast": BLUE, "linear": RED, "other": OTHER_COLORS[0]}
    for axes, (score, title) in zip(figure.axes, panels.items(), strict=True):
        assert {(x, round(y), *rest) for x, y, *rest in dots(axes)} == {
            (run[score], names.index(run.decoder), shades[run.start], not (hollow and run.folds))
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


def test_rate_distortion():
    figure = charts.rate_distortion(RUNS)
    (axes,) = figure.axes
    assert dots(axes, "o") == {(3, 30, BLUE, True), (5, 20, BLUE, False)}
    assert dots(axes, "*") == {(7, 10, RED, True), (9, 5, RED, True)}
    joined = [line for line in axes.lines if line.get_marker() == "None"]
    assert [line.get_xydata().tolist() for line in joined] == [[[3, 30], [5, 20]], [[8, 7.5]]]
    assert [color(line) for line in joined] == [BLUE, RED]
    assert (axes.get_yscale(), axes.get_xlabel()) == ("log", "rate: KL term, nats per image")
    assert legend(figure) == {
        "Spatial Broadcast, 10 epochs": BLUE,
        "DeConv, 150 epochs": RED,
        "hollow: β other than 1": "#000000",
    }
    every = charts.rate_distortion(pd.concat([RUNS, RUNS.assign(decoder="mine", epochs=20)]))
    assert legend(every)["mine, 20 epochs"] == OTHER_COLORS[0]


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


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 10])
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


def test_a_movie_has_a_frame_per_epoch_and_keeps_the_colors_of_its_titles():
    movie = geometry_movie(
        PLACES, {"deconv": [PLACES, BENT], "sbd": [BENT, PLACES]}, (1, 5), "a", "b"
    )
    with Image.open(BytesIO(movie.webp)) as image:
        assert image.n_frames == 2
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    shades = {to_hex(shade / 255) for shade in np.unique(pixels, axis=0)}
    assert {shade.lower() for shade in (RED, BLUE)} < shades


def test_geometry_marks_the_unseen_places():
    unseen = np.zeros((11, 11))
    unseen[7:, 8:] = 1
    figure = geometry(
        {"DeConv": BENT, "SB": BENT + 1}, dict.fromkeys(("DeConv", "SB"), ("x", "y")), unseen
    )
    for axes, lattice in zip(figure.axes, (BENT, BENT + 1), strict=False):
        *lines, dots = axes.lines
        assert len(lines) == 12
        assert_allclose(dots.get_xydata(), lattice[7:, 8:].reshape(-1, 2))
    assert set(legend(figure)) >= {"places not seen in training"}
    with pytest.raises(ValueError, match="unseen"):
        geometry({"DeConv": BENT}, {"DeConv": ("x", "y")}, unseen[1:])


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


def test_wanted_widths():
    """Of the matrix [[5, 4], [4, 5]], with eigenvalues 1 and 9."""
    figure = wanted_widths(np.array([[5.0, 4], [4, 5]]), ("a", "b"))
    left, right = figure.axes
    for axes, own, best in (
        (left, (5**0.5 / 3,) * 2, (5**-0.5,) * 2),
        (right, (1 / 3, 1), (1 / 3, 1)),
    ):
        (wanted,), (diagonal,) = axes.patches, axes.lines
        assert_allclose(wanted.get_xy().max(axis=0), own, rtol=1e-3)
        assert_allclose(diagonal.get_xydata().max(axis=0), best, rtol=1e-3)
        assert to_hex(wanted.get_facecolor()).upper() == BLUE and axes.get_aspect() == 1
    figure.draw_without_rendering()
    assert all(any(ticks(axes.yaxis)) for axes in figure.axes)  # labels off the ticks of each
    assert [(axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ("along the latents", "a", "b"),
        (
            "along the ellipse's own axes",
            "offset along the short axis",
            "offset along the long axis",
        ),
    ]
    assert legend(figure) == {"wanted by the loss": BLUE, "best diagonal q": "#000000"}
