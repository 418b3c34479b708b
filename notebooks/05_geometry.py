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
# # Draw the latent space and measure its distortion
#
# **Takeaway.** Move the disc on a grid, and with the Spatial Broadcast decoder (short *SB decoder*)
# its code moves on a straight grid, too. With the DeConv decoder the same grid comes out bent and
# folded. This difference shows in every run, and after 20 epochs already.
#
# A VAE (variational autoencoder) turns a picture into a few numbers, here five, and draws the
# picture from them. The numbers are its **latents**, and together they are the picture's **code**.
# [Traversals](04_traversals.ipynb) change one latent at a time and look at the picture. Here we go
# the other way: we encode a disc at many places and look at where the codes lie.
#
# We follow a [blog post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) by
# Markus Borea, *the post* from here on, and compare two decoders. **DeConv** doubles a small map
# step by step by transposed convolutions. The **Spatial Broadcast decoder** (SB decoder) copies the
# code to every pixel, appends the pixel's coordinates, and convolves. We load published runs, of
# each decoder one whose scores are typical of all its runs.
#
# ---

# %%
from io import BytesIO
from itertools import combinations

import numpy as np
import pandas as pd
from PIL import Image

from sbd_utils import claims
from sbd_utils.data.circles import COLORS, make_sprites
from sbd_utils.experiments import circles, tables
from sbd_utils.metrics import intervals
from sbd_utils.metrics.codes import decode, encode
from sbd_utils.metrics.geometry import (
    additive_model_r2,
    affine_fit,
    compare,
    draw_lattice,
    encode_lattice,
    informative_latents,
    knn_probe_r2,
    lattice_places,
    principal_plane,
)
from sbd_utils.metrics.information import mig
from sbd_utils.metrics.pictures import find_blobs
from sbd_utils.plots.charts import seed_spread
from sbd_utils.plots.geometry import draw_lattice_lines, geometry, geometry_epochs
from sbd_utils.plots.style import NAMES, Movie, Picture, colors_and_labels, new_figure
from sbd_utils.training.records import load_run

# %%
sprites = make_sprites()
places = np.column_stack([sprites.factors["x"], sprites.factors["y"]])  # [N, 2]
vaes = {name: run.vae for name, run in circles.pair().items()}
codes = {name: encode(vae, sprites.images) for name, vae in vaes.items()}  # mu, log_var

# %% [markdown]
# ## Which two latents?
#
# A code has five latents and paper has two dimensions, so we have to choose. The post takes the two
# latents with the smallest variance. Here is why. The encoder gives each latent a **posterior**, a
# bell curve with a mean and a variance, and the decoder receives a random draw from it. If the
# picture depends on the latent, a wide bell curve means wrong pictures, so the encoder makes it
# narrow. This has a price: the **KL term** of the loss counts how far the posterior is from the
# prior, a bell curve with mean 0 and variance 1. Halving the standard deviation once more costs
# $\ln 2 = 0.7$ **nats** (a nat is 1.44 bits), and it pays only in a latent that the decoder uses.
# So a small variance should mark a latent that matters.
#
# To test this, we swap in one latent from another picture, in each of 60 codes. The last column is
# the squared error of the pictures.

# %% tags=["nbval-check-output"]
few = np.arange(0, len(sprites.images), 62)
rows = []
for name, (mu, log_var) in codes.items():
    swapped = np.repeat(mu[few, None], 5, axis=1)  # [60, 5 codes, 5 latents]
    for k in range(5):
        swapped[:, k, k] = np.roll(mu[few, k], 17)
    error = np.square(decode(vaes[name], swapped) - sprites.images[few, None].numpy())
    error = error.sum(axis=(2, 3, 4), dtype=float).mean(axis=0)  # [5]
    kl = (mu**2 + np.exp(log_var) - 1 - log_var).mean(axis=0) / 2
    rows += [(NAMES[name], k + 1, log_var[:, k].mean(), kl[k], error[k]) for k in range(5)]
columns = ["decoder", "latent", "mean log-variance", "KL term, nats", "squared error if replaced"]
pd.DataFrame(rows, columns=columns).set_index(columns[:2]).round(1)

