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
# # Traverse the latents and measure what moves
#
# **Takeaway.** Change one latent of a DeConv decoder, and the disc takes a winding way and, from
# many codes, changes its color as it goes. In a typical Spatial Broadcast decoder (SB decoder) it
# moves along a straight line and keeps its color, which another latent holds. But some SB runs
# change both at once, so you cannot judge a decoder by one run.
#
# A **VAE** (variational autoencoder) is an encoder that turns a picture into a few numbers, its
# **code**, and a decoder that draws the picture from them. Each of the numbers is a **latent**. In
# a **traversal**, we change one latent of a code through a range of values, and draw each of the
# codes. If every latent moves one factor of the picture, here $x$, $y$ or the color, we call the
# code **disentangled**, and otherwise **entangled**.
#
# We follow a [blog post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) by
# Markus Borea, *the post* from here on, and compare two decoders. **DeConv** doubles a small map
# step by step by transposed convolutions. The **Spatial Broadcast decoder** (SB decoder) copies the
# code to every pixel, appends the pixel's coordinates, and convolves. We load published runs: one
# of each decoder whose scores are typical of all its runs, and one SB run in which latents change
# place and color at once.
#
# ---

# %%
import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import display

from sbd_utils import claims
from sbd_utils.data.circles import make_sprites
from sbd_utils.experiments import circles, tables
from sbd_utils.metrics import intervals
from sbd_utils.metrics.codes import decode, encode, traverse
from sbd_utils.metrics.information import kl_per_latent
from sbd_utils.metrics.pictures import MIN_MOVE, find_blobs, measure_moves
from sbd_utils.plots import charts, pictures
from sbd_utils.plots.style import FACTOR_COLORS, NAMES, Picture, colors_and_labels, new_figure
from sbd_utils.training.records import load_run

# %%
sprites = make_sprites()
vaes = {name: run.vae for name, run in circles.pair().items()}
vaes["sbd-mixing"] = load_run("sbd-mixing").vae
codes = {name: encode(vae, sprites.images) for name, vae in vaes.items()}
mu = {name: mean for name, (mean, log_var) in codes.items()}  # [image, latent]
TYPICAL, MIXING = ["deconv", "sbd"], ["sbd-mixing"]

# %% [markdown]
# ## The post's figure
#
# The encoder gives each picture a distribution of codes, the **posterior**, and we take its mean
# $\mu$ as the code. The two upper rows show five pictures and what each VAE draws from their codes.
# Below, we take the code of the picture with a frame. In each row one latent is *set to* five
# values from -2 to 2, and the other four stay as they are.

# %%
CHOSEN = np.random.default_rng(0).choice(len(sprites.images), 5, replace=False)
CHOSEN[2] = (35 * 11 + 23) * 3 + 2  # x is outermost, then y; a blue disc left below the center
VALUES = np.linspace(-2, 2, 5)


def draw_traversals(names: list[str]):
    """The post's figure of the VAEs of these names."""
    return pictures.traversals(
        sprites.images[CHOSEN].numpy(),
        {name: decode(vaes[name], mu[name][CHOSEN]) for name in names},
        {name: decode(vaes[name], traverse(mu[name][CHOSEN[2]], VALUES)) for name in names},
        VALUES,
        start=2,
    )


Picture(
    draw_traversals(TYPICAL),
    "traversals",
    "Two blocks of pictures, DeConv left and Spatial Broadcast right: five inputs, their "
    "reconstructions, and a row per latent in which the disc moves, changes its color, does both "
    "or neither.",
)

# %% [markdown]
# Both VAEs draw a disc of the right color in the right place. Now read the lower rows from left to
# right. On the left, the disc jumps, fades or loses its shape, and in two rows it changes its color
# on the way (from other codes in more, as you will see). On the right, it moves evenly in one
# direction in two rows, and in one row it stays and changes its color. In the two others nothing
# changes, since their latents are not used.
#
# ## Follow the disc
#
# With more values per latent we can follow the disc. We start from four red discs, at the black
# rings. Each panel shows how the four travel as one latent is changed from -2, where the dots are
# largest, to 2, where they are smallest. A dot has the color of the disc at that value, so a ring
# with several colors in it is a disc that stays and changes its color.

