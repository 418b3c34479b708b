"""All scores of a trained run of the circles."""

import numpy as np

from sbd_utils.data.circles import COLORS, Sprites
from sbd_utils.metrics.codes import decode, encode
from sbd_utils.metrics.geometry import (
    additive_model_r2,
    affine_fit,
    informative_latents,
    knn_probe_r2,
    measure_geometry,
)
from sbd_utils.metrics.information import mig
from sbd_utils.metrics.pictures import (
    explained,
    fixed_pattern,
    gray_levels,
    measure_moves,
    right_blobs,
)
from sbd_utils.training.records import Run


def score(run: Run, sprites: Sprites) -> dict[str, float]:
    """Compute all scores of a run, by name.

    Args:
        run: Trained for an epoch at least.
        sprites: What it was trained on; of one shape and size, in red, green and blue, at places
            that reach from 0.2 to 0.8.

    Raises:
        ValueError: For anything else.
    """
    if not len(run.history):
        raise ValueError("run must be trained for an epoch at least, got none")
    vae, images, factors = run.vae, sprites.images, sprites.factors
    if set(factors["color"]) != set(COLORS):
        raise ValueError(f"sprites must be in {', '.join(COLORS)}, got {set(factors['color'])}")
    mu, log_var = encode(vae, images)
    order = informative_latents(log_var)
    places = np.column_stack([factors["x"], factors["y"]])
    moves = measure_moves(vae, mu, sprites)
    drawn = decode(vae, mu, clamp=False)
    pictures, residual = np.clip(drawn, 0, 1), drawn - images.numpy()
    numbers = {
        "reconstruction": run.history.reconstruction[-1],
        "kl": run.history.kl[-1],
        "explained": explained(sprites, pictures),
        "right_blob": right_blobs(sprites, pictures).mean(),
        "mixing": moves.mixing,
        "factors_moved": moves.factors.sum() / max(1, moves.factors.any(axis=1).sum()),
        "one_blob": moves.one_blob.mean(),
        "readout": knn_probe_r2(mu[:, order[:2]], places),
        "readout_affine": affine_fit(mu[:, order[:2]], places).r2,
        "additive": additive_model_r2(mu, places, factors["color"]),
        "mig": mig(mu, factors),
        "pattern": fixed_pattern(residual, period=2),
        "gray_levels": gray_levels(residual, period=2),
        "seconds": run.history.undisturbed_seconds,
    }
    for color in COLORS:
        geometry = measure_geometry(vae, sprites, order[:2], color)
        numbers |= {
            f"r2_{color}": geometry.fit.r2,
            f"singular_ratio_{color}": geometry.fit.singular_ratio,
            f"angle_{color}": geometry.fit.angle,
            f"folded_{color}": geometry.folded,
        }
    return {name: float(value) for name, value in numbers.items()}
