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
# **Takeaway.** The [blog post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder)
# gives two arguments for the Spatial Broadcast decoder (SB decoder) over the usual DeConv decoder:
# transposed convolutions leave checkerboards, and a convolution doesn't know where it is unless it
# is told coordinates. The two come apart. After a full training, how a decoder *starts* decides
# whether a grid of places has a straight grid of codes: in all runs but one if it broadcasts the
# code with coordinates, and in none if it starts from a linear layer, even with coordinates. How it
# *comes to full size* decides about the rest: transposed convolutions leave the checkerboard, and
# the sharpest pictures come from decoders that never upsample. And an SB decoder of 22 channels,
# with the multiply-adds of DeConv and a fortieth of its parameters, is straight all the same, and
# sharper in most runs.
#
# You will first see ten decoders after a full training, then many more after a short one, and at
# last how to compare two models along a curve instead of at a point. `make study` has trained all
# runs and left their scores in `results/`.
#
# ---

# %%
import inspect
from dataclasses import asdict, replace
from itertools import cycle

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from sbd_utils.claims import CLAIMS, Report, check, format_value
from sbd_utils.data.circles import COLORS
from sbd_utils.experiments import circles, tables
from sbd_utils.metrics import cost, intervals
from sbd_utils.models.decoders import DECODERS, DECONV, SBD, ComposedDecoder, DecoderConfig
from sbd_utils.plots import charts
from sbd_utils.plots.style import NAMES, Picture, colors_and_labels, new_figure
from sbd_utils.settings import TRAINING

# %% [markdown]
# ## The words and the runs
#
# Every image in our data shows one red, green or blue disc. A VAE (variational autoencoder) turns
# it into a *code* of five numbers, the *latents*, and draws the image again from its code. DeConv
# does so by doubling a small map with transposed convolutions, and the SB decoder by copying the
# code to every pixel, with the pixel's coordinates. The loss has two parts, both in *nats* (of 1.44
# bits each): the reconstruction term, by which we mean *sharp* where it is low, and the KL term,
# which is what the code costs.
#
# If you move the disc on a grid, its code moves, too. We watch it in the plane of the two latents
# that the encoder is most certain of. For one color we call this plane *straight* if the grid
# arrives turned, stretched or sheared, but neither bent nor *folded*. As in the notebook on
# [geometry](05_geometry.ipynb), this takes an R² of the best affine map (linear plus a shift) above
# the bound below, and none of the grid's 25 cells turned over. We call a run straight if all three
# colors are. The *R² of the sum* is that of a fit to all five latents at once: a linear function of
# the place plus a constant for the color. It is 1 if the planes of the colors are straight, and
# shifted copies of each other.


# %%
BOUND = CLAIMS["geometry-sbd"].bound
UPS = {"deconv": "transposed convolutions", "resize": "resizing", None: "no upsampling"}


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """Add what we need of each run to its scores."""
    r2, folded = (
        rows[[f"{score}_{color}" for color in COLORS]].to_numpy() for score in ("r2", "folded")
    )
    colors = (r2 > BOUND) & (folded == 0)  # [runs, 3]
    return rows.assign(
        start=[DECODERS[name].start for name in rows.decoder],
        up=[UPS[DECODERS[name].base_size and DECODERS[name].upsampling] for name in rows.decoder],
        bent=1 - r2.min(axis=1),
        folds=folded.max(axis=1),
        hollow=(folded > 0).any(axis=1),
        colors=colors.sum(axis=1),
        straight=colors.all(axis=1),
        unexplained=1 - rows.additive,
        millionths=1e6 * rows.pattern,
        learning_rate=[TRAINING[preset]["learning_rate"] for preset in rows.preset],
    ).reset_index(drop=True)


# %%
WORDS = {
    "seed": "runs",
    "straight": "straight runs",
    "colors": "straight colors",
    "mig": "MIG",
    "bent": "1 - affine R², worst color",
    "folds": "folded cells, worst color",
    "additive": "R² of the sum",
    "unexplained": "1 - R² of the sum",
    "right_blob": "drawn right",
    "reconstruction": "reconstruction, nats per image",
    "kl": "KL, nats per image",
    "error": "squared error per image",
    "explained": "explained share of the variance",
    "sharper": "sharper than every DeConv run",
    "work": "million multiply-adds",
    "millionths": "pattern, millionths",
    "learning_rate": "learning rate",
    "decoder": "decoders",
    **{f"r2_{color}": f"affine R², {color}" for color in COLORS},
}
LONG = prepare(pd.concat([tables.read(study, "blog") for study in ("seeds", "followup", "apart")]))
SHORT = prepare(tables.read("ablation", "ablation"))
MAPS = prepare(tables.read("followup", "ablation"))