# %%
chosen = {name: informative_latents(log_var)[:2] for name, (_, log_var) in codes.items()}

# %% [markdown]
# Replacing a latent whose log-variance is near 0 does hardly any harm, and replacing any of the
# others spoils the pictures. We draw the two most precise latents, as the post does, and other
# pairs afterwards.
#
# ## The picture
#
# We draw a red disc at 31 by 31 places, with $x$ and $y$ from 0.2 to 0.8. Each drawing is encoded,
# and its posterior mean becomes a point in the plane of the two latents. The figure shows six of
# the 31 lines in each direction, darker the larger $x$ or $y$ is, which cut the grid into 25 cells.

# %%
truth = lattice_places()  # [31, 31, 2]
encoded = {
    (name, color): encode_lattice(vae, sprites, color)  # [31, 31, 5]
    for name, vae in vaes.items()
    for color in COLORS
}
planes = {NAMES[name]: encoded[name, "red"][..., pair] for name, pair in chosen.items()}
labels = {NAMES[name]: tuple(f"latent {k + 1}" for k in pair) for name, pair in chosen.items()}
Picture(
    geometry({"ground truth": truth} | planes, {"ground truth": ("x", "y")} | labels),
    "latent_space_geometry",
    "Three panels: a square grid of places; its codes under the DeConv VAE, a bent and folded net; "
    "its codes under the Spatial Broadcast VAE, a grid of straight lines.",
    chart=True,
)

# %% [markdown]
# The left panel shows the truth. In the middle, the net of the DeConv code is bent and folded over
# itself, so that one point of this plane stands for several places. On the right, the SB code is a
# net of straight and evenly spaced lines. It may be turned, mirrored or leaning to one side, since
# nobody told the model which latent should be $x$. Its little jags come from the drawings, where
# discs move [in whole pixels](01_data.ipynb).
#
# ## The picture in numbers
#
# "A straight grid" has an exact name. A map is **affine** if it is linear plus a shift,
#
# $$ z = A\,(x, y)^\top + b, $$
#
# with a matrix $A$ and a vector $b$. It takes straight and evenly spaced lines to such lines. We
# fit the best one by least squares, for each color separately, and read off four numbers:
#
# * The *affine R²* is the share of the code's variance that the map explains, at most 1.
# * The *singular-value ratio* of $A$ is its shortest stretch over its longest; it is 1 where all
#   directions are stretched alike.
# * The *angle* between the columns of $A$ shows the shear, and 90 degrees means none.
# * One of the 25 cells is **folded**, or turned over, if its corners run clockwise where those of
#   most cells run counterclockwise. By this rule, at most 12 cells can be folded.
#
# What R² should we expect? A code that follows the drawn disc exactly makes the same whole-pixel
# steps as the disc. So we also fit the affine map from $(x, y)$ to the centroids of the 961
# drawings.

# %% tags=["nbval-check-output"]
drawn = find_blobs(draw_lattice(sprites, "red").numpy()).centroid.reshape(truth.shape)
rows = {("the drawings", "red"): compare(drawn, truth)}
for (name, color), lattice in encoded.items():
    rows[NAMES[name], color] = compare(lattice[..., chosen[name]], truth)
numbers = pd.DataFrame(
    [(g.fit.r2, g.fit.singular_ratio, g.fit.angle, g.folded) for g in rows.values()],
    index=pd.MultiIndex.from_tuples(rows, names=["decoder", "color"]),
    columns=["affine R²", "singular-value ratio", "angle", "folded cells of 25"],
)
numbers.round({"affine R²": 4, "singular-value ratio": 2, "angle": 0})

# %% [markdown]
# The drawings themselves reach the R² of the first row, a little below 1, and in all three colors
# the SB code comes close to it: its plane is as straight as the pictures are. The DeConv code stays
# far below and has many folded cells.
#
# ## What is folded, and what is not
#
# Do not conclude that the DeConv VAE confuses places. It draws nearly every disc [where it
# belongs](04_traversals.ipynb), so its whole code must tell all places apart. What we see is like
# the shadow of a curved sheet of paper, which can overlap itself although the sheet does not. The
# next figure shows the shadow of the same code on every pair of its latents, all of which are
# precise: their standard deviation is less than half the prior's. The first pair is the one from
# above.

