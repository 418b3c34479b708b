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
# **Takeaway.** A decoder that upsamples by transposed convolutions draws a checkerboard before it
# has learned anything. A kernel that overlaps evenly does not prevent this, because neighboring
# pixels are still written by different weights. Training removes nearly all of the pattern. What is
# left is there in every seed of our DeConv decoder, and next to nothing of it in any Spatial
# Broadcast decoder (SB decoder). What all its pictures share of it is weaker than the smallest step
# of brightness that a screen can show.
#
# A **decoder** draws a picture from a few numbers, the picture's **code**. Together with the
# encoder that finds the code it makes up a **VAE** (variational autoencoder). Our two decoders
# differ in how they get to the full size: DeConv doubles a small map five times by **transposed
# convolutions**, also called deconvolutions, while the SB decoder works at full size from its first
# layer on.
#
# Checkerboards are the first argument of the [blog
# post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) against deconvolution,
# and they go back to Odena and others (2016). We first count, then draw with decoders that have
# learned nothing, and at last look for the pattern in trained ones. [The notebook on
# models](02_models.ipynb) builds both decoders.
#
# ---

# %%
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from sbd_utils.claims import Report, check, format_value
from sbd_utils.data.circles import make_sprites
from sbd_utils.experiments import circles, tables
from sbd_utils.metrics import intervals
from sbd_utils.metrics import pictures as measures
from sbd_utils.metrics.codes import decode, encode
from sbd_utils.models.decoders import DECODERS, DECONV, SBD, ComposedDecoder, DecoderConfig
from sbd_utils.models.vae import VAE
from sbd_utils.plots.pictures import heat_maps
from sbd_utils.plots.style import NAMES, Picture
from sbd_utils.training.loop import TrainConfig, train

# %%
PERIODS = (2, 4, 8)  # pixels, of the patterns that we look for
EVERY = [f"every {period} pixels" for period in PERIODS]


def two_digits(value: float) -> str:
    """A number as our tables show it."""
    return format_value(float(f"{value:.2g}"))


# %% [markdown]
# ## Count the stamps
#
# In a transposed convolution, every input pixel stamps its kernel onto the output. Neighboring
# stamps lie a stride apart, and where they overlap, they add up. If all inputs and all weights are
# 1, the output simply counts the stamps on each pixel. Along a line, with a stride of 2:


# %%
def stamps(kernel: int, layers: int) -> np.ndarray:
    """Stamps on each of 16 pixels of a line, layer upon layer, away from the border."""
    x = torch.ones(1, 1, 24)
    for _ in range(layers):
        x = F.conv_transpose1d(x, torch.ones(1, 1, kernel), stride=2)
    middle = x.shape[-1] // 2
    return x[0, 0, middle - 8 : middle + 8].numpy()


# %% tags=["nbval-check-output"]
counts = {
    f"layers: {layers}": {f"kernel {kernel}": stamps(kernel, layers) for kernel in (3, 4, 5)}
    for layers in (1, 3)
}
pd.DataFrame(
    {
        layers: {kernel: f"{line.min():.0f} to {line.max():.0f}" for kernel, line in lines.items()}
        for layers, lines in counts.items()
    }
)

# %% [markdown]
# Wherever the stride does not divide the kernel, some pixels get more stamps than others, and each
# further layer makes the difference larger. In a picture, the counts of rows and columns multiply:

# %%
Picture(
    heat_maps(
        {
            layers: {
                kernel: np.outer(line, line) / line.mean() ** 2 for kernel, line in lines.items()
            }
            for layers, lines in counts.items()
        },
        "stamps over their mean",
    ),
    "overlaps",
    "Six squares of 16 by 16 pixels: kernels of 3 and 5 make checkerboards, which get longer "
    "periods with more layers; a kernel of 4 makes flat squares.",
)

# %% [markdown]
# A kernel of 4 gives every pixel the same number of stamps. The post's DeConv decoder has kernels
# of 4, so the usual argument does not apply to it. Does it draw without a pattern, then?
#
# ## Draw without having learned anything
#
# We build decoders of five kinds, 32 of each with random weights, and let each draw 16 random
# codes. The kind called `resize` replaces each transposed convolution by a nearest-neighbor resize
# and an ordinary convolution, as Odena and others recommend.

# %%
KINDS = {
    "DeConv, kernel 3": replace(DECONV, kernel=3),
    "DeConv, kernel 4": DECONV,
    "DeConv, kernel 5": replace(DECONV, kernel=5),
    "resize": DECODERS["resize"],
    "Spatial Broadcast": SBD,
}


@torch.inference_mode()
def draw(config: DecoderConfig, seed: int) -> np.ndarray:
    """16 pictures by an untrained decoder, without their outer 8 pixels, [16, 3, 48, 48]."""
    torch.manual_seed(seed)
    decoder = ComposedDecoder(latent_dim=5, image_size=64, config=config)
    return decoder(torch.randn(16, 5))[..., 8:-8, 8:-8].numpy()


