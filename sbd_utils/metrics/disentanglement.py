"""All scores of disentanglement at once, for the codes of anyone's model, and codes to try them on.

What each score ignores (=), what lowers it (-), and what it ignores in a perfect code only (~):

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
latent has long tails, bending it lowers more scores. Split: one latent tells of the lower half of a
factor's range only, another of the upper half. Dead latents: noise, a thousandth as wide as the
others. If they hold a trace of a factor instead, they count as its duplicates for MIG and
modularity, so leave out what is no active unit of a VAE.
"""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sbd_utils import checks
from sbd_utils.metrics.describe import CorrelatedFactors, describe
from sbd_utils.metrics.geometry import affine_r2, sum_r2
from sbd_utils.metrics.information import infomec, mig, modularity
from sbd_utils.metrics.prediction import dci, factor_vae_score, mcc, sap


def report(
    codes: np.ndarray, factors: Mapping[str, np.ndarray], periods: Mapping[str, float] | None = None
) -> pd.Series:
    """Every score of codes [N, latents], by its name.

    factors: name to N values. Text and whole numbers are labels, floats are quantities, and those
    that go around are named with their period. Factors that do not vary are left out. Scores that
    are not defined, of one factor say, are NaN. To score a model of your own:

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

    Raises ValueError for fewer than 50 codes, fewer than two latents, labels of fewer than five
    codes in the mean, or where no factor varies; warns of CorrelatedFactors.
    """
    describe(codes, factors, periods)
    given = codes, factors, periods
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CorrelatedFactors)  # described once, above
        return pd.Series(
            {
                "MIG": mig(*given),
                "SAP": sap(*given),
                "FactorVAE score": factor_vae_score(*given),
                "modularity": modularity(*given),
                **{f"DCI {name}": value for name, value in dci(*given).items()},
                **infomec(*given),
                "MCC": mcc(*given),
                "affine readout R²": affine_r2(*given),
                "R² of a sum of curves": sum_r2(*given),
            }
        )


def hand_made(
    count: int = 3000, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Codes [count, latents] by name, about which the scores disagree, and their three factors.

    x and y are uniform in [0, 1], and shape is one of three.
    """
    rng = np.random.default_rng(checks.check_int("seed", seed, 0))
    x, y = rng.uniform(size=(2, checks.check_int("count", count)))
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