# %% tags=["nbval-check-output"]
print("a color is straight above an affine R² of", BOUND)
pd.concat([LONG, SHORT, MAPS]).rename(columns=WORDS).groupby(["epochs", "learning rate"]).agg(
    {"runs": "size", "decoders": "nunique"}
)

# %% [markdown]
# There are two kinds of runs to keep apart. The long ones have the post's 150 epochs and its
# learning rate. The short ones have ten epochs at *twice* that rate, so that we could try many
# decoders. Ten epochs are enough to fold DeConv's plane and to straighten SB's, but not for sharp
# pictures.
#
# ## Compose a decoder from parts
#
# A decoder turns a code into a first map, brings the map to full size, and may be told coordinates
# on the way. A `DecoderConfig` holds these choices:

# %%
print(inspect.getdoc(DecoderConfig))

# %% [markdown]
# To test the post's arguments one at a time, we vary two choices. The *start* is a linear layer
# that fills the first map, or a broadcast of the code, with coordinates. The way to *full size* is
# by transposed convolutions, by resizing (nearest neighbors, then a convolution), or there is none,
# if the first map has full size already. The table shows DeConv's choices, and of nine others only
# where they differ from it. (A `base_size` of `None` means the image's own.)

# %% tags=["nbval-check-output"]
TEN = [
    "deconv",
    "deconv-kernel3",
    "deconv-kernel5",
    "resize",
    "resize-xy-every",
    "linear64-width22",
    "broadcast8-deconv",
    "broadcast8-resize",
    "sbd-width22",
    "sbd",
]
configs = pd.DataFrame({name: asdict(DECODERS[name]) for name in (*TEN, *circles.VARIANTS)}).T
differences = configs.mask(configs.eq(asdict(DECONV)), "")
differences.loc["deconv"] = configs.loc["deconv"]
differences.loc[TEN]

# %% [markdown]
# ## The two arguments come apart
#
# We look at these ten after the post's 150 epochs, sorted by both choices. *Pattern* is the share
# of the pictures' error that is one checkerboard of 2×2 pixels, the same in every picture, in
# millionths. The notebook on the [checkerboard](07_checkerboard.ipynb) finds it too faint to see,
# but it is a fingerprint of how a decoder upsamples. *Mixing* takes the latents that change
# anything when you sweep them, and tells which share of them changes position and color both.
# *MIG*, the mutual information gap, asks how much more the best latent knows about a factor than
# the second best. The last column counts the runs with a lower reconstruction term than every
# DeConv run.


# %% tags=["nbval-check-output"]
def span(values: pd.Series) -> str:
    """The lowest and the highest of some runs."""
    low, high = format_value(values.min()), format_value(values.max())
    return low if low == high else f"{low} to {high}"


LONG = LONG.sort_values("decoder", key=lambda names: names.map(TEN.index), kind="stable")
LONG["sharper"] = LONG.reconstruction < LONG[LONG.decoder == "deconv"].reconstruction.min()
LONG.groupby(["start", "up"], sort=False).agg(
    {
        "seed": "size",
        "millionths": span,
        "straight": "sum",
        "additive": span,
        "mixing": span,
        "mig": span,
        "sharper": "sum",
    }
).rename(columns=WORDS).rename_axis(["start", "to full size"])

# %% [markdown]
# In the figure, the dotted line is the bound for a straight plane.