# %%
mu, log_var = codes["deconv"]
precise = [k for k in informative_latents(log_var) if log_var[:, k].mean() < 2 * np.log(0.5)]
shadows, names = {}, {}
for pair in combinations(precise, 2):
    plane = encoded["deconv", "red"][..., pair]
    title = f"{pair[0] + 1} and {pair[1] + 1}: {compare(plane, truth).folded} folded"
    shadows[title], names[title] = plane, tuple(f"latent {k + 1}" for k in pair)
Picture(
    geometry(shadows, names),
    "deconv_pairs",
    "The same grid of places in each pair of the precise latents of the DeConv VAE: curved nets, "
    "folded over themselves, each in its own way.",
    chart=True,
)

# %% [markdown]
# Each panel shows the same sheet from another side. How much of the place can you read from all
# five latents, and how much from the two? We guess the place of each image as the mean place of the
# five other images with the nearest codes, and call the R² of these guesses the *readout*. The
# *affine readout* is the R² of the best affine map from codes to places. In the last row the DeConv
# codes are shuffled among the images, so that they say nothing.

# %% tags=["nbval-check-output"]
rows = {}
shuffled = np.random.default_rng(0).permutation(codes["deconv"][0])
for name, mu, pair in (
    *((NAMES[name], codes[name][0], chosen[name]) for name in vaes),
    ("DeConv, shuffled", shuffled, chosen["deconv"]),
):
    rows[name] = {
        "readout, all five latents": knn_probe_r2(mu, places),
        "readout, the two chosen": knn_probe_r2(mu[:, pair], places),
        "affine readout, the two chosen": affine_fit(mu[:, pair], places).r2,
    }
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# From all five latents you can read the place almost perfectly in both models, so the whole DeConv
# code is curved but not folded. From the two chosen DeConv latents, most of it is lost. The post
# expects the two most precise latents to hold $x$ and $y$. With the SB decoder they do, and with
# DeConv they do not. (Where codes say nothing, five random places guess worse than the mean of all
# places, so that the last row's readout is negative.)
#
# ## Position plus color
#
# In a code that keeps position and color apart, a move to the right has the same effect on the code
# whatever the color is. Then the code is a *sum* of a part for the place and a part for the color
# $c$. If the place part is affine, too, it is
#
# $$ \mu(x, y, c) = A\,(x, y)^\top + b_c, $$
#
# with one matrix $A$ for all colors, over all five latents. The **R² of the sum** is the share of
# the variance of all 3675 codes that the best such sum explains. It falls where color and place are
# not apart, and also where the plane is bent, and it needs no choice of two latents.
#
# Beside it stands the field's usual score, the mutual information gap (MIG, Chen et al. 2018): how
# much more does the best *single* latent know of a factor than the second best? With its 20 bins
# for 35 positions, even the true factors do not reach 1.

# %% tags=["nbval-check-output"]
labels = np.unique(sprites.factors["color"], return_inverse=True)[1]
candidates = {
    "the true factors": np.column_stack([places, labels]),
    **{NAMES[name]: mu for name, (mu, _) in codes.items()},
}
pd.DataFrame(
    {
        name: {
            "R² of the sum": additive_model_r2(code, places, labels),
            "MIG": mig(code, sprites.factors),
        }
        for name, code in candidates.items()
    }
).T.round(3)

# %% [markdown]
# The SB code is almost exactly a sum, and the DeConv code is far from one. MIG also takes points
# off a clean code whose directions do not coincide with the latents, which is the subject of [a
# notebook of its own](10_axes.ipynb).
#
# ## How the geometry comes about
#
# The published runs kept the codes of the red discs after every epoch, on a grid of 11 by 11
# places. To favor no pair of latents we draw the **principal plane** this time, the two directions
# along which the codes vary most, turned and mirrored until $x$ points right and $y$ down.

