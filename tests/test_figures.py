"""Figures take decoders of any name and number, and codes of any length."""

import numpy as np
import pandas as pd
import pytest

from sbd_utils.figures import charts
from sbd_utils.figures.pictures import traversals
from sbd_utils.figures.style import DECODER_COLORS, NAMES, looks

FACTORS = ["x", "y", "color"]
sets_of_names = pytest.mark.parametrize(
    "names", [["sbd"], ["mine"], ["deconv", "sbd"], ["sbd", "sbd-width22", "mine", "yours"]],
)


def texts(figure):
    parts = [figure, *figure.subfigs]
    return [text.get_text() for part in parts for text in part.texts] + [
        text for axes in figure.axes for text in (axes.get_title(), axes.get_ylabel())
    ]


@sets_of_names
def test_looks_gives_each_name_a_color_of_its_own_and_a_label(names):
    found = looks(names)
    assert list(found) == names and len({color for color, _ in found.values()}) == len(names)
    for name, (color, label) in found.items():
        assert color == DECODER_COLORS.get(name, color) and label == NAMES.get(name, name)


@sets_of_names
@pytest.mark.parametrize("latent_dim", [1, 5, 12])
def test_traversals_takes_any_decoders_and_latents(names, latent_dim):
    inputs = np.zeros((3, 3, 8, 8))
    figure = traversals(inputs, dict.fromkeys(names, inputs),
                        dict.fromkeys(names, np.zeros((latent_dim, *inputs.shape))), (-2, 0, 2))
    assert len(figure.axes) == len(names) * 3 * (2 + latent_dim)
    assert {*(NAMES.get(name, name) for name in names), f"latent {latent_dim}"} <= {*texts(figure)}


@sets_of_names
def test_curves_bars_and_dots_take_any_decoders(names):
    labels = {NAMES.get(name, name) for name in names}
    history = {"reconstruction": [9.0, 5.0], "kl": [3.0, 4.0]}
    post = {"sbd": {"reconstruction": 1, "kl": 2}}
    figure = charts.loss_curves(dict.fromkeys(names, history), post)
    assert labels <= {text.get_text() for text in figure.legends[0].get_texts()}
    table = pd.DataFrame(np.ones((4, 3)), columns=FACTORS)
    assert labels <= {*texts(charts.moves(dict.fromkeys(names, table), 0.1))}
    ways = np.full((2, 4, 5, 2), np.nan), np.full((2, 4, 5, 3), np.nan)  # nothing is ever seen
    figure = charts.responses(*(dict.fromkeys(names, way) for way in ways))
    assert labels <= {*texts(figure)} and len(figure.axes) == 4 * len(names)
    rows = pd.DataFrame({"decoder": names, "mixing": 1.0})  # a single run each
    ticks = charts.seed_spread(rows, {"mixing": "mixing"}).axes[0].get_xticklabels()
    assert {tick.get_text().replace("\n", " ") for tick in ticks} == labels