# %% tags=["hide-input"]
def dissociation(rows: pd.DataFrame, bound: float):
    """How bent a plane is against the checkerboard that a decoder leaves, one dot per run."""
    starts = colors_and_labels(rows.start.unique())
    markers = dict(zip(rows.up.unique(), cycle("osDX"), strict=False))
    figure = new_figure(8, 4.4)
    axes = figure.subplots()
    for (start, up), runs in rows.groupby(["start", "up"], sort=False):
        color, marker = starts[start][0], markers[up]
        for folded, some in runs.groupby(runs.folds > 0):
            edge, face = (color, "white") if folded else ("white", color)
            over = 2 + 1 / len(runs)  # the few above the many, that none is hidden
            look = dict(ms=8, mew=0.8, color=color, mec=edge, mfc=face, zorder=over)
            axes.plot(some.pattern, some.bent, marker, **look)
    for color, label in starts.values():
        axes.plot([], [], "o", color=color, label=label)
    for up, marker in markers.items():
        axes.plot([], [], marker, color="black", label=up)
    axes.plot([], [], "o", color="black", mfc="white", label="hollow: with folded cells")
    axes.axhline(bound, color="black", lw=0.8, ls=":")
    axes.set(xscale="log", yscale="log", ylim=(5e-4, 3))
    axes.set_xlabel("checkerboard: share of the residual's variance")
    axes.set_ylabel("bent: 1 - affine R², worst color")
    axes.set_yticks((0.001, 0.01, 0.1, 1), ("0.001", "0.01", "0.1", "1"))
    for x, side, pattern in ((0.01, "left", "without"), (0.99, "right", "with")):
        for y, vertical, shape in ((0.02, "bottom", "straight"), (0.98, "top", "bent")):
            look = dict(ha=side, va=vertical, style="italic", transform=axes.transAxes)
            axes.text(x, y, f"{shape}, {pattern} pattern", **look)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


# %%
BENT = 1 - BOUND
Picture(
    dissociation(LONG, BENT),
    "dissociation",
    "One mark per run: how bent its plane is, against the checkerboard's share of its error. Runs "
    "that deconvolve lie to the right, with the pattern, the others far to the left. Runs with a "
    "linear start lie high up, bent; those that broadcast lie in a line at the bottom, straight, "
    "but for one that lies above the bound.",
)

# %% [markdown]
# The two choices have separate effects. The *start* decides whether the plane is straight. With a
# linear layer no run is, whether it deconvolves, resizes or has full size from the start.
# Coordinates alone, which the post's second argument asks for, don't help it, as `resize-xy-every`
# and `linear64-width22` show. With a broadcast and coordinates all runs are straight but one. The
# *way to full size* decides about the pattern. It is there wherever transposed convolutions are,
# with kernels of 3, 4 and 5 and also behind a broadcast, and dozens of times weaker elsewhere. It
# decides about sharpness, too: nearly all runs that are sharper than every DeConv run belong to
# decoders that never upsample. That holds for a linear start, too, in all runs of
# `linear64-width22`, whose codes are bent and mix.
#
# The lone blue mark above the line is a run of `broadcast8-deconv` with one color whose R² is too
# low. No cell of it is folded:

# %% tags=["nbval-check-output"]
shown = ["r2_red", "r2_green", "r2_blue", "folds", "additive", "right_blob"]
LONG[LONG.decoder == "broadcast8-deconv"].set_index(["decoder", "seed"])[shown].round(2).rename(
    columns=WORDS
)

# %% [markdown]
# So a broadcast doesn't guarantee a straight plane. The last column is the share of images drawn as
# one disc of the right color in the right place. In seed 2, `broadcast8-deconv` never learned to
# draw a third of them; we leave no run out. Nor is a straight code one without mixing: in some
# straight SB runs all latents mix, and their MIG is low, since [its axes are
# turned](10_axes.ipynb).
#
# ## A narrow SB decoder, with the multiply-adds of DeConv
#
# The post names a price of the SB decoder: it takes more memory and more time, although it has
# fewer parameters. Does it need its 64 channels? With 22 of them, `sbd-width22` has about DeConv's
# multiply-adds. We compare the three after 150 epochs:

# %% tags=["nbval-check-output"]
trained = (*TEN, *circles.VARIANTS, *circles.PLACES)
decoders = {name: ComposedDecoder(5, 64, DECODERS[name]) for name in trained}
COSTS = pd.DataFrame(
    {
        "parameters": {name: cost.count_parameters(d) for name, d in decoders.items()},
        "work": {
            name: round(cost.multiply_adds(d, torch.zeros(1, 5)) / 1e6, 1)
            for name, d in decoders.items()
        },
    }
)
scores = LONG.groupby("decoder").agg(
    {"seed": "size", "straight": "sum", "mixing": span, "reconstruction": span, "kl": span}
)
scores.join(COSTS).loc[["deconv", "sbd", "sbd-width22"]].rename(columns=WORDS)