# %%
small = lattice_places(np.linspace(0.2, 0.8, 11))  # [11, 11, 2]
planes = {
    name: [principal_plane(codes, small) for codes in load_run(name).history.codes.double().numpy()]
    for name in vaes
}
last = len(planes["sbd"])
panels, captions = {}, {}
for name in vaes:
    panels[name], captions[name] = {}, {}
    for epoch in (1, 3, 5, 15, 50, last):
        g, title = compare(planes[name][epoch - 1], small), f"epoch {epoch}"
        panels[name][title] = g.points
        captions[name][title] = f"R² {g.fit.r2:.3f}\n{g.folded} of 25 folded"
Picture(
    geometry_epochs(panels, captions),
    "geometry_epochs",
    "Two rows of six grids, from epoch 1 to the last. The DeConv grid bulges at first, then "
    "bends and folds at its edges; the Spatial Broadcast grid is straight by epoch 3 and stays.",
    chart=True,
)

# %% [markdown]
# In this run the DeConv grid is straightest after the first epoch. Then it bends, and its edges
# curl up and fold over. The SB grid straightens within five epochs and stays straight. From this
# side the DeConv grid looks straighter than in its two most precise latents, but it still bends and
# folds, so it is not only the pair that we picked. Here you can watch it, an epoch at a time at
# first and in longer steps later:


# %% tags=["hide-input"]
def geometry_movie(truth: np.ndarray, planes: dict, epochs: list[int], name: str, alt: str):
    """The true lattice beside where decoders encode it, one frame per epoch."""
    figure = new_figure(8, 3.0)
    panels = figure.subplots(1, len(planes) + 1)
    styles, frames = colors_and_labels(planes), []
    for i, epoch in enumerate(epochs):
        for axes in panels:
            axes.clear()
            axes.set(xticks=[], yticks=[])
        draw_lattice_lines(panels[0], truth)
        panels[0].set_title("true places")
        for axes, (decoder, (color, label)) in zip(panels[1:], styles.items(), strict=True):
            draw_lattice_lines(axes, planes[decoder][i])
            axes.set_title(label, color=color)
            axes.set_xlabel(f"code after epoch {epoch}")
        for axes in panels:
            axes.invert_yaxis()  # y grows downward, as in the pictures
        file = BytesIO()
        figure.savefig(file, format="png", dpi=125)  # small enough for a page to load at once
        # The palette takes the mean of colors that are alike, and white must stay white.
        frames.append(Image.open(file).convert("RGB").point(lambda v: 255 if v > 247 else v))
    # A fifth of the bytes; by coverage, else rare colors go, such as those of the titles.
    palette = frames[-1].quantize(64, Image.Quantize.MAXCOVERAGE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = BytesIO()
    frames[0].save(
        file,
        format="webp",
        save_all=True,
        append_images=frames[1:],
        loop=0,
        duration=[250] * (len(frames) - 1) + [3000],
        lossless=True,
    )
    return Movie(file.getvalue(), name, alt, width=800)


# %%
steps = [*range(1, 16), 20, 25, 30, 40, 50, 75, 100, 125, last]
geometry_movie(
    small,
    {name: [found[epoch - 1] for epoch in steps] for name, found in planes.items()},
    steps,
    "geometry_training",
    "Three grids while training goes on: the true places; their code under "
    "DeConv, which bulges, bends and folds at its edge; their code under Spatial Broadcast, which "
    "is straight after a few epochs and stays straight.",
)

# %% [markdown]
# ## Many seeds
#
# Two single runs may differ by luck alone, so we have trained several seeds of each decoder. Each
# dot is one model after 150 epochs. The affine R² and the folded cells are means over the three
# colors' planes, and the readout was measured in only some of the runs. Beside the dots, a circle
# marks the mean over the seeds, a thick bar its 95% interval and a thin line the range of the dots.
# Dotted lines are thresholds of claims below, and the dashed line marks the most cells that can be
# folded.

# %%
every = tables.pair()
panels = {
    "additive": "R² of the sum",
    "r2": "affine R²",
    "folded": "folded cells of 25",
    "readout": "readout R²",
}
Picture(
    seed_spread(every, panels, {"r2": 0.97, "readout": 0.7}, {"folded": 25 // 2}),
    "seeds_geometry",
    "Four panels with one dot per run, and fewer dots in the last. In all of them the two "
    "decoders lie apart. Several DeConv runs have as many folded cells as can be, or nearly so.",
)

# %% tags=["nbval-check-output"]
ranges = every.groupby("decoder")[list(panels)].agg(["min", "mean", "max"]).round(3)
ranges.rename(index=NAMES).rename(columns=panels, level=0)

# %% [markdown]
# In all four scores the ranges do not touch: the worst SB run is better than the best DeConv run.
# We need not wait 150 epochs to see it. Here is the affine R² after 20.

# %% tags=["nbval-check-output"]
early = tables.read("early", "quick")
early.groupby("decoder")["r2"].agg(["count", "min", "max"]).round(3).rename(index=NAMES)

# %% [markdown]
# In all of these SB runs the plane is straight already, while [the losses](03_training.ipynb) still
# fall.
#
# ## The claims
#
# We judge the post's claims on the mean over the seeds, and those on the readout over the runs that
# have it. One counts as reproduced if the whole 95% interval lies on the claimed side.

# %% tags=["nbval-check-output"]
ROWS = {"geometry": "r2", "folds": "folded", "informative": "readout"}
by_seed = every.groupby(["decoder", "seed"])[list(ROWS.values())].mean()
claims.Report(
    *(
        claims.check(f"{claim}-{name}", intervals.mean(by_seed.loc[name, score].dropna()))
        for claim, score in ROWS.items()
        for name in vaes
    )
)

# %% [markdown]
# ---
#
# **What you have seen**
#
# * With the SB decoder the code is a sum: place enters as an affine map, color as a shift.
# * The DeConv code is a curved sheet; seen on two of its latents it is folded.
# * The difference shows in every run, and after 20 epochs already.
#
# **On your own** (solutions below)
#
# 1. Draw the discs twice as large in pictures of twice the size. How straight could a code be then?
# 2. Is there any pair of latents from which a readout recovers the place in the DeConv code?
# 3. Subtract the codes of the red discs from those of the blue ones, place by place. How much does
#    the difference depend on the place?
#
# **Further reading.** Watters et al. 2019, [arXiv 1901.07017](https://arxiv.org/abs/1901.07017),
# recommend to look at the geometry of the latent space; Chen et al. 2018, [arXiv
# 1802.04942](https://arxiv.org/abs/1802.04942), define MIG.
#
# **Next.** The straight plane has its price in time and memory, which we measure in [the notebook
# on cost](06_cost.ipynb). If you want to know why a VAE picks the latents that it does, go to [Turn
# the axes](10_axes.ipynb).
#
# ## Solutions
#
# **1.** We fit the map to the centroids again. Whole pixels are half as large against the picture,
# and the squared error of the staircase falls to about a quarter.

# %% tags=["solution", "hide-input", "nbval-check-output"]
for scale in (1, 2):
    pictures = draw_lattice(make_sprites(64 * scale, (16 * scale,), 1), "red").numpy()
    drawn = find_blobs(pictures).centroid.reshape(truth.shape)
    print(f"{64 * scale} pixels: affine R² {compare(drawn, truth).fit.r2:.4f}")

# %% [markdown]
# **2.** We compute the readout for every pair of the precise latents, and beside it the folded
# cells of the red plane. No pair comes near the readout from all five latents. The folded cells are
# a poor guide to it.

# %% tags=["solution", "hide-input", "nbval-check-output"]
rows = {}
for pair in combinations(precise, 2):
    folded = compare(encoded["deconv", "red"][..., pair], truth).folded
    read = knn_probe_r2(codes["deconv"][0][:, pair], places)
    rows[f"{pair[0] + 1} and {pair[1] + 1}"] = {"folded cells of 25": folded, "readout R²": read}
pd.DataFrame(rows).T.rename_axis("latents").round(2)

# %% [markdown]
# **3.** We divide the spread of the difference over the places by the length of its mean. In a sum
# it would be the same vector everywhere.

# %% tags=["solution", "hide-input", "nbval-check-output"]
for name in vaes:
    difference = encoded[name, "blue"] - encoded[name, "red"]  # [31, 31, 5]
    center = difference.mean(axis=(0, 1))
    spread = np.sqrt(np.square(difference - center).sum(axis=2).mean())
    print(f"{NAMES[name]}: varies by {spread / np.linalg.norm(center):.0%} of its length")