drawn = {kind: [draw(config, seed) for seed in range(32)] for kind, config in KINDS.items()}

# %% [markdown]
# The *strength* of a pixel says how far it strays from the decoder's mean color, as a root mean
# square over the pictures, against the same over all pixels. We average it over the 32 decoders of
# a kind:

# %%
middle = np.s_[16:32, 16:32]
strengths = {
    kind: np.mean([measures.strength(x) for x in pictures], axis=0)[middle]
    for kind, pictures in drawn.items()
}
Picture(
    heat_maps(
        {"": {kind: 100 * (values - 1) for kind, values in strengths.items()}},
        "strength, percent\nfrom the mean",
    ),
    "untrained",
    "Five squares of 16 by 16 pixels: a checkerboard for DeConv with kernels 3 and 5, a much "
    "fainter one for kernel 4, and none for resize and Spatial Broadcast, in pale broad tints.",
)

# %% [markdown]
# On average over 32 decoders, kernels of 3 and 5 draw a checkerboard, and a kernel of 4 a much
# weaker one. But you train a single decoder. Here is the mean picture of the first of each kind:

# %%
reds = {kind: pictures[0].mean(axis=0)[0][middle] for kind, pictures in drawn.items()}
Picture(
    heat_maps(
        {"": {kind: (red - red.mean()) / red.std() for kind, red in reds.items()}},
        "red, standardized",
    ),
    "untrained_one",
    "Five squares of 16 by 16 pixels, one decoder each: all three of DeConv repeat a pattern of a "
    "few pixels; resize and Spatial Broadcast change over longer distances.",
)

# %% [markdown]
# The pattern is as plain for a kernel of 4 as for the others. Each pixel does get equally many
# stamps, but from *different weights*: even and odd rows of the output are written by different
# rows of the kernel, and likewise for columns. A layer with a stride of 2 is therefore four
# ordinary convolutions, one for each corner of a 2×2 block, whose outputs are laid out in turn
# (exercise 1). Nothing ties the four together.
#
# To put a number on it, we ask how strong the pattern is that *all* pictures of a decoder repeat
# every $p$ pixels. Its standard deviation is given in **gray levels**, the 255 steps from black to
# white that a screen can show. A board of two neighboring levels, the least that a screen can show,
# has half a level. The last column says which share of all variance in the pictures this pattern
# is.

# %%
untrained = pd.DataFrame(
    {
        kind: [
            *(np.median([measures.gray_levels(x, period) for x in pictures]) for period in PERIODS),
            np.median([measures.fixed_pattern(x, 2) for x in pictures]),
        ]
        for kind, pictures in drawn.items()
    },
    index=[*EVERY, "share, every 2 pixels"],
).T
untrained.map(two_digits)

# %% [markdown]
# These are medians over the 32 decoders. (A smooth ramp of brightness counts a little, too, so that
# no kind has zero.) An untrained DeConv decoder of any kernel draws next to nothing but its
# pattern, if only a few gray levels strong, since it hardly responds to its code yet.
#
# ## Look at what training leaves of it
#
# Now we take two published runs, which are typical of trained decoders, and average the
# **residual**, which is the picture less the truth, over a quarter of the images, drawn at random.
# (Every fourth image would be a regular grid of places, which has a spectrum of its own.) Errors
# that belong to a single image cancel in this mean, and what stays is the decoder's habit.

# %%
sprites = make_sprites()
runs = circles.pair()
quarter = np.random.default_rng(0).permutation(len(sprites.images))[::4]
some = sprites.images[quarter]
truth = some.numpy()
shown = {name: decode(run.vae, encode(run.vae, some)[0], clamp=False) for name, run in runs.items()}
residual = {name: pictures - truth for name, pictures in shown.items()}

# %%
habit = {name: 255 * pictures.mean(axis=(0, 1)) for name, pictures in residual.items()}
Picture(
    heat_maps(
        {
            "": {
                f"{NAMES[name]},\n{part}": habit[name][window]
                for name in habit
                for part, window in (
                    ("without border", np.s_[4:-4, 4:-4]),
                    ("its middle", np.s_[24:40, 24:40]),
                )
            }
        },
        "mean residual, gray levels",
    ),
    "habit",
    "The mean residual of both decoders: DeConv's is grainy and mostly of one sign; Spatial "
    "Broadcast's is fainter, with broad pale spots of both.",
)