# %% tags=["nbval-check-output"]
narrow, deconv = LONG[LONG.decoder == "sbd-width22"], LONG[LONG.decoder == "deconv"]
for what, holds in {
    "straight in every color": narrow.straight,
    "without a latent that mixes": narrow.mixing == 0,
    "sharper than the mean of DeConv's runs": narrow.reconstruction < deconv.reconstruction.mean(),
    "sharper than the best of DeConv's runs": narrow.reconstruction < deconv.reconstruction.min(),
}.items():
    print(f"{holds.sum()} of {len(holds)} runs of sbd-width22 are {what}")
ratio = COSTS.parameters["deconv"] / COSTS.parameters["sbd-width22"]
print(f"DeConv has {ratio:.0f} times its parameters")

# %% [markdown]
# At DeConv's multiply-adds and with a small part of its parameters, you get the straight plane in
# every run, and in most of them the separate latents and the sharper pictures. It is not as sure to
# be sharp as the full SB decoder, and its KL term can be higher than DeConv's. For images like
# ours, we would start with the narrow one and train a few seeds.
#
# ## What straightens the plane?
#
# The ten decoders leave open which part of the broadcast straightens the plane, and under which
# conditions. To find out we turn to the short runs, of eighteen decoders with three seeds each. We
# don't know what most of these would come to after more than ten epochs. Here is how the new ones
# differ from DeConv:

# %% tags=["nbval-check-output"]
differences.loc[[name for name in circles.VARIANTS if name not in TEN]]

# %%
SCAN = SHORT[(SHORT.decoder_variance == 0.3) & (SHORT.beta == 1)].reset_index(drop=True)
DECADES = (0.001, 0.01, 0.1, 1)
LOG = {"bent": DECADES, "unexplained": DECADES, "reconstruction": (30, 100)}
Picture(
    charts.dots(
        SCAN,
        "decoder",
        "start",
        {name: WORDS[name] for name in LOG},
        "with folded cells",
        LOG,
        BENT,
    ),
    "variants",
    "Three panels of dots, one line per decoder. Nearly all that broadcast the code and append "
    "coordinates have no folded cell and an affine R² close to 1, nearly all that begin with a "
    "linear layer are bent and folded; their reconstruction terms overlap.",
)

# %% [markdown]
# Left is better in each panel. The first one separates blue from orange, except for `sbd-no-xy` and
# a few stray dots, while the reconstruction on the right doesn't. (A color whose discs all share
# one code gets an R² of 0 and has nothing to fold.) In numbers:

# %% tags=["nbval-check-output"]
SCAN.groupby("decoder", sort=False).agg(
    {"straight": "sum", "additive": span, "reconstruction": span}
).join(COSTS.work).rename(columns=WORDS)

# %% [markdown]
# Cost doesn't explain the straight planes. What does is how a decoder starts and whether it is told
# coordinates, so we sort the runs by these two, and then list the exceptions:

# %% tags=["nbval-check-output"]
told = SCAN.decoder.map(lambda name: DECODERS[name].coordinates != "none").rename("coordinates")
SCAN.groupby(["start", told]).agg(
    {"seed": "size", "straight": "sum", "colors": "sum", "additive": span}
).rename(columns=WORDS)

# %% tags=["nbval-check-output"]
usual = (SCAN.start == "broadcast") & told
shown = ["bent", "folds", "colors", "additive"]
SCAN[SCAN.straight != usual].set_index(["decoder", "seed"])[shown].round(2).rename(columns=WORDS)

# %% [markdown]
# If you broadcast the code *and* append coordinates, the plane is straight in nearly every run,
# with 16 channels or 128, with padding or without, and with transposed convolutions behind it, too.
# The exceptions are `sbd-depth2`, which has two layers, and `sbd-kernel5`, and each of them fails
# in two of three seeds. With a linear start coordinates don't help, and the one straight run
# belongs to `resize-xy-every`, which is bent in all long runs. Without coordinates a broadcast
# fails as well. (The high R² of the sum of `sbd-no-xy` means little, since its code holds no
# places, as you will see below.)
#
# A straight plane for each color is not yet *one* plane for all colors. In one seed of
# `sbd-width22` every color is straight, and the R² of the sum is little more than a half. After 150
# epochs it is close to 1 in all runs of this decoder.
#
# ## How many places does a broadcast need?
#
# In these runs the linear layers filled maps of 2×2 places, and the broadcasts maps of 8×8 or more.
# For a fair comparison we give both starts the same first maps, with coordinates, and let
# transposed convolutions do the rest, fewer of them for a larger map. Two more broadcasts, named
# `no-xy`, go without coordinates. (`broadcast8-deconv` is in both studies, trained on different
# processors, so its runs differ.)

