# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # See why deconvolution leaves a pattern
#
# The blog post's first argument for the Spatial Broadcast (SB) decoder is one against the other: a
# transposed convolution leaves a checkerboard in what it draws (Odena et al. 2016). This notebook
# lets that happen, first by counting, then in decoders that have learned nothing, then in the two
# that we trained, and finds that the usual explanation is not the one that applies here.
#
# **What you'll do.** Count how often a transposed convolution writes to each pixel, average what
# untrained decoders draw, and look for a pattern in what the trained ones get wrong.
#
# **What you'll learn.** Why a kernel of 3 or 5 with a stride of 2 draws a checkerboard before any
# training, why a kernel of 4 does not escape, and how to measure a pattern too faint to be seen.
#
# **What you'll need.** The runs of [notebook 03](03_training.ipynb); what is missing is trained
# here.
#
# ---

# %%
from dataclasses import replace

import numpy as np
import torch
from IPython.display import Markdown
from torch.nn import functional as F

from sbd_utils import charts, claims, data, figures, metrics, scores, study, training
from sbd_utils.figures import NAMES, Picture
from sbd_utils.settings import TRAINING, preset
from sbd_utils.variants import DECONV, SBD, VARIANTS, ComposedDecoder

# %%
PRESET, SEED = preset(), 0
DECODERS = ("deconv", "sbd")
KERNELS = (3, 4, 5)
PERIODS = (2, 4, 8)

# %% [markdown]
# ## Count
#
# A transposed convolution lets every input pixel stamp its kernel onto the output, a stride apart,
# and adds up where the stamps overlap. Let all inputs and all weights be 1, in one dimension: the
# output counts the stamps.


# %%
def overlaps(kernel: int, layers: int = 1, pixels: int = 12) -> torch.Tensor:
    """Stamps that reach each output pixel, layer upon layer, away from the border."""
    x = torch.ones(1, 1, pixels)
    for _ in range(layers):
        x = F.conv_transpose1d(x, torch.ones(1, 1, kernel), stride=2)
    middle = x.shape[-1] // 2
    return x[0, 0, middle - 8 : middle + 8]


# %% tags=["nbval-check-output"]
for kernel in KERNELS:
    for layers in (1, 2, 3):
        counts = overlaps(kernel, layers, pixels=24)
        print(f"kernel {kernel}, {layers} layers: {counts.min():.0f} to {counts.max():.0f} stamps, "
              f"a ratio of {counts.max() / counts.min():.2f}")

# %% [markdown]
# Wherever the stride does not divide the kernel, some pixels get more stamps than their neighbors,
# and each further layer makes more of it:

# %%
Picture(
    charts.bars({
        f"{layers} layer" + "s" * (layers > 1): {
            f"kernel {kernel}": (counts / counts.mean()).numpy()
            for kernel in KERNELS for counts in [overlaps(kernel, layers, pixels=24)]
        } for layers in (1, 2, 3)
    }, "pixel", "stamps over their mean"),
    "overlaps_line",
    "Nine panels of bars along a line of 16 pixels: for kernels 3 and 5 every other bar is higher, "
    "with more levels for each layer; for kernel 4 all are equal.",
)

# %% [markdown]
# In two dimensions the counts multiply: a ratio of 2 along a line is one of 4 across the plane.

# %%
Picture(
    figures.heat_maps({
        f"{layers} layer" + "s" * (layers > 1): {
            f"kernel {kernel}": square / square.mean()
            for kernel in KERNELS
            for square in [np.outer(*2 * [overlaps(kernel, layers, pixels=24)])]
        }
        for layers in (1, 2, 3)
    }, "stamps over their mean"),
    "overlaps",
    "Nine squares of 16 by 16 pixels: kernels of 3 and 5 make checkerboards, finer and stronger "
    "with each layer; a kernel of 4 makes a flat square.",
)

# %% [markdown]
# And the middle column? A kernel of 4 at a stride of 2 gives every pixel the same two stamps in a
# line, four in the plane, at any depth. That is the post's own DeConv decoder. The argument, as it
# is usually told, does not apply to it. Does that mean that it draws no pattern?
#
# ## Draw without having learned anything
#
# We build decoders of five kinds, with random weights, and let each draw 64 random codes. A pattern
# that is in all of the pictures is the decoder's own, so that we average: over the pictures, the
# *strength* of every pixel, which is its root mean square about the decoder's mean color; then over
# eight random decoders of the kind.

# %%
KINDS = {
    "DeConv, kernel 3": replace(DECONV, kernel=3), "DeConv, kernel 4": DECONV,
    "DeConv, kernel 5": replace(DECONV, kernel=5), "resize, then convolve": VARIANTS["resize"],
    "Spatial Broadcast": SBD,
}