# %% [markdown]
# DeConv's mean residual is grainy, mostly of one sign, with fine stripes but no clear checkerboard;
# that of the SB decoder is fainter and consists of broad pale spots. A spectrum tells whether
# anything in them is regular. A pattern that repeats every $p$ pixels makes sharp peaks in the
# spectrum, at multiples of $64 / p$ cycles per picture. Here are the spectra of both, from the
# slowest waves at the upper left to the finest grid that 64 pixels can hold at the lower right:

# %%
power = {name: measures.spectrum(255 * pictures) for name, pictures in residual.items()}
Picture(
    heat_maps(
        {
            "cycles down the picture": {
                NAMES[name]: measures.quadrant(np.where(spectrum > 0, spectrum, np.nan))
                for name, spectrum in power.items()
            }
        },
        "power, squared gray levels",
        range(0, 33, 8),
        "cycles across the picture",
        log=True,
    ),
    "spectrum",
    "Two spectra. DeConv's has bright points where both frequencies are multiples of 16, and "
    "weaker ones at other multiples of 8; Spatial Broadcast's has none there.",
)

# %% [markdown]
# DeConv's spectrum has bright points where both frequencies are multiples of 16, which belong to
# patterns of 4 and 2 pixels, and mostly weaker ones at other multiples of 8. Each doubling adds a
# period: the last layer one of 2 pixels, the one before it one of 4, and the one before that one of
# 8. (The bright upper left corner, in both spectra, comes from the broad spots.) The table has the
# strength of the patterns and the *height* of the peaks, which is their power over the median of
# the frequencies around them. A height of 1 means that there is no peak.

# %% tags=["nbval-check-output"]
rows = {}
for name, pictures in residual.items():
    rows["gray levels", NAMES[name]] = [measures.gray_levels(pictures, p) for p in PERIODS]
    rows["height", NAMES[name]] = [measures.peak_height(power[name], p) for p in PERIODS]
table = pd.DataFrame(rows, index=EVERY).T.sort_index()
table.map(two_digits)

# %% [markdown]
# So DeConv's pattern is *there*, far above what surrounds it in the spectrum, and the SB decoder
# has nothing like it. And DeConv's pattern is *faint*, a fraction of a gray level.
#
# ## Look where a mean cannot see
#
# A mean has a blind spot. If the pattern is light on dark in one picture and dark on light in the
# next, it cancels. So we also measure inside single pictures: we take all windows of 8×8 pixels in
# which the truth is one flat color, and measure in each the strength of the pattern that repeats
# every 2 pixels. The pictures are clamped to what a screen can show. Any unevenness makes a
# window's four kinds of pixels differ a little, so we need a control: the same windows with their
# pixels shuffled, all in the same order, which leaves the unevenness and destroys the pattern.

# %% tags=["nbval-check-output"]
order = np.random.default_rng(0).permutation(64)