# %%
Picture(
    charts.dots(
        MAPS,
        "decoder",
        "start",
        {name: WORDS[name] for name in ("bent", "unexplained")},
        "with folded cells",
        LOG,
        BENT,
    ),
    "places",
    "Two panels of dots, one line for each of ten decoders. Those that begin with a linear layer "
    "are bent and folded, whatever the size of the first map. Of those that broadcast the code "
    "with coordinates, the one to 2×2 is as bent, those to 4×4 and 8×8 are straight, and the one "
    "to 16×16 is straight in some colors. In the sum, only the one to 8×8 is good in every seed.",
)

# %% tags=["nbval-check-output"]
sums = MAPS.pivot(index="decoder", columns="seed", values="additive").round(2)
MAPS.groupby("decoder", sort=False).agg({"straight": "sum", "colors": "sum"}).rename(
    columns=WORDS
).join(sums.add_prefix("R² of the sum, seed "))

# %% [markdown]
# A linear start gives no straight run at any of these sizes, nor does a broadcast without
# coordinates. A broadcast with coordinates gives a straight run in every seed at 4×4 and at 8×8,
# and in none at 2×2 and at 16×16. From 16×16 only two layers lead to the image, and two layers
# often failed at 64×64, too, so depth may be the reason. Only at 8×8 do all colors share one plane
# in every one of these seeds: in two seeds of `broadcast4-deconv` the R² of the sum is low,
# although every color is straight by itself.
#
# At 2×2 there is another reason, since a broadcast to 2×2 is a linear layer in disguise. All of its
# places are corners, so each output of the first transposed convolution sees a different
# combination of kernel taps. We can count how many of these combinations are independent:

# %% tags=["nbval-check-output"]
taps = torch.eye(16).view(1, 16, 4, 4)  # a channel for each tap of a kernel of 4×4
for side in (2, 4, 8):
    maps = functional.conv_transpose2d(torch.ones(1, 1, side, side), taps, stride=2, padding=1)
    rank = torch.linalg.matrix_rank(maps.flatten(2))  # of [1, tap, place]
    print(
        f"from {side}×{side} to {2 * side}×{2 * side}: {rank.item()} independent sums "
        f"at {4 * side**2} places"
    )

# %% [markdown]
# From 2×2, every place can weigh the code in its own way, which is exactly what a linear layer onto
# 4×4 places can do. From larger maps, most places have to share their weights.
#
# How do we explain all of this? A linear layer can write any picture anywhere, so the code may name
# places in whatever way the encoder finds convenient. A broadcast code is the same at every place,
# so the decoder has to compare it with the coordinates, and the easiest comparison for a network
# made of linear pieces is a linear one. Take this as our reading; what we measured are only the
# counts.
#
# ## What can zero padding tell?
#
# A decoder that broadcasts without coordinates gets the same numbers at every pixel. Its only hint
# of where to draw comes from the border, where zeros come in from outside. We draw with an
# untrained decoder and look how far in from the border anything differs:


# %% tags=["nbval-check-output"]
def reach(config: DecoderConfig) -> int:
    """How many pixels from the border inward differ from the middle of what a decoder draws."""
    torch.manual_seed(0)
    picture = ComposedDecoder(5, 64, config)(torch.randn(1, 5))[0]
    line = picture[:, :32, 32]  # from the upper border to the middle, [3, 32]
    return int(((line - line[:, -1:]).abs() > 1e-6).any(dim=0).nonzero().max()) + 1


print("sbd-no-xy tells apart a frame of", reach(DECODERS["sbd-no-xy"]), "pixels at the border")
SCAN[SCAN.decoder.isin(["sbd-no-xy", "sbd"])].groupby("decoder").agg(
    {"explained": span, "kl": span}
).rename(columns=WORDS)

# %% [markdown]
# The frame is one pixel wide per layer, since a kernel of 3 looks one pixel to each side. After
# training, its pictures explain next to nothing of what varies between the images, and its small KL
# term leaves no room for places.
#
# ## What makes the pictures sharp, and when?
#
# Straight planes come early and sharp pictures late. After ten epochs, and still after twenty at
# the post's learning rate, DeConv reconstructs better than SB. The table is about the long runs
# again, by decoder and processor, and counts those that are sharper than DeConv's best.

