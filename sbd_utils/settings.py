"""Paths, training presets, and the environment variables SBD_RUNS and SBD_PRESET."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run records; git ignores them. SBD_RUNS names another folder; a relative path is below ROOT.
RUNS = ROOT / (os.environ.get("SBD_RUNS") or "runs")
RESULTS = ROOT / "results"

# `blog` is the post's setting. `quick` stops once the geometry has settled: the DeConv plane starts
# out nearly affine and takes ten to fifteen epochs to fold for good.
TRAINING = {
    "blog": {"epochs": 150, "learning_rate": 3e-4},
    "quick": {"epochs": 20, "learning_rate": 3e-4},
    "ablation": {"epochs": 10, "learning_rate": 6e-4},  # of `make study`, no preset
}
PRESETS = ("published", "blog", "quick")


def preset() -> str:
    """The preset that SBD_PRESET names, `published` without it; ValueError for any other."""
    name = os.environ.get("SBD_PRESET") or "published"
    if name not in PRESETS:
        raise ValueError(f"SBD_PRESET must be one of {', '.join(PRESETS)}, got {name!r}")
    return name
