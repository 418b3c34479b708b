"""All scores of disentanglement at once, and hand-made codes to try them on.

What each score ignores (=), what lowers it (-), and what it ignores in a perfect code only (~)::

                         turned  order, sign  stretched  bent  split  duplicated  dead latents
    MIG                    -         =            =       -      -        -            =
    SAP                    -         =            =       -      -        -            =
    FactorVAE score        -         =            =       ~      ~        =            =
    modularity             -         =            =       =      =        =            -
    DCI disentanglement    -         =            =       =      =        =            ~
    DCI completeness       -         =            =       =      -        -            ~
    DCI informativeness    =         =            =       =      =        =            =
    InfoM                  -         =            =       =      =        =            =
    InfoE                  =         =            =       -      =        =            =
    InfoC                  -         =            =       =      -        -            =
    MCC                    -         =            =       -      -        =            =
    affine readout R²      =         =            =       -      =        =            =
    R² of a sum of curves  =         =            ~       ~      =        =            =

Turned: two latents, by 45°, of thousands of codes, since a forest fitted to fewer notices it.
Stretched: by factors up to six; one that is 20 times as wide as others makes them dead to the
FactorVAE score, InfoM, InfoE and InfoC. Bent: each latent z, from 0 to 1, becomes exp(3 z); where a
latent has long tails, bending it lowers more scores. Split: one latent follows the lower half of
a factor's range, another the upper half. Dead latents: noise, a thousandth as wide as the
others. If they hold a trace of a factor instead, they count as its duplicates for MIG and
modularity, so leave out what is no active unit of a VAE.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from sbd_utils.metrics.factors import parse_factors
from sbd_utils.metrics.geometry import additive_splines_r2, affine_r2
from sbd_utils.metrics.information import infomec, mig, modularity
from sbd_utils.metrics.prediction import dci, factor_vae_score, mcc, sap


def report(
    codes: ArrayLike, factors: Mapping[str, Any], periods: Mapping[str, float] | None = None
) -> pd.Series:
    """Every score of codes, by its name. To score a model of your own:

    >>> import numpy as np
    >>> from sbd_utils.metrics import disentanglement
    >>> rng = np.random.default_rng(0)
    >>> factors = {"x": rng.uniform(size=1000), "hue": rng.uniform(size=1000),
    ...            "shape": rng.choice(["disc", "heart"], size=1000)}
    >>> around = 2 * np.pi * factors["hue"]
    >>> codes = np.column_stack([  # here goes what your encoder says of your images, [N, latents]
    ...     factors["x"], np.sin(around), np.cos(around), factors["shape"] == "disc"])
    >>> scores = disentanglement.report(codes, factors, periods={"hue": 1.0})
    >>> print(scores[["MCC", "affine readout R²", "InfoM"]].round(1).to_string())
    MCC                  1.0
    affine readout R²    1.0
    InfoM                1.0

    Args:
        codes: [N, latents], of 50 images and two latents at least.
        factors: N values by name. Text and whole numbers are labels, of five codes each in the
            mean; floats are quantities. Factors that do not vary are left out.
        periods: Periods of the quantities that go around, by name.

    Returns:
        Scores, NaN for those that are not defined, of one factor say.

    Raises:
        ValueError: For anything else.

    Warns:
        CorrelatedFactors: Where two factors are dependent.
    """
    parsed = parse_factors(codes, factors, periods)
    return pd.Series(
        {
            "MIG": mig(*parsed),
            "SAP": sap(*parsed),
            "FactorVAE score": factor_vae_score(*parsed),
            "modularity": modularity(*parsed),
            **{f"DCI {name}": value for name, value in dci(*parsed).items()},
            **infomec(*parsed),
            "MCC": mcc(*parsed),
            "affine readout R²": affine_r2(*parsed),
            "R² of a sum of curves": additive_splines_r2(*parsed),
        }
    )


def hand_made(
    count: int = 3000, seed: int = 0
) -> tuple[dict[str, Float[np.ndarray, "count _"]], dict[str, np.ndarray]]:
    """Make codes, by name, about which the scores disagree, and their three factors.

    x and y are uniform in [0, 1], and shape is one of three.
    """
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(size=(2, count))
    shape = rng.integers(3, size=count)
    plain = np.column_stack([x, y, shape / 2])
    turned = plain @ [[0.5**0.5, 0.5**0.5, 0], [-(0.5**0.5), 0.5**0.5, 0], [0, 0, 1]]
    codes = {
        "identity": plain,
        "other order and signs": plain[:, [2, 0, 1]] * [-1, 1, -1],
        "plane turned by 45°": turned,
        "duplicated": np.hstack([plain, plain]),
        "ten dead latents": np.hstack([plain, 0.001 * rng.standard_normal((count, 10))]),
        "plane folded": np.column_stack([abs(x - 0.5), plain[:, 1:]]),
        "x bent": np.column_stack([np.exp(5 * x) / 100, plain[:, 1:]]),
        "x split over two": np.column_stack([x.clip(0, 0.5), x.clip(0.5), plain[:, 1:]]),
        "noise": rng.standard_normal((count, 3)),
    }
    return codes, {"x": x, "y": y, "shape": np.array(["disc", "square", "heart"])[shape]}