@torch.inference_mode()
def draw(recipe, seed: int) -> np.ndarray:
    """64 pictures by an untrained decoder, without their outer 8 pixels, [64, 3, 48, 48]."""
    torch.manual_seed(seed)
    decoder = ComposedDecoder(latent_dim=5, image_size=64, recipe=recipe)
    return decoder(torch.randn(64, 5))[..., 8:-8, 8:-8].numpy()


def strength(pictures: np.ndarray) -> np.ndarray:
    """Each pixel's root mean square about its channel's mean, over its own mean, [48, 48]."""
    square = np.square(pictures - pictures.mean(axis=(0, 2, 3), keepdims=True)).mean(axis=(0, 1))
    return np.sqrt(square / square.mean())


drawn = {kind: [draw(recipe, seed) for seed in range(8)] for kind, recipe in KINDS.items()}
Picture(
    figures.heat_maps(
        {"": {kind: np.mean([strength(x) for x in pictures], axis=0)[16:32, 16:32]
              for kind, pictures in drawn.items()}}, "strength over its mean",
    ),
    "untrained",
    "Five squares of 16 by 16 pixels: a strong checkerboard for DeConv with kernels 3 and 5, a "
    "weak one for kernel 4, flat squares for resizing and for Spatial Broadcast.",
)

# %% [markdown]
# Just as counted: over many random decoders, kernels of 3 and 5 draw stronger where more stamps
# fall, and a kernel of 4 hardly does. But this is an average over *decoders*. You train one. Take a
# single decoder with a kernel of 4 and average its pictures:

# %%
Picture(
    figures.heat_maps(
        {"": {kind: (m - m.mean()) / m.std() for kind, pictures in drawn.items()
              for m in [pictures[0].mean(axis=0)[0, 16:32, 16:32]]}}, "red, standardized",
    ),
    "untrained_one",
    "Five squares of 16 by 16 pixels, one decoder each: all three of DeConv repeat a pattern of a "
    "few pixels; resizing and Spatial Broadcast change smoothly.",
)

# %% [markdown]
# There it is, as plain for a kernel of 4 as for the others. Every pixel does get four stamps, but
# by *different weights*: even and odd rows are written by different rows of the kernel, so that the
# layer is really four convolutions of 2×2 weights, one for each corner of a 2×2 block, laid out in
# turn. Nothing ties the four together. Even overlap makes the sums equally long, not equal. (Odena
# et al. say that a divisible kernel *can* learn to be even, and often does not.)
#
# To put a number on it: of all the variance in a decoder's pictures, what share is a pattern that
# every picture repeats every 2, 4 or 8 pixels?

# %%
Markdown("\n".join([
    "| untrained | " + " | ".join(f"every {p} pixels" for p in PERIODS) + " |", "|---" * 4 + "|",
    *(f"| {kind} | " + " | ".join(
        f"{np.median([metrics.fixed_pattern(x, p) for x in pictures]):.2g}" for p in PERIODS) + " |"
      for kind, pictures in drawn.items()),
]))

# %% [markdown]
# An untrained DeConv decoder, of any kernel, draws next to nothing but its pattern.
#
# ## Look at what training leaves of it
#
# Now the two trained decoders of [notebook 03](03_training.ipynb). Their pictures look clean, so we
# take the *residual*, picture minus truth, and average it over all 3675 images. What an image gets
# wrong on its own averages out; what stays is the decoder's habit.

# %%
sprites = data.make_sprites()
images = sprites.images.numpy()
residual = {}
for name in DECODERS:
    vae = training.load_or_train(training.TrainConfig(name, SEED, **TRAINING[PRESET]),
                                 sprites.images).vae
    residual[name] = scores.decode(vae, scores.encode(vae, sprites.images)[0], clamp=False) - images

# %%
habit = {name: residual[name].mean(axis=(0, 1)) for name in DECODERS}
Picture(
    figures.heat_maps(
        {"": {f"{NAMES[name]}, {part}": habit[name][window] for name in DECODERS
              for part, window in (("whole", np.s_[:, :]), ("middle", np.s_[24:40, 24:40]))}},
        "mean residual",
    ),
    "habit",
    "The mean residual of both decoders: DeConv's is covered by a fine grid, Spatial Broadcast's "
    "is smooth but for faint lines.",
)

# %% [markdown]
# A pattern of a period of $p$ pixels is a peak at multiples of $64 / p$ in the spectrum. Here is
# the power of each mean residual, from the constant at the upper left to the finest grid that 64
# pixels can hold at the lower right:

# %%
power = {name: np.abs(np.fft.fft2(m - m.mean()))[:33, :33] ** 2 for name, m in habit.items()}
Picture(
    figures.heat_maps(
        {"": {NAMES[name]: np.log10(np.maximum(p / 64**2, 1e-9)) for name, p in power.items()}},
        "power, log10", ticks=range(0, 33, 8),
    ),
    "spectrum",
    "Two spectra. DeConv's has bright points at the multiples of 16 and 32; Spatial Broadcast's "
    "falls off smoothly.",
)

# %% [markdown]
# DeConv's spectrum has bright points exactly at the multiples of 16 and, fainter, of 8: patterns of
# 4, 2 and 8 pixels, the blocks that its last three layers write. The SB decoder's has none. Its
# faint lines, just above 16 and just below 32, are the data's own: 35 positions over 46 pixels are
# $46/34$ pixels apart, which is a frequency of $64 \cdot 34 / 46 = 47.3$, seen on a grid of 64
# pixels at $64 - 47.3 = 16.7$, and twice that at $64 - 33.4 = 30.6$.
#
# As numbers: the share of the residual's variance that is a fixed pattern, and what would be left
# by chance, were the pixels of each residual shuffled.

# %%
generator = np.random.default_rng(SEED)


def row(name: str) -> str:
    shuffled = generator.permuted(residual[name].reshape(len(images), 3, -1), axis=2)
    shuffled = shuffled.reshape(images.shape)
    return f"| {NAMES[name]} | " + " | ".join(
        f"{metrics.fixed_pattern(residual[name], p):.1e} ({metrics.fixed_pattern(shuffled, p):.1e})"
        for p in PERIODS) + " |"


Markdown("\n".join([
    "| trained (by chance) | " + " | ".join(f"every {p} pixels" for p in PERIODS) + " |",
    "|---" * 4 + "|", *map(row, DECODERS),
]))

# %% [markdown]
# Two things are true at once. DeConv's pattern is *there*, hundreds to thousands of times above
# chance, while the SB decoder's is within a few times of it, and what it has every 4 pixels is that
# rhythm of the data, near by in the spectrum. And it is *small*: training has taken it from nearly
# everything that the decoder draws to less than a hundredth of what it gets wrong, and you can't
# see it in a picture.
#
# Spectrum and shares are one measurement, by the way: averaging over phases keeps exactly those
# frequencies whose period divides $p$.

# %% tags=["nbval-check-output"]
for period in PERIODS:
    step = 64 // period
    for name in DECODERS:
        full = np.fft.fft2(residual[name].mean(axis=0, dtype=float))[:, ::step, ::step]
        peaks = np.square(np.abs(full)).sum() - np.square(np.abs(full[:, 0, 0])).sum()
        share = peaks / 64**4 / residual[name].var(axis=(0, 2, 3), dtype=float).sum()
        same = np.isclose(share, metrics.fixed_pattern(residual[name], period))
        print(f"{name:>6}, every {period} pixels: peaks and phases agree: {same}")

# %% [markdown]
# Is it the same with other seeds? Over those of [notebook 05](05_geometry.ipynb), at 150 epochs:

# %%
seeds = study.read_scores("blog")
Markdown("\n".join([
    "| decoder | share that repeats every 2 pixels, lowest to highest seed |", "|---" * 2 + "|",
    *(f"| {NAMES[name]} | {min(values):.1e} to {max(values):.1e} |" for name in DECODERS
      for values in [[row["pattern"] for row in seeds if row["decoder"] == name]]),
]))

# %% [markdown]
# ## The claim
#
# The post says that transposed convolutions can leave checkerboards. They do; but here they are a
# few thousandths, at most, of what is wrong. We call a pattern large if it makes up a hundredth of
# what is wrong.

# %%
share = {name: metrics.fixed_pattern(residual[name], 2) for name in DECODERS}
report = claims.Report(
    claims.check("checkerboard", DeConv=share["deconv"], SBD=share["sbd"])
)
report

# %% tags=["nbval-check-output"]
print(report.verdicts())

# %% [markdown]
# ---
#
# In this notebook we have seen that an uneven overlap is not all that makes a transposed
# convolution draw a pattern: with a stride of 2 it is four convolutions in turn, and nothing makes
# them agree but training. Training nearly does. What remains in the DeConv decoder is measurable,
# next to absent from the SB decoder, and too small to be seen.
#
# **On your own.** Train a DeConv decoder for two epochs only, and look at its mean residual. How
# fast does the pattern go?
#
# **In practice.** To find a pattern, average over many pictures: what they share is the network's.
# And compare with chance before you believe a small number.
#
# **Further reading.** [Odena et al. 2016](https://doi.org/10.23915/distill.00003), with pictures of
# the artifact in generators, where it was large enough to be seen.