def shuffled(pictures: np.ndarray) -> np.ndarray:
    """The pixels of each window of 8×8 in another order, the same for all windows."""
    count, channels, height, width = pictures.shape
    windows = pictures.reshape(count, channels, height // 8, 8, width // 8, 8).swapaxes(3, 4)
    mixed = windows.reshape(*windows.shape[:4], 64)[..., order].reshape(windows.shape)
    return mixed.swapaxes(3, 4).reshape(pictures.shape)


rows = {}
for name, pictures in shown.items():
    clamped = np.clip(pictures, 0, 1)
    for pixels, drawn in (("as drawn", clamped), ("shuffled", shuffled(clamped))):
        for part, values in measures.local_pattern(drawn, truth).items():
            rows[NAMES[name], part, pixels] = {
                "windows": len(values),
                "median, gray levels": f"{np.median(values):.2f}",
                "share of at least half a level": f"{np.mean(values >= 0.5):.0%}",
            }
pd.DataFrame(rows).T.sort_index(level=[0, 1], sort_remaining=False)

# %% [markdown]
# Inside the discs DeConv draws less evenly than the SB decoder, and about half of its windows reach
# half a gray level, the least that a screen can show. But with their pixels shuffled nearly as many
# do, so most of this is no pattern. In the background the pattern is twice as strong as its
# control, and faint.
#
# ## When does training remove it?
#
# We compare runs of 20 epochs with runs of 150, each from several seeds. For some of these runs
# only the pattern's share of the error was kept, so we compute the gray levels from it, to a few
# percent.

# %% tags=["nbval-check-output"]
population = pd.concat([tables.read("early", "quick"), tables.read("seeds", "blog")])
variance = (1 - population.explained) * sprites.images.numpy().var(axis=0).mean()
population["about"] = 255 * np.sqrt(population.pattern * variance)
population["share"] = 1e6 * population.pattern
spans = population.groupby(["decoder", "epochs"]).agg(
    runs=("seed", "size"),
    **{
        f"{name}, {end}": (column, end)
        for column, name in (("share", "millionths of the error"), ("about", "gray levels"))
        for end in ("min", "max")
    },
)
spans.map(two_digits).rename(index=NAMES)

# %% [markdown]
# An untrained DeConv decoder was at several gray levels. After 20 epochs a fraction of one is left,
# and the epochs up to 150 leave about as much. So training removes most of the pattern early,
# within the first epoch as you can see in exercise 3.
#
# ---
#
# **What you have seen**
#
# * With a stride of 2, a transposed convolution is four convolutions in turn. That makes a
#   checkerboard even where the kernel overlaps evenly.
# * Only training can make the four draw alike. Most of that happens in the first epoch, and a
#   difference is left after 150.
# * The trained DeConv decoder's pattern is easy to measure, next to absent from the SB decoder. It
#   is too faint for a screen, and inside the discs there is hardly more of it than chance would
#   make.
#
# **The claims.** The post says that transposed convolutions leave checkerboard artifacts, which we
# split in two. Is the pattern stronger than with an SB decoder of the same seed? And does what all
# pictures share of it, every 2 pixels, reach half a gray level, the least that a screen can show?
# (The gray levels themselves were measured in the later runs only, so there are fewer of them than
# in the table above.)

# %% tags=["nbval-check-output"]
seeds = tables.read("seeds", "blog")
Report(
    check(
        "checkerboard-more",
        intervals.mean(tables.difference(seeds, "gray_levels", "deconv", "sbd")),
    ),
    check(
        "checkerboard-visible",
        intervals.mean(seeds[seeds.decoder == "deconv"].gray_levels.dropna()),
    ),
)

# %% [markdown]
# **On your own** (solutions below)
#
# 1. Build a transposed convolution with a kernel of 4 and a stride of 2 from four ordinary
#    convolutions with kernels of 2.
# 2. Gray levels and spectrum measure the same thing. Compute the gray levels from the spectrum.
# 3. Train a DeConv decoder for half an epoch, and measure its pattern five times on the way.
#
# **Further reading.** [Odena and others 2016](https://doi.org/10.23915/distill.00003) show the
# artifact in generators where it was strong enough to be seen. Shi and others 2016, [arXiv
# 1609.07009](https://arxiv.org/abs/1609.07009), explain why a deconvolution is several convolutions
# in turn.
#
# **Next.** [The notebook on coordinates](08_coordconv.ipynb) turns to the post's second argument: a
# convolution does not know where it is.
#
# ## Solutions
#
# **1.** Each corner of a 2×2 block takes every second row and column of the kernel, flipped, since
# a transposed convolution applies its kernel mirrored. The output has a border of one pixel, which
# the padding of the full layer cuts off.

# %% tags=["solution", "hide-input", "nbval-check-output"]
torch.manual_seed(0)
layer, x = nn.ConvTranspose2d(64, 3, kernel_size=4, stride=2, padding=1), torch.randn(1, 64, 8, 8)
with torch.no_grad():
    woven = torch.zeros(1, 3, 18, 18)  # of 8×8 inputs, with a border of one pixel
    for row in (0, 1):
        for column in (0, 1):
            corner = layer.weight[:, :, row::2, column::2].flip(2, 3).transpose(0, 1)
            woven[:, :, row::2, column::2] = F.conv2d(x, corner, layer.bias, padding=1)
    print("equal within rounding:", torch.allclose(woven[:, :, 1:-1, 1:-1], layer(x), atol=1e-5))

# %% [markdown]
# **2.** A mean over phases keeps exactly those frequencies whose waves repeat every $p$ pixels.
# Their powers add up to the pattern's variance.

# %% tags=["solution", "hide-input", "nbval-check-output"]
for name, pictures in residual.items():
    for period in PERIODS:
        peaks = power[name][:: 64 // period, :: 64 // period]
        same = np.isclose(peaks.sum() ** 0.5, measures.gray_levels(pictures, period), rtol=1e-4)
        print(f"{NAMES[name]}, every {period} pixels, the same: {same}")

# %% [markdown]
# **3.** Five passes over a tenth of the images have as many steps as half an epoch over all of
# them. Already in this half the pattern falls from several gray levels to a fraction of one.

# %% tags=["solution", "hide-input"]
tenth, few, levels = sprites.images[::10], sprites.images[::40], []


def measure(vae: VAE) -> None:
    """Note the gray levels of the pattern."""
    wrong = decode(vae, encode(vae, few)[0], clamp=False) - few.numpy()
    levels.append([measures.gray_levels(wrong, period) for period in PERIODS])


torch.manual_seed(0)
measure(VAE("deconv"))
config = TrainConfig("deconv", epochs=5, precision="float32", compiled=False)
train(config, tenth, reporter=lambda run: measure(run.vae))
steps = np.arange(len(levels)) * -(-len(tenth) // config.batch_size)
pd.DataFrame(levels, index=pd.Index(steps, name="steps"), columns=EVERY).round(2)