# %% tags=["nbval-check-output"]
for rows in (SCAN, tables.read("early", "quick"), tables.read("seeds", "blog")):
    gaps = tables.difference(rows, "reconstruction")
    print(
        f"after {rows.epochs.iloc[0]} epochs SB reconstructs better than DeConv in "
        f"{(gaps < 0).sum()} of {len(gaps)} seeds"
    )

# %% tags=["nbval-check-output"]
LONG.groupby(["decoder", "cpu"], sort=False).agg(
    {"seed": "size", "reconstruction": span, "sharper": "sum"}
).rename(columns=WORDS).rename_axis(["decoder", "processor"])

# %% [markdown]
# Of the decoders that upsample, only `deconv-kernel5` has such runs, and the worst run of the full
# SB decoder is sharper than its best. Every decoder that never upsamples has some, most of them
# only such, and so the start doesn't decide about sharpness. (Depth helps in the short runs above:
# four or five layers reconstruct better than three in every seed, and two layers far worse.)
#
# ## Along a curve
#
# A VAE trades reconstruction for the KL term, and the decoder's variance $\sigma^2$ and $\beta$ set
# where it stops. They are one knob, since only their product decides what the loss is like, up to a
# factor. Does SB reconstruct better at the *same* KL term, or has it only stopped elsewhere? We
# turn the knob and draw both terms:


# %% tags=["hide-input"]
def rate_distortion(rows: pd.DataFrame):
    """Squared error against KL term, one dot per run; a line joins the means over the seeds."""
    styles = colors_and_labels(sorted(rows.decoder.unique()))
    figure = new_figure(8, 4)
    axes = figure.subplots()
    markers = dict(zip(sorted(rows.epochs.unique()), cycle("o*sDX"), strict=False))
    for (epochs, decoder), runs in rows.groupby(["epochs", "decoder"]):
        (color, name), marker = styles[decoder], markers[epochs]
        for other, some in runs.groupby(runs.beta != 1):
            look = dict(ms=8 if marker == "*" else 5, mfc="white" if other else color)
            axes.plot(some.kl, some.error, marker, color=color, alpha=0.7, **look)
        line = runs.groupby("weight")[["kl", "error"]].mean()
        axes.plot(line.kl, line.error, color=color, lw=1)
        axes.plot([], [], marker, color=color, label=f"{name}, {epochs} epochs")
    axes.plot([], [], "o", color="black", mfc="white", label="hollow: β other than 1")
    post = rows[np.isclose(rows.weight, 0.3)].groupby("epochs")[["kl", "error"]].mean()
    if len(post) > 1:  # between the shorter trainings above and the longer ones below
        axes.text(
            post.kl.mean(),
            np.sqrt(post.error.min() * post.error.max()),
            "the post's setting",
            ha="center",
            va="center",
            style="italic",
        )
    axes.set(
        yscale="log",
        xlabel="rate: KL term, nats per image",
        ylabel="distortion: squared error per image",
    )
    axes.set_yticks((3, 10, 30, 100), ("3", "10", "30", "100"))
    axes.minorticks_off()
    axes.legend()
    return figure


# %%
TRADED = SHORT[SHORT.decoder.isin(["deconv", "sbd"])]
ENDS = LONG[LONG.decoder.isin(["deconv", "sbd"])]
Picture(
    rate_distortion(pd.concat([TRADED, ENDS])),
    "rate_distortion",
    "Squared error against KL term. After 10 epochs, as dots, the curves of both decoders lie "
    "close by each other and fall only slowly to the right of the post's setting, DeConv's with a "
    "bump. After 150 epochs, as stars, the runs of both lie far below, SB's below and mostly to "
    "the left of DeConv's.",
)

# %% tags=["nbval-check-output"]
means = TRADED.pivot_table(index="weight", columns="decoder", values=["kl", "error", "colors"])
means.round(1).rename(columns=WORDS | NAMES)