# %%
# Red discs at the corners of a tilted square, so that their ways rarely hide one another.
corners = [(35 * x + y) * 3 for x, y in ((8, 14), (20, 8), (26, 20), (14, 26))]


def follow(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Centers and colors of the corners' discs, [code, latent, value, 2] and [..., 3]."""
    swept = decode(vaes[name], traverse(mu[name][corners], np.linspace(-2, 2, 25)))
    blobs = find_blobs(swept.reshape(-1, *swept.shape[-3:]))
    color = blobs.color * (1, 0.5, 1)  # the green of the pictures
    return blobs.centroid.reshape(*swept.shape[:3], 2), color.reshape(*swept.shape[:3], 3)


# %% tags=["hide-input"]
def draw_responses(centroids: dict, colors: dict, starts: np.ndarray):
    """The path of the disc while a latent grows, a row per decoder, a color per path's point."""
    count = max(ways.shape[1] for ways in centroids.values())
    cell = np.clip(8 / count, 1.0, 1.6)
    figure = new_figure(count * cell + 0.5, len(centroids) * (cell + 0.45))
    parts = figure.subfigures(len(centroids), 1, squeeze=False)[:, 0]
    for part, (decoder, (color, label)) in zip(
        parts, colors_and_labels(centroids).items(), strict=True
    ):
        grid = part.subplots(1, count, squeeze=False)[0]
        centers, hues = centroids[decoder], colors[decoder]
        for axes in grid[centers.shape[1] :]:
            axes.set_axis_off()
        for k, axes in enumerate(grid[: centers.shape[1]]):
            for way, shades in zip(centers[:, k], hues[:, k], strict=True):
                seen = np.isfinite(way).all(axis=1)
                sizes = np.linspace(45, 3, len(way))  # a disc that stays shows all its colors
                axes.plot(*way[seen].T, color="#999999", lw=0.6, zorder=1)
                axes.scatter(*way[seen].T, sizes[seen], np.clip(shades[seen], 0, 1), lw=0, zorder=2)
            axes.plot(*starts.T, "o", ms=10, mfc="none", mec="black", zorder=3)
            axes.set(xlim=(0, 64), ylim=(64, 0), xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"latent {k + 1}", fontsize="medium")
        part.suptitle(label, color=color)
    return figure


# %%
ways = {name: follow(name) for name in TYPICAL}
starts = find_blobs(sprites.images[corners].numpy()).centroid  # [code, 2]
Picture(
    draw_responses(
        {name: way for name, (way, _) in ways.items()},
        {name: color for name, (_, color) in ways.items()},
        starts,
    ),
    "responses",
    "A row of square panels per decoder, one panel per latent, each with the ways of four discs "
    "from four black rings: winding and of several colors for DeConv; for Spatial Broadcast "
    "straight and parallel in two panels, and in the other three the discs stay in their rings.",
)

# %% [markdown]
# In the lower row, a latent that moves the disc moves all four of them along parallel lines. In the
# upper row the ways bend or jump (thin gray lines), and the same latent takes one disc far and
# another hardly anywhere. So you cannot say what a DeConv latent means without saying where the
# disc is.
#
# The lines of the SB decoder are slanted here, rather than along $x$ and $y$, since two slanted
# directions describe a place as well. Which axes a VAE picks is the subject of [a notebook of its
# own](10_axes.ipynb).
#
# ## Numbers
#
# Pictures of a few codes can mislead. So we take 37 codes, spread over all pictures, sweep their
# latents from -2 to 2, and measure how far each sweep moves the disc along $x$, along $y$ and in
# color. The color is the share of red, green and blue in what is visible. All distances are shares
# of the full range, which for the color is the way from one of our three colors to another.
# Pictures that show nothing are left out, and we take the median over the codes.


# %% tags=["hide-input"]
def draw_moves(tables: dict, threshold: float):
    """How far a sweep of each latent moves each factor, one panel per decoder."""
    figure = new_figure(8, 3)
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (decoder, (color, label)) in zip(
        panels, colors_and_labels(tables).items(), strict=True
    ):
        latents = np.arange(1, len(tables[decoder]) + 1)
        for i, (factor, shade) in enumerate(FACTOR_COLORS.items()):
            axes.bar(
                latents + 0.27 * (i - 1), tables[decoder][factor], 0.25, color=shade, label=factor
            )
        axes.axhline(threshold, color="black", lw=0.8, ls=":")
        axes.set(xlabel="latent", xticks=latents)
        axes.set_title(label, color=color)
    panels[0].set(ylabel="share of the full range", ylim=(0, 1.2))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", title="factor")
    return figure


# %%
moves = {name: measure_moves(vae, mu[name], sprites) for name, vae in vaes.items()}
numbers = {}
for name, (mean, log_var) in codes.items():
    kl = kl_per_latent(mean, log_var)
    found = {factor: getattr(moves[name], factor) for factor in ("x", "y", "color")}
    numbers[name] = pd.DataFrame(found | {"one blob": moves[name].one_blob, "KL, nats": kl})
    numbers[name].index = pd.RangeIndex(1, len(kl) + 1, name="latent")
Picture(
    draw_moves({name: numbers[name] for name in TYPICAL}, MIN_MOVE),
    "moves",
    "Bars for x, y and color over the latents of each decoder. For DeConv all five latents have "
    "bars for x, y and color, and the one for color is the tallest. For Spatial Broadcast two "
    "latents have bars for x and y only, and one for color only.",
)

# %% [markdown]
# Above the dotted line, at a tenth of the range, we say that the latent **moves** the factor. A
# latent that moves at least one factor is **used**, and a used latent that moves position and color
# both is **mixing**. The table has the same numbers and two more: *one blob* is the share of the
# swept pictures that hold exactly one blob, and the last column is the KL term of each latent.

# %%
pd.concat({NAMES[name]: numbers[name] for name in TYPICAL}, names=["decoder"]).round(2)

# %% [markdown]
# The **KL term** is the part of the loss that a code costs, in **nats** of 1.44 bits each. It tells
# used and unused latents apart without any picture: one that says much about the image costs a nat
# or more, and one that says nothing costs next to nothing.
#
# ## More seeds
#
# Does color stay apart from position in every run? We have trained both decoders from ten seeds for
# 150 epochs, half of them on two processors, and each dot is one run. Three of the SB runs have no
# DeConv run beside them: two that an earlier version of the code trained, and `sbd-mixing`, which
# we kept because it mixes and which counts against SB here. The thin line spans the range of the
# dots. The circle is the mean over the seeds, each of which counts once, and the thick line is its
# 95% interval, by the bootstrap, which resamples the seeds.

# %%
every = tables.pair()
Picture(
    charts.seed_spread(
        every,
        {
            "mixing": "share of used latents that mix",
            "one_blob": "share of swept pictures with one blob",
        },
        {"mixing": 0.5},
    ),
    "seeds_traversals",
    "Two panels of dots, one per run. All latents of DeConv mix position and color in nearly every "
    "run, those of Spatial Broadcast in few. Its swept pictures hold one blob more often.",
)

# %% [markdown]
# In the DeConv decoder most used latents mix, run after run. In most SB runs few or none do, but
# there are exceptions, more of them early in training. We count the runs in which most of the used
# latents mix, also in a second set of runs, which stop after 20 epochs.

# %% tags=["nbval-check-output"]
counts = {}
for epochs, runs in ((20, tables.read("early", "quick")), (150, every)):
    for name, mixing in runs.groupby("decoder").mixing:
        counts[f"after {epochs} epochs", NAMES[name]] = {
            "most latents mix in": (mixing > 0.5).sum(),
            "of": len(mixing),
        }
pd.DataFrame(counts).T

# %% [markdown]
# ## A run that mixes
#
# Here are the traversals of `sbd-mixing`, one of the three finished SB runs in which most latents
# mix. It had the same settings as all the others.

# %%
Picture(
    draw_traversals(MIXING),
    "traversals_mixing",
    "The same figure for a Spatial Broadcast decoder in which three latents move the disc along "
    "straight lines and change its color on the way, and two do nothing.",
)

# %% [markdown]
# Compare it with the right block of the first figure. The disc still moves in one direction, but it
# changes its color in every row in which it moves, and loses its form at the ends of some. Three
# latents carry $x$, $y$ and color together.
#
# The post calls its SB traversals "quite disentangled". Yet in its own figure a blue circle turns
# green and then red while a position latent is changed, so a latent of its run mixes, too.
#
# ## Try it
#
# What do the three decoders draw from the same code? In the first column all five latents are 0,
# and in each of the others one of them is 1.5. We also print how far from zero the nearest
# picture's code lies.

# %%
LABELS = [NAMES[name].replace(", ", ",\n") for name in vaes]
latent_dim = vaes["sbd"].latent_dim
probes = np.vstack([np.zeros(latent_dim), 1.5 * np.eye(latent_dim)])  # [code, latent]
for name, mean in mu.items():
    print(f"{NAMES[name]}: {np.linalg.norm(mean, axis=1).min():.1f} from zero")

# %%
Picture(
    pictures.image_grid(
        np.stack([decode(vae, probes) for vae in vaes.values()]),
        LABELS,
        ["all at 0", *(f"latent {k}" for k in range(1, latent_dim + 1))],
        cell=0.9,
        x_label="the latent that is 1.5 instead of 0",
    ),
    "same_codes",
    "Three rows of six pictures, one row per decoder and one column per code; the decoders draw "
    "different discs from the same code, or none.",
)

# %% [markdown]
# In the middle row each latent changes either the color, or the place, or nothing. In the lower row
# the latents in use change both. No picture's code of the DeConv VAE lies near zero, and its
# decoder draws nothing there.
#
# If you run this notebook, you can set the latents yourself, one per slider.


# %%
def show_code(**latents: float) -> None:
    code = np.array(list(latents.values()))[None]
    drawn = np.stack([decode(vae, code) for vae in vaes.values()], axis=1)
    display(
        Picture(
            pictures.image_grid(drawn, column_labels=LABELS, cell=1.7),
            "sliders",
            "What each of the three decoders draws from the code of the sliders.",
        )
    )


sliders = {
    f"latent {k}": ipywidgets.FloatSlider(0, min=-3, max=3, step=0.1, description=f"latent {k}")
    for k in range(1, latent_dim + 1)
}
box = ipywidgets.VBox([*sliders.values(), ipywidgets.interactive_output(show_code, sliders)])
# A page where nothing runs shows these words instead.
words = {"text/plain": "Five sliders and three pictures, where a notebook runs."}
display(box._repr_mimebundle_() | words, raw=True)

# %% [markdown]
# ## The claims
#
# "Reconstructs well" means that at least 95 of 100 pictures are right, which is to say one blob, of
# the right color, with its center within a pixel of the true one. "Entangled" means that more than
# half of the used latents mix. We judge all claims over all of these runs, where each seed counts
# once, with the mean of its runs. A claim is reproduced where the whole interval of the mean lies
# on its side of the threshold.

# %% tags=["nbval-check-output"]
by_seed = every.groupby(["decoder", "seed"])[["right_blob", "mixing"]].mean()
claims.Report(
    *(
        claims.check(f"reconstructs-{name}", intervals.mean(by_seed.loc[name].right_blob))
        for name in TYPICAL
    ),
    claims.check("entangled-deconv", intervals.mean(by_seed.loc["deconv"].mixing)),
    claims.check("disentangled-sbd", intervals.mean(by_seed.loc["sbd"].mixing)),
)

# %% [markdown]
# ---
#
# **What you have seen**
#
# * A DeConv latent moves the disc along winding ways that depend on where it starts, and repaints
#   it from many of its codes.
# * A typical SB latent moves it along a straight line or changes its color, but does not do both.
# * Some SB runs mix, and so does the post's, so a single traversal tells little.
#
# **On your own** (solutions below)
#
# 1. Sweep along a *direction* instead of a latent, from the mean code of all red discs to that of
#    all blue ones. What moves then, in the typical runs and in the run that mixes?
# 2. We say that a latent moves a factor when it does so by a tenth of the range. Does the share of
#    mixing latents depend on that choice?
# 3. What do the decoders draw from codes that belong to no picture, such as random ones?
#
# **Further reading**
#
# * Why one run and one figure are not enough: Locatello et al. 2019, [arXiv
#   1811.12359](https://arxiv.org/abs/1811.12359)
# * Why latents with a diagonal posterior choose certain axes: Rolinek et al. 2019, [arXiv
#   1812.06775](https://arxiv.org/abs/1812.06775)
#
# **Next.** In [the next notebook](05_geometry.ipynb) we draw the plane in which a code holds the
# position.
#
# ## Solutions
#
# **1.** We add a growing part of the difference between the two mean codes. In both SB runs the
# color changes while the disc stays, even in the one that mixes. Its code has a direction for
# color, too, but this direction is not a latent. In the DeConv code the disc stays red. There, red
# and blue discs at the same place are far apart, too, but at each place in another direction, so
# that the mean directions nearly cancel:

# %% tags=["solution", "hide-input", "nbval-check-output"]
is_color = {color: np.array(sprites.factors["color"]) == color for color in ("red", "blue")}
steps, start = np.linspace(0, 1, 7), corners[0]
drawn = []
for name, vae in vaes.items():
    way = mu[name][is_color["blue"]] - mu[name][is_color["red"]]  # [place, latent]
    direction = way.mean(axis=0)
    print(
        f"{NAMES[name]}: red and blue at one place are {np.linalg.norm(way, axis=1).mean():.2f} "
        f"apart on average, and their mean direction is {np.linalg.norm(direction):.2f} long"
    )
    drawn.append(decode(vae, mu[name][start] + steps[:, None] * direction))
Picture(
    pictures.image_grid(
        np.stack(drawn),
        LABELS,
        [f"{step:.2f}" for step in steps],
        x_label="share of the way from red to blue",
        cell=0.75,
    ),
    "color_direction",
    "A row of seven pictures per run. In both Spatial Broadcast runs a red disc turns green and "
    "then blue and stays where it is; with DeConv it stays red.",
)

# %% [markdown]
# **2.** For these three runs the choice does not matter. They are clear cases, though, and a run
# between them might depend on it.

# %% tags=["solution", "hide-input"]
shares = {}
for name, move in moves.items():
    for least in (0.05, 0.1, 0.2, 0.3):
        x, y, color = move.x > least, move.y > least, move.color > least
        shares[NAMES[name], least] = ((x | y) & color).sum() / max(1, (x | y | color).sum())
pd.Series(shares).unstack().rename_axis(columns="least move").round(2)

# %% [markdown]
# **3.** We draw codes from the standard normal distribution, towards which the KL term pulls all
# codes together. The table gives the share of the pictures that hold exactly one blob. In two of
# the runs a part of them is empty or split, so it seems that the codes leave gaps. The typical SB
# run draws one blob from nearly every code.

# %% tags=["solution", "hide-input"]
random = np.random.default_rng(0).normal(size=(200, vaes["sbd"].latent_dim))
shares = {
    NAMES[name]: (find_blobs(decode(vae, random)).count == 1).mean() for name, vae in vaes.items()
}
pd.DataFrame({"one blob": shares}).round(2)
