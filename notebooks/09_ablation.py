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
# # Take the Spatial Broadcast decoder apart
#
# Between the DeConv and the Spatial Broadcast (SB) decoder several things change at once: the code
# is copied to every place instead of being laid out by a linear layer, each place is told its
# coordinates, and nothing is upsampled any more. Which of them straightens the latent space, which
# sharpens the pictures, and what does it cost? The post trains only the two ends, and cannot say.
# Here we train what lies between.
#
# **What you'll do.** Compose decoders from a few parts, compare nineteen of them over three seeds,
# and trade reconstruction against the KL term.
#
# **What you'll learn.** How to take a model apart so that two variants differ in one argument, what
# a convolution can tell from its zero padding, and how to compare two models along a curve instead
# of at a point.
#
# **What you'll need.** Nothing from earlier notebooks. `make study NAME=ablation` trained the runs,
# each on a core of its own; what we read here is their scores, in `results/ablation.csv`.
#
# ---

# %%
import inspect
import statistics
from collections.abc import Iterable
from dataclasses import asdict

import torch
from IPython.display import Code, Markdown

from sbd_utils import charts, claims, cost, models, study, variants
from sbd_utils.figures import Picture
from sbd_utils.scores import COLORS
from sbd_utils.variants import DECONV, SBD, VARIANTS, ComposedDecoder

# %%
ROWS = study.read_scores("ablation", study="ablation")
RUNS = [row for row in ROWS if (row["decoder_variance"], row["beta"]) == (0.3, 1)]
LONG = study.read_scores("blog")  # of `make study NAME=seeds`: deconv and sbd, 150 epochs
hours = sum(row["seconds"] for row in ROWS) / 3600
print(f"{len(ROWS)} runs in {ROWS[0]['precision']}: {hours:.1f} hours on one {ROWS[0]['cpu']}")

# %% [markdown]
# ## A few parts
#
# A decoder turns a code into a first map, brings that to the size of the image, and may be told
# about coordinates on the way. A `Recipe` says how:

# %%
Code(inspect.getsource(variants.Recipe), language="python")

# %% [markdown]
# From a recipe, the layers follow:

# %%
Code(inspect.getsource(variants._parts), language="python")

# %% [markdown]
# Two recipes give the two decoders that we know, to the bit:

# %% tags=["nbval-check-output"]
code = torch.randn(4, 5)
for recipe, known in ((DECONV, models.DeConvDecoder), (SBD, models.SpatialBroadcastDecoder)):
    torch.manual_seed(0)
    composed = ComposedDecoder(5, 64, recipe)(code)
    torch.manual_seed(0)
    print(known.__name__, torch.equal(composed, known(5, 64)(code)))

# %% [markdown]
# The others differ from one of the two in what stands beside them:


# %%
def difference(name: str) -> str:
    base = SBD if name.startswith("sbd") else DECONV
    return ", ".join(f"{field}={value!r}" for field, value in asdict(VARIANTS[name]).items()
                     if value != getattr(base, field)) or "–"


Markdown("\n".join([
    "| decoder | differs from DeConv, or from SB if its name begins with sbd, in |", "|---|---|",
    *(f"| {name} | {difference(name)} |" for name in VARIANTS),
]))

# %% [markdown]
# ## Nineteen decoders
#
# Each had the same encoder, images and budget: 10 epochs at twice the usual learning rate, by when
# the geometry of the two known ones has settled. Each dot is a seed; blue are the decoders that
# broadcast the code, orange those that begin with a linear layer.

# %%
deconv_seconds = {row["seed"]: row["seconds"] for row in RUNS if row["decoder"] == "deconv"}
for row in RUNS:
    decoder = ComposedDecoder(5, 64, VARIANTS[row["decoder"]])
    row["parameters"] = cost.count_parameters(decoder)
    row["thousand"] = row["parameters"] / 1e3
    row["work"] = cost.multiply_adds(decoder, torch.zeros(1, 5)) / 1e6
    row["time"] = row["seconds"] / deconv_seconds[row["seed"]]
    row["bent"] = 1 - row["r2"]
Picture(
    charts.variants(RUNS, {
        "bent": "1 - affine R²", "folded": "folded cells\nof 25",
        "reconstruction": "reconstruction,\nnats", "kl": "KL, nats", "one_blob": "one-blob rate",
        "thousand": "thousand\nparameters", "work": "million\nmultiply-adds",
        "time": "time of a step,\nDeConv = 1",
    }, log={"bent": (0.01, 0.1, 1), "reconstruction": (30, 100, 300), "thousand": (10, 100, 1000),
            "work": (10, 100)}),
    "variants",
    "Eight panels of dots, a line a decoder. Nearly all that broadcast the code and append "
    "coordinates have no folded cell and an affine R² close to 1; nearly all that begin with a "
    "linear layer fold.",
)

# %% [markdown]
# The left two panels part blue from orange, except for `sbd-no-xy` and a few stray dots; none of
# the others does. Parameters, multiply-adds and time do not explain it: the straight decoders are
# among the cheapest and the dearest. As numbers (times are those of the same seed's DeConv, two
# trainings side by side):