# %% [markdown]
# The table holds means over two or three seeds, and `weight` is $\sigma^2 \beta$. After ten epochs
# DeConv has the lower error at every weight. On the right the curves hardly fall though the KL term
# grows a lot, so we think that it is mostly training time that limits these runs. At the largest
# weight both decoders give up and draw one picture for all codes. Next to it half of SB's colors
# are straight, at all smaller weights all of them, and DeConv hardly has a straight color anywhere.
#
# We call a run *dominated* if some run of the other decoder, with as many epochs, has a lower
# squared error at a lower KL term. Leaving out the runs that gave up, we count:

# %% tags=["nbval-check-output"]
for rows in (TRADED[TRADED.kl > 1], ENDS):
    pairs = rows.reset_index().merge(rows, how="cross", suffixes=("", "_other"))
    worse = pairs.query("decoder != decoder_other and error > error_other and kl > kl_other")
    for decoder, count in rows.decoder.value_counts(sort=False).items():
        beaten = worse.loc[worse.decoder == decoder, "index"].nunique()
        print(
            f"after {rows.epochs.iloc[0]} epochs, {beaten} of {count} runs of {NAMES[decoder]} "
            f"are dominated"
        )

# %% [markdown]
# After ten epochs it is SB that is dominated more often, and after 150, at the one weight that we
# have, it is DeConv. So the answer depends on when you ask, and a straight plane alone doesn't
# bring a lower loss.
#
# ---
#
# **What you have seen**
#
# * In the long runs, a broadcast with coordinates straightens the plane, and no linear layer does.
# * Transposed convolutions leave the checkerboard, and decoders that never upsample become the
#   sharpest. So the post's two arguments come apart.
# * An SB decoder of 22 channels has the straight plane at DeConv's multiply-adds, and in most runs
#   the sharp pictures.
#
# The last point is a claim of our own, and we judge it like the post's, by intervals over the
# seeds. We compare with the DeConv runs of the same seeds and the same processor.

# %% tags=["nbval-check-output"]
Report(
    check(
        "narrow-sharper",
        intervals.mean(
            tables.difference(LONG[LONG.cpu.isin(narrow.cpu)], "reconstruction", "sbd-width22")
        ),
    ),
    check("narrow-straight", intervals.mean(narrow.r2)),
    check("narrow-unmixed", intervals.mean(narrow.mixing)),
)

# %% [markdown]
# **On your own** (solutions below)
#
# 1. How wide may an SB decoder with *four* layers be, if it is to stay at DeConv's multiply-adds?
# 2. How far does the zero padding reach in deeper decoders without coordinates?
# 3. Does the checkerboard fade as DeConv trains? Compare its pattern after 10, 20 and 150 epochs.
#
# **Further reading**
#
# * The SB decoder: Watters et al. 2019, [arXiv 1901.07017](https://arxiv.org/abs/1901.07017)
# * A broadcast to 8×8, in Slot Attention: Locatello et al. 2020, [arXiv
#   2006.15055](https://arxiv.org/abs/2006.15055)
# * VAEs along rate and distortion: Alemi et al. 2018, [arXiv
#   1711.00464](https://arxiv.org/abs/1711.00464)
#
# **Next.** [The notebook on axes](10_axes.ipynb) asks why a VAE picks the axes that it does.
#
# ## Solutions
#
# **1.** The multiply-adds of a decoder grow with its width, so we take the widest one that doesn't
# need more of them than DeConv:

# %% tags=["solution", "hide-input", "nbval-check-output"]
code = torch.zeros(1, 5)
work = {
    width: cost.multiply_adds(ComposedDecoder(5, 64, replace(SBD, depth=4, channels=width)), code)
    for width in range(12, 24)
}
max(width for width in work if work[width] <= cost.multiply_adds(ComposedDecoder(5), code))

# %% [markdown]
# **2.** Each layer adds one pixel to the reach of the padding, so it would take 32 layers to reach
# the middle of the picture:

# %% tags=["solution", "hide-input", "nbval-check-output"]
{depth: reach(replace(SBD, coordinates="none", depth=depth)) for depth in range(2, 7)}

# %% [markdown]
# **3.** The checkerboard doesn't fade away. After 150 epochs its median share of the error is
# higher, while the error has shrunk. (Ten epochs were at the higher learning rate.)

# %% tags=["solution", "hide-input", "nbval-check-output"]
curve = pd.concat([SCAN, prepare(tables.read("early", "quick")), LONG])
curve[curve.decoder == "deconv"].groupby("epochs")[["millionths", "error"]].agg(
    ["min", "median", "max"]
).round(1).rename(columns=WORDS)