# %%
COLUMNS = {
    "r2": "affine R²", "folded": "folded cells of 25", "reconstruction": "reconstruction, nats",
    "kl": "KL, nats", "one_blob": "one-blob rate", "parameters": "parameters",
    "work": "million multiply-adds", "time": "time of a step, DeConv = 1",
}


def spread(name: str, column: str) -> str:
    values = [row[column] for row in RUNS if row["decoder"] == name]
    mean, low, high = map(
        claims.format_value, (statistics.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def table(names: Iterable[str]) -> Markdown:
    return Markdown("\n".join([
        "| mean (lowest to highest seed) | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
        *(f"| {name} | " + " | ".join(spread(name, column) for column in COLUMNS) + " |"
          for name in names),
    ]))


table(VARIANTS)

# %% [markdown]
# ## What straightens the plane?
#
# Call a run straight if it passes the test that [notebook 05](05_geometry.ipynb) puts to the SB
# decoder: in none of the three colors a folded cell, in each an affine R² above the bound of the
# claim `geometry-sbd`. Sort the runs by how their decoders start and whether they are told
# coordinates:


# %% tags=["nbval-check-output"]
def is_straight(row: dict) -> bool:
    worst = {"R²": min(row[f"r2_{color}"] for color in COLORS),
             "folded": max(row[f"folded_{color}"] for color in COLORS)}
    return claims.check("geometry-sbd", **worst).verdict == "reproduced"


groups = {}
for row in RUNS:
    recipe = VARIANTS[row["decoder"]]
    told = "no coordinates" if recipe.coordinates == "none" else "coordinates"
    groups.setdefault(f"{recipe.start} start, {told}", []).append(row)
for group, rows in groups.items():
    print(f"{group}: {sum(map(is_straight, rows))} of {len(rows)} runs straight")

# %% [markdown]
# The exceptions on either side:

# %% tags=["nbval-check-output"]
for group, rows in groups.items():
    usual = group == "broadcast start, coordinates"
    for row in rows:
        if is_straight(row) != usual:
            print(f"{row['decoder']:>15}, seed {row['seed']:.0f}: "
                  f"{'not straight' if usual else 'straight'}, "
                  f"one blob in {row['one_blob']:.0%} of its pictures")

# %% [markdown]
# Broadcast the code *and* append coordinates, and the plane is straight: at any width, with four or
# five layers, padded or not, with nothing upsampled or with three transposed convolutions behind
# it. The four runs that are not have yet to learn to draw a disc for every code (two layers are few
# for that, and a kernel of 5 takes longer), and a disc that is not drawn has no place. What starts
# with a linear layer is not straight, and neither coordinates at the first map nor resizing instead
# of deconvolving mends it. Both together, with coordinates at *every* map, come closest: straight
# in one seed of three, well short of it in the others.
#
# So it is not doing without deconvolution, and not the coordinates alone. The code must not say
# *where*. A linear layer writes the code onto its first map place by place; it can lay out any
# picture, in any way that the encoder finds convenient, and may ignore two more channels that count
# pixels. A broadcast code is the same at every place. Where something is to be drawn can only come
# from comparing the code with the coordinates, and for a network of pieces that are each linear the
# easiest comparison is a linear one. That is our reading; what was measured is the count.
#
# ## What zero padding tells
#
# A decoder that broadcasts and has no coordinates should be lost, since every pixel gets the same
# numbers. It is, but for the border: there, zeros come in from outside. How far does that reach?


# %% tags=["nbval-check-output"]
def reach(name: str) -> int:
    """How many pixels from the border inward differ from the middle of what a decoder draws."""
    torch.manual_seed(0)
    picture = ComposedDecoder(5, 64, VARIANTS[name])(torch.randn(1, 5))[0]
    line = picture[:, :32, 32]  # from the upper border to the middle, [3, 32]
    return int(((line - line[:, -1:]).abs() > 1e-6).any(dim=0).nonzero().max()) + 1


print("sbd-no-xy tells apart", reach("sbd-no-xy"), "pixels along the border")

# %% [markdown]
# Three: one for each layer, as a kernel of 3 looks one pixel to each side. Further inside, all
# pixels are the same, whatever the code. So the decoder can choose one color for the whole picture
# and another frame for it, and that is all. Of what varies from image to image it explains

# %%
for name in ("sbd-no-xy", "sbd"):
    print(f"{name}: {spread(name, 'explained')} of the variance, at a KL term of "
          f"{spread(name, 'kl')} nats")

# %% [markdown]
# next to nothing. With 32 layers the border's zeros would reach the middle, and the network could
# count its way in from there; three need to be told.
#
# ## What sharpens the pictures?
#
# Not broadcasting, and not coordinates, in ten epochs. Depth does: with four or five convolutions
# the SB decoder's reconstruction term is lower than with three in every seed, and with two it is
# several times as high. Width does a little, up to 64 channels. The other differences are hardly
# larger than those between the seeds of one decoder, and the outliers are mostly runs that do not
# draw one of the three colors yet. DeConv, the quickest learner, is ahead of SB in each seed:

# %%
reconstruction = {(row["epochs"], row["decoder"], row["seed"]): row["reconstruction"]
                  for row in RUNS + LONG}
for epochs in (10, 150):
    seeds = [seed for e, name, seed in reconstruction if (e, name) == (epochs, "deconv")]
    sharper = [seed for seed in seeds
               if reconstruction[epochs, "sbd", seed] < reconstruction[epochs, "deconv", seed]]
    print(f"after {epochs} epochs SB is sharper in {len(sharper)} of {len(seeds)} seeds")

# %% [markdown]
# So SB's sharper pictures, at the end of the post's 150 epochs, are not there from the start: they
# are what three convolutions at full resolution come to, given time. Which part of the recipe that
# takes, ten epochs cannot tell.
#
# ## The same money
#
# The two decoders differ in what they cost, too: SB has a sixth of DeConv's parameters and several
# times its multiply-adds. So here they are with SB's parameters, with its multiply-adds, and with
# DeConv's multiply-adds:


# %%
table(("sbd", "deconv-width25", "deconv-width174", "deconv", "sbd-width22"))

# %% [markdown]
# Whatever is matched, SB is straight and DeConv is not, and DeConv is no less sharp after ten
# epochs. Nor is straightness dear: 22 channels draw straight with a fortieth of DeConv's parameters
# and about its time, and `broadcast8-deconv`, the kind that slot attention uses (Locatello et al.
# 2020), costs less than DeConv in every column. It is a slow learner, though, and one of its seeds
# is far behind.
#
# ## Along a curve
#
# A VAE trades reconstruction for the KL term, and where it stops is set by the decoder's variance
# $\sigma^2$ and by $\beta$. Multiply the loss $\|x - \hat x\|^2 / 2\sigma^2 + \beta \cdot KL$ by $2
# \sigma^2$, and only the product $2 \sigma^2 \beta$ is left: they are one knob. Does the SB decoder
# reconstruct better at the *same* KL term, or has it only stopped elsewhere?

# %%
TRADED = [row for row in ROWS if row["decoder"] in ("deconv", "sbd")]
for row in TRADED + LONG:
    row["error"] = 2 * row["decoder_variance"] * row["reconstruction"]
Picture(
    charts.rate_distortion(TRADED + LONG),
    "rate_distortion",
    "Squared error against KL term. After 10 epochs the curves of both decoders lie close by each "
    "other. After 150 epochs SB's stars lie below and to the left of DeConv's.",
)

# %% [markdown]
# From right to left the KL term weighs more; full dots have another variance, hollow ones another
# $\beta$ (two seeds each), and they do lie along one curve. At its end, for $\beta = 16$, both
# decoders give up: a KL term of 0, one picture for all codes. A run is *dominated* if the other
# decoder reached a lower squared error at a lower KL term, in any of its runs of the same seed and
# number of epochs. Without those that gave up:


# %%
def dominated(rows: list[dict], decoder: str) -> str:
    rows = [row for row in rows if row["kl"] > 1]
    ours = [row for row in rows if row["decoder"] == decoder]
    beaten = [any(other["decoder"] != decoder and other["seed"] == row["seed"]
                  and other["error"] < row["error"] and other["kl"] < row["kl"] for other in rows)
              for row in ours]
    return f"{sum(beaten)} of {len(beaten)}"


Markdown("\n".join([
    "| dominated runs | DeConv | SB |", "|---" * 3 + "|",
    *(f"| {rows[0]['epochs']:.0f} epochs | {dominated(rows, 'deconv')} | {dominated(rows, 'sbd')} |"
      for rows in (TRADED, LONG)),
]))

# %% [markdown]
# After ten epochs SB does not dominate; if anything DeConv does. At most weights of the KL term SB
# stops at a lower KL term and a larger error, further along much the same curve. After 150 epochs,
# at the one weight that we have, it is better in both terms in every seed. So the answer depends on
# when you ask; and the straight plane, which is there all along, is not what makes the loss lower.
#
# ---
#
# In this notebook we have taken the SB decoder apart. In a sentence: broadcasting the code *and*
# telling each place its coordinates buys the affine geometry, neither does alone, and the layers
# behind hardly matter; depth and patience buy the sharp reconstruction; and what the SB decoder
# costs, several times DeConv's multiply-adds and half as much time again, is not the price of the
# geometry, which a broadcast to 8×8 pixels buys for less than DeConv.
#
# **On your own.** Broadcast to 16×16 and deconvolve twice; is it sharper, and still straight? Write
# the `Recipe` into `variants.py` and a line into `STUDIES`, then `make study`.
#
# **In practice.** Change one thing at a time, train several seeds of each, and look at the runs
# that fall out of line before you average over them. And compare models that trade two goals along
# a curve, at more than one budget.
#
# **Further reading.** [Locatello et al. 2020](https://arxiv.org/abs/2006.15055) broadcast to 8×8;
# [Alemi et al. 2018](https://arxiv.org/abs/1711.00464) on rate and distortion in VAEs.
