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
# # Give both decoders sprites of eight factors
#
# **Takeaway.** The [post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder)
# behind the other notebooks draws discs, each with a place and a color. The paper's sprites also
# have a shape, a size, an angle and three numbers for their color. With every seed the Spatial
# Broadcast decoder's codes of the places still lie on a plane. By MIG, the paper's measure, both
# score low, and it scores better. That its pictures of sprites are better, too, we cannot show.
#
# A **VAE** (variational autoencoder) encodes a picture as a few numbers, its **code**, and a
# **decoder** draws the picture from them. We compare two, each behind an encoder of the same build.
# DeConv doubles a small map step by step, and the Spatial Broadcast decoder (SB decoder) copies the
# code to every pixel and appends the pixel's coordinates. A code is **disentangled** if each of its
# numbers, the **latents**, goes with one of the factors that made the picture. The abstract of the
# [paper](https://arxiv.org/abs/1901.07017) (Watters and others 2019) promises better disentangling
# and reconstruction, and a "particularly dramatic benefit" for small objects. We could not read its
# tables, so we only compare directions. Small objects we cannot judge, since most of our runs with
# small discs never begin to draw them. Where factors depend on each other, the SB decoder's codes
# of places lie on a plane in one of two worlds, less so in the other, and DeConv's in neither.
#
# ---

# %%
import numpy as np
import pandas as pd
import torch

from sbd_utils import claims
from sbd_utils.data.factors import Continuous
from sbd_utils.data.rules import Dependent, Rule
from sbd_utils.data.sprites import SHAPES, WORLDS, World
from sbd_utils.experiments import sprites, tables
from sbd_utils.metrics import disentanglement, intervals
from sbd_utils.metrics.codes import decode, encode, traverse
from sbd_utils.metrics.geometry import affine_r2, compare, principal_plane
from sbd_utils.metrics.information import ACTIVE, active_units, infomec, mig
from sbd_utils.metrics.pictures import find_blobs
from sbd_utils.metrics.prediction import dci, mcc, sap
from sbd_utils.models.decoders import PAIR
from sbd_utils.plots import charts
from sbd_utils.plots.geometry import geometry_epochs
from sbd_utils.plots.pictures import image_grid, traversals
from sbd_utils.plots.style import NAMES, Picture
from sbd_utils.training.loop import TrainConfig
from sbd_utils.training.records import load_run

# %% [markdown]
# ## A world is a set of factors
#
# A world says which factors vary, and over which set. You can draw as many pictures from it as you
# like, so no model ever sees the same one twice. Our richest world, *sprites*, varies all eight:

# %% tags=["nbval-check-output"]
pd.DataFrame(
    [
        {
            "factor": factor.name,
            "goes around": factor.periodic,
            "values": f"{factor.low:.1f} to {factor.high:.1f}"
            if isinstance(factor, Continuous)
            else ", ".join(SHAPES[value] for value in factor.values),
        }
        for factor in WORLDS["sprites"].train.factors
    ]
).set_index("factor")

# %% [markdown]
# Places and colors have the ranges of the COBRA configuration of Spriteworld, the tool that the
# paper's first author published. The colors are given by hue, saturation and value (`h`, `s`, `v`),
# where the value is the brightness. Hue and angle go around, so that both ends of their range are
# the same. The shapes are those of the data set dSprites, and the range of the scale is ours.
#
# In the figure, each row moves one factor through its range and leaves the others alone. (The last
# one, `v`, has a narrow range and hardly shows.)

# %%
world, columns = WORLDS["sprites"], 7
middle = {"shape": 2, "x": 0.5, "y": 0.5, "scale": 0.2, "angle": 0.5, "h": 0.6, "s": 0.9, "v": 1.0}
rows = []
for factor in world.train.factors:
    line = (
        torch.tensor([0.0, 0, 0, 1, 1, 2, 2])
        if factor.name == "shape"
        else torch.linspace(factor.low, factor.high, columns)
    )
    swept = {name: torch.full((columns,), value) for name, value in middle.items()}
    rows.append(world.draw({**swept, factor.name: line}))
Picture(
    image_grid(
        torch.stack(rows).numpy(), [factor.name for factor in world.train.factors], cell=0.9
    ),
    "sprite_factors",
    "Eight rows of seven pictures, in each of which one factor of a heart changes: its shape, from "
    "square to ellipse to heart, its size, its angle, its place to the right and down, its hue, "
    "how vivid and, hardly to be seen, how bright it is.",
)

# %% [markdown]
# ## Five worlds that differ in one thing
#
# Our other worlds are all made of discs with a place and a hue, and each of them changes one thing
# about *large*:
#
# * **large** is the one that the others are compared with;
# * **small** has discs 4 pixels wide, a third of the width of those of *large*;
# * **hue-of-place** makes the hue a function of `x`, so that each hue belongs to one `x` only;
# * **triangle** shows only places with `x + y < 1`, so that `x` tells something of `y`;
# * **quadrant** never shows the lower right quarter, and belongs to [the notebook on places never
#   seen](12_generalization.ipynb).

# %%
shown = []
for seed, name in enumerate(sprites.STUDIED):
    images, _ = WORLDS[name].sample(8, torch.Generator().manual_seed(seed))
    shown.append(images)
Picture(
    image_grid(torch.stack(shown).numpy(), list(sprites.STUDIED), cell=0.8),
    "worlds",
    "Six rows of eight pictures on black: colored squares, ellipses and hearts; discs; tiny discs; "
    "discs that are orange on the left and violet on the right; discs in the upper left half; "
    "discs everywhere but in the lower right quarter.",
)

# %% [markdown]
# A small disc covers few pixels, so a model that leaves it out pays a tenth of what it pays for a
# large one (exercise 2).
#
# ## How would you measure a code?
#
# There are many scores of disentanglement, and they answer different questions. Most start from how
# much each latent tells of each factor. MIG (the mutual information gap) asks how far a factor's
# best latent is ahead of its second best, as a share of all that there is to know of the factor.
# Some ask whether each latent goes with one factor only (modularity, InfoM), others whether each
# factor has one latent (SAP, completeness, InfoC), or how well it can be read from the code: by a
# line (InfoE, the affine readout R²) or by a random forest (DCI's informativeness). MCC
# is the mean correlation of the factors with a latent each, paired as well as can be. To see what
# each score is blind to, we give it codes that we made by hand, of a place and one of three shapes,
# one code per column. In the *turned* plane, two latents hold sums and differences of `x` and `y`;
# in *folded*, a latent does not tell left from right.

# %% tags=["nbval-check-output"]
codes, factors = disentanglement.hand_made()
(
    pd.DataFrame(
        {name: disentanglement.report(code, factors) for name, code in codes.items()}
    ).round(1)
    + 0.0
)  # no -0.0

# %% [markdown]
# Read the columns:
#
# * A **turned** code has lost nothing, but all scores that look at single latents fall, MIG and SAP
#   the most. The affine readout R² does not. It asks whether the factors are an affine map of the
#   code (a linear one and an offset).
# * A **duplicated** latent brings MIG and SAP down to zero, because they measure the gap to the
#   second best latent. Scores that ask for one latent per factor (completeness, InfoC) fall, too.
# * A **folded** code has lost something, but MIG hardly falls. The FactorVAE score, modularity,
#   InfoM, InfoC and the R² of a sum of curves, which asks whether the code is a sum of one function
#   of each factor, stay at 1. Scores that read the factors by a line (SAP, MCC, InfoE, the affine
#   readout R²) or by a forest (DCI) fall further.
# * A **bent** latent costs a little where bins or a line are laid through it. A **split** one costs
#   the scores that ask for one latent per factor (MIG, SAP, completeness, InfoC).
# * **Dead** latents cost only modularity, which scores each of them like noise.
# * **Noise** scores well above zero in modularity, InfoM and InfoC, since shares of next to nothing
#   can be large, so show these with InfoE beside them. The FactorVAE score of noise is that of a
#   guess, here one in three.
#
# So no single score will do. The paper reports MIG (Chen and others 2018), and we add the others.
# The docstrings of `measures` define each of them and name its paper.
#
# ### Score your own model
#
# All you need are codes and factors. Floats are quantities, texts and whole numbers are labels, and
# what goes around is named with its period.

# %% tags=["nbval-check-output"]
images, truth = WORLDS["sprites"].sample(1000, torch.Generator().manual_seed(0))
encoder = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten())  # here goes your own
scores = disentanglement.report(
    encoder(images).numpy(),
    {name: column.numpy() for name, column in truth.items()},
    periods={"angle": 2 * torch.pi, "h": 1.0},
)
scores[["MIG", "MCC", "InfoE"]].round(1) + 0.0

# %% [markdown]
# ## What we ask, before we train
#
# If you look at results first, you can often find a score by which your favorite wins. So we
# committed what we ask, and when we call it a yes, before the seeds ran. Only a **pilot** came
# before, one pair of runs per setting, with seeds of its own. It fixed the decoder's variance,
# which says how much the pictures weigh against the KL term, and how long to train. *Fall* is the
# share by which the reconstruction term fell over the last ten epochs.

# %% tags=["nbval-check-output"]
pilot = tables.read_all("pilot").set_index(["world", "decoder_variance", "decoder"])
pilot["fall"] = 1 - pilot.reconstruction / pilot.reconstruction_before
pilot[["seed", "epochs", "explained", "active", "fall"]].rename(
    columns={"explained": "explained share of the variance", "active": "latents in use"}
).round(3)

# %% [markdown]
# We had said that we would train longer if one of the runs at the smaller variance fell by more
# than 5%. One did, so the study takes 150 epochs instead of the pilot's 100. (The pilot did not try
# *small*. We come back to that.) Why not the post's variance of 0.3? Compare the explained shares
# with those of pictures that have the right values of some factors, and are averaged over the
# others:


# %% tags=["nbval-check-output"]
def explained_without(world: World, *names: str) -> float:
    """What drawings explain that know all factors of a world but these."""
    images, factors = world.sample(200, torch.Generator().manual_seed(0))
    mean = torch.zeros_like(images)
    for seed in range(1, 51):
        others = world.train.sample(len(images), torch.Generator().manual_seed(seed))
        mean += world.draw(factors | {name: others[name] for name in names}) / 50
    return float(1 - (images - mean).square().sum() / (images - images.mean(dim=0)).square().sum())


print(f"place and size: {explained_without(world, 'h', 's', 'v', 'shape', 'angle'):.2f}")
print(f"place, size and color: {explained_without(world, 'shape', 'angle'):.2f}")
steps = sprites.EPOCHS * sprites.EPOCH // TrainConfig().batch_size
print(f"we train for {steps:,} steps, and the paper, by the post, for 1.5 million")

# %% [markdown]
# At 0.3 both decoders of the pilot explain about as much as pictures that are right in place and
# size only, and at the smaller variance nearly as much as those that are right in color, too. So we
# take the smaller one. The next cell lists the settings:

# %% tags=["nbval-check-output"]
print(f"worlds: {', '.join(sprites.STUDIED)}; decoders: {', '.join(PAIR)}")
print(f"seeds: {sorted({job.seed for job in sprites.JOBS['sprites']})}")
print(
    f"{sprites.EPOCHS} epochs of {sprites.EPOCH} new images, {sprites.LATENTS} latents; in "
    + f"hue-of-place {sprites.SHORT_EPOCHS} epochs"
)
config = TrainConfig()
print(
    f"batches of {config.batch_size}, Adam at {config.learning_rate}, beta {config.beta}: the "
    f"post's; decoder variance {sprites.VARIANCE}, the post's {config.decoder_variance}"
)
print(
    f"scores: on {sprites.SCORED} new images, the same for all runs; places: "
    f"{sprites.SPRITES_PER_POSITION} sprites on {sprites.SIDE} by "
    f"{sprites.SIDE} places; dead: a variance below {ACTIVE}"
)

# %% [markdown]
# Both decoders see the same images in the same order, if world and seed are the same. A code is the
# mean of the encoder's distribution. Its scores leave out dead latents, those in which this mean
# has a variance below 0.01, and call the others *in use*.
#
# For each question we compare the two decoders in the same world and seed. The answer is **yes** if
# all five seeds lie on the side that the question names. (If there were no difference, that would
# happen by luck in at most 1 case of 32. We do not correct for asking several questions.) If not,
# the answer is **not shown**. Every run counts, also one that fails: a run that diverges has no
# scores, one that uses fewer than two latents has no scores of its code, and a question that needs
# them is answered by *not shown*.
#
# 1. **Does the SB decoder reconstruct the sprites better?** By the reconstruction term in the last
#    epoch, in nats per image: yes if SB minus DeConv is below zero in *sprites*.
# 2. **Does it disentangle them better?** By MIG with 20 bins, the mean over all eight factors: yes
#    if SB minus DeConv is above zero in *sprites*. We show the other scores beside it and judge
#    nothing by them.
# 3. **Are places still a plane when color and form vary?** We move eight sprites over the places
#    (eight discs in the worlds of discs), and fit an affine map from place to code: one linear map
#    for all of them, and an offset for each. $V_a$ is the variation of the codes that the map
#    explains by moves along axis $a$, and $R$ all that it leaves unexplained. *Flat* is the smaller
#    of the two $V_a / (V_a + R)$. It is 1 where the codes follow the map, and near zero where one
#    axis is lost. Yes if it is above 0.9 for SB in *sprites*, and SB minus DeConv is above zero.
#    (`position_plane_scores` measures it.)
# 4. **Is the gap larger for small objects?** This asks about pictures, not codes. We divide SB's
#    unexplained share of the pictures' variance by DeConv's. Yes if the ratio is below one in
#    *small*, and smaller than in *large* of the same seed. (We take a ratio, since an error of a
#    tenth of a pixel is a larger share of a small disc, whoever makes it.) If neither decoder
#    explains half of the variance in *small*, the question cannot be answered.
# 5. **And if factors depend on each other?** Yes if *flat*, SB minus DeConv, is
#    above zero in *hue-of-place* and in *triangle*, both. In *hue-of-place* we move discs of any
#    hue, which breaks the tie that training showed. In *triangle* we judge the places that training
#    showed, and leave the others to [the next notebook](12_generalization.ipynb).
#
# We changed one thing later. *hue-of-place* was the last world to be trained. By then the study had
# used up its hours, and the processor at hand was much slower than the one before. So the runs of
# this world take a fifth of the epochs, in float32 where the others have bfloat16. We decided it
# before any of them had been scored. With so few epochs, a *not shown* may come from the training
# and not from the world, and so may a difference from other worlds. (So we show a control with the
# results.)

# %% [markdown]
# ## What came out in the world of sprites
#
# Here are the answers to the first three questions, as `protocol_answers` gives them, one row per
# condition: its mean, least and most over the five seeds, and what all five must be.

# %% tags=["nbval-check-output"]
EVERY = tables.read_all("sprites")
ROWS = EVERY.query("world == 'sprites'")
sprites.protocol_answers(ROWS).loc[["better pictures", "disentangled", "a plane of places"]].round(
    3
)

# %% [markdown]
# *Flat* is nearly 1 for the SB decoder with every seed, and below a tenth for DeConv, so places are
# still a plane when color and form vary. MIG is higher for SB with every seed, too. But better
# pictures are **not shown**: with three of the five seeds DeConv has the lower reconstruction term.
# In the figure each filled dot is one run, an open dot is a mean, and a bar spans the runs. The
# dotted line is the bound of question 3.

# %%
Picture(
    charts.seed_spread(
        ROWS,
        {
            "reconstruction": "reconstruction, nats\n(lower is better)",
            "MIG": "MIG",
            "affine readout R²": "affine readout R²",
            "flat": "flat",
        },
        {"flat": 0.9},
    ),
    "sprite_scores",
    "Four panels with one dot per run. The reconstruction terms of the decoders overlap, and "
    "DeConv's are spread out more. In MIG, affine readout R² and flat they lie apart, Spatial "
    "Broadcast above, in flat also above a dotted line at 0.9.",
    chart=True,
)

# %% [markdown]
# Here are the pairs, one column per seed, with *fall* as in the pilot. (Where it is below zero, the
# term rose.)

# %% tags=["nbval-check-output"]
pairs = ROWS.assign(fall=1 - ROWS.reconstruction / ROWS.reconstruction_before).pivot(
    index="seed", columns="decoder", values=["reconstruction", "explained", "fall", "active", "MIG"]
)
pairs.astype(float).T.round(2).rename(index=NAMES | {"active": "latents in use"})

# %% [markdown]
# DeConv uses all ten latents with every seed, and SB four to seven. Of the SB runs, those with six
# or seven latents in use have the lowest terms, and the one with four has the highest term, but
# also the highest MIG: a code that leaves factors out may hold the others in single latents.
#
# In the worlds of discs it is another story. Here is the reconstruction term, SB minus DeConv, in
# each world of the study, which we had asked of *sprites* only:

# %% tags=["nbval-check-output"]
terms = EVERY.pivot(index=["world", "seed"], columns="decoder", values="reconstruction")
(terms.sbd - terms.deconv).unstack().reindex([*sprites.STUDIED]).round(1)

# %% [markdown]
# In *large*, *triangle* and *quadrant* SB has the lower term with every seed. So form, size and
# full color, which these worlds do not have, may be what lets the seed decide in *sprites*. In
# *hue-of-place*, which was trained for a fifth of the epochs, DeConv has the lower term with every
# seed. We come back to it below, and to *small*.
#
# ### The other scores
#
# Here are the scores of the codes as means over the seeds. *Sheet* asks whether all sprites move
# over one common surface, of any form, and *folded* is the share of the cells of a grid of places
# that are turned over in the code, where less is better. Of all others, more is better.

# %% tags=["nbval-check-output"]
first, last = (ROWS.columns.get_loc(name) for name in ("SAP", "R² of a sum of curves"))
means = ROWS.groupby("decoder")[[*ROWS.columns[first : last + 1], "sheet", "folded"]].mean().T
means.round(2).rename(columns=NAMES)

# %% [markdown]
# *Sheet* is high for both, so DeConv's sprites move over one surface, too. But nearly half of its
# cells are turned over, as chance would turn them. Its InfoE is below that of the blurred pictures
# in our example, an encoder that learned nothing (though its codes have more numbers). Nearly all
# that varies in the SB code is a sum of one function per factor, and still its MIG is low. As in
# [the notebook on axes](10_axes.ipynb), a code can be orderly without lying along the latents. And
# a factor of which the code knows nothing brings MIG down, however the latents lie.
#
# ## What a code of sprites looks like
#
# We take the pair that `make publish` chooses, whose scores, all in all, are the closest to those
# of the others: that of seed 1. Its pictures are not typical. Of all pairs, DeConv's reconstruction
# term is here the furthest below SB's. As in [the notebook on traversals](04_traversals.ipynb), you
# see five pictures and their reconstructions, and below them what happens to the one with a frame
# if you set one latent at a time to other values.

# %%
vaes = {name: load_run(f"sprites-{name}").vae for name in PAIR}
some = world.sample(5, torch.Generator().manual_seed(3))[0]
mu = {name: encode(vae, some)[0] for name, vae in vaes.items()}
values = np.linspace(-2, 2, 5)
Picture(
    traversals(
        some.numpy(),
        {name: decode(vae, mu[name]) for name, vae in vaes.items()},
        {name: decode(vae, traverse(mu[name][0], values)) for name, vae in vaes.items()},
        values,
        start=0,
    ),
    "sprite_traversals",
    "Two blocks of pictures, DeConv left and Spatial Broadcast right: five inputs, their "
    "reconstructions, in which DeConv's ellipses are ellipses and all else is round, and a row per "
    "latent. On the left nearly every row changes the sprite. On the right three rows move it "
    "along straight lines until it shrinks and is gone, two change its color above all, and five "
    "do nothing.",
)

# %% [markdown]
# Both draw each sprite at about the right place and size. DeConv also draws the ellipses as
# ellipses, and all else is round. On the left, most rows change several things at once, and some
# pictures show no sprite, or two. On the right, latent 1 moves the sprite up and down, latent 4
# mostly to the side, and latent 8 along a diagonal. All three also change its size, until it is
# gone at one end, and its color a little. Two (3 and 6) change mostly its color, and 3 its size,
# and the other five do nothing. So the place is spread over three latents, which code other
# factors, too.
#
# Now move a square, an ellipse and a heart over a straight grid of places. Each panel shows the
# codes of one sprite in the plane along which they vary most, turned so that `x` points right and
# `y` down as well as they can. Below it is the R² of the best affine map from places to this plane,
# and how much of the codes' variance the plane holds. (Each sprite has a plane of its own here, so
# the figure is a milder judge than *flat*, which asks for one slope for all.)

# %%
panels, captions = {}, {}
for name, vae in vaes.items():
    found, panels[name], captions[name] = sprites.encode_lattice(vae, world), {}, {}
    truth = found.positions.reshape(sprites.SIDE, sprites.SIDE, 2)
    for shape, code in zip(SHAPES[:3], found.codes[:3], strict=True):
        plane = principal_plane(code.reshape(*truth.shape[:2], -1), truth)
        share = plane.var(axis=(0, 1)).sum() / code.var(axis=0).sum()
        panels[name][shape] = plane
        captions[name][shape] = f"R² {compare(plane, truth).fit.r2:.2f}, holds {share:.0%}"
Picture(
    geometry_epochs(panels, captions),
    "sprite_planes",
    "Two rows of three panels, one per shape. Above, the lines of DeConv's grids wind and "
    "cross; below, those of Spatial Broadcast are straight grids.",
    chart=True,
)

# %% [markdown]
# Here SB's codes of places are straight grids, and hardly anything is left beside the plane. For
# DeConv the plane holds less than half of what varies, and in it the lines wind and cross.
#
# ## What does a code know of each factor?
#
# We ask the same two codes in three ways: by MIG, by an affine map from the code to the factor (or
# to its sine and cosine, if it goes around), and by a random forest, which finds any function of
# the code, if roughly. Each column is 1 at best and about 0 for a guess, and labels have no affine
# readout. An ellipse looks the same after half a turn, and a square after a quarter, so no code can
# come near 1 in *angle*. The last row asks for the angle of ellipses, up to half a turn.

# %% tags=["nbval-check-output"]
images, columns = world.sample(4000, torch.Generator().manual_seed(4))
columns = {name: column.numpy() for name, column in columns.items()}
ellipse = columns["shape"] == SHAPES.index("ellipse")
known, of_place = {}, {}
for decoder, vae in vaes.items():
    code = encode(vae, images)[0]
    code = code[:, active_units(code)]
    place = code, {name: columns[name] for name in "xy"}
    of_place[NAMES[decoder]] = {"MIG": mig(*place), "MCC": mcc(*place), **infomec(*place)}
    of_place[NAMES[decoder]]["affine readout R²"] = affine_r2(*place)
    asked = {
        name: (
            code,
            {name: column},
            {name: world.train.periods[name]} if name in world.train.periods else {},
        )
        for name, column in columns.items()
    }
    asked["angle of ellipses"] = (
        code[ellipse],
        {"angle": columns["angle"][ellipse]},
        {"angle": np.pi},
    )
    for name, given in asked.items():
        known[name, NAMES[decoder]] = {
            "MIG": mig(*given),
            "affine": affine_r2(*given),
            "forest": dci(*given)["informativeness"],
        }
pd.DataFrame(known).T.unstack(sort=False).round(2) + 0.0

# %% [markdown]
# A forest reads the place from both codes. An affine map reads it exactly from SB's, but only in
# part from DeConv's, in which no latent stands out either. Both know the size. In this pair a
# forest reads more of the hue and the saturation from SB's code, and more of the form from
# DeConv's: half of the angle of ellipses, and nothing of it from SB's. From neither it reads the
# brightness. (A forest is a rough judge, and finds less of the size in SB's code than the affine
# map does, so what it misses may be there.)
#
# Of the place alone, as if nothing else varied, the same two codes have these scores:

# %% tags=["nbval-check-output"]
pd.DataFrame(of_place).round(2)

# %% [markdown]
# All of them are higher with SB. MCC is near 1, since one latent nearly follows `x` and one `y`.
# MIG is low all the same, as it asks that no other latent tell of them, and latent 8 does.
#
# ## Is the gap larger for small objects?
#
# The abstract promises most for small objects. Here is the answer to question 4, which compares
# *small* with *large*, where only the width of the disc differs. (The logarithm of a ratio is below
# zero where the ratio is below one.)

# %% tags=["nbval-check-output"]
sprites.protocol_answers(EVERY).loc[["small objects"]].round(2)

# %% [markdown]
# It **cannot be answered**, since neither decoder explains half of what varies in *small*, in the
# mean of its runs. (Question 4 does not say that the mean decides. `protocol_answers` does, which
# was committed before the seeds ran. Without it the answer would be *not shown*.) Here are these
# runs, a column per seed:

# %% tags=["nbval-check-output"]
small = EVERY.query("world == 'small'").pivot(
    index="seed", columns="decoder", values=["explained", "active", "reconstruction", "kl"]
)
small.astype(float).T.round(2).rename(index=NAMES | {"active": "latents in use"}) + 0.0

# %% tags=["nbval-check-output"]
found = explained_without(WORLDS["small"], "h")
print(f"with the right place and the mean of all hues: {found:.2f}")

# %% [markdown]
# Seven of the ten runs use no latent, so each of them draws one picture whatever it sees. One of
# DeConv's explains nearly all of the variance, with all ten latents. Two of SB's explain about
# half, with two latents, which is what a picture explains that has the right place and a mean of
# all hues. So too few runs begin to draw to compare the decoders.
#
# Why would a run not begin? The runs that do save far more nats of reconstruction than they pay in
# KL, so drawing nothing is not the better solution. One guess is that the first step is too small.
# Suppose that a code only tells in which quarter of the places the disc is. The best that a decoder
# can draw is then the mean of all pictures with a disc there. Here is what this saves in
# reconstruction, in nats per image, and what it costs in KL, the logarithm of the number of parts:

# %% tags=["nbval-check-output"]
first = {}
for name in ("large", "small"):
    images, factors = WORLDS[name].sample(10_000, torch.Generator().manual_seed(0))
    pixels, quarter = images.flatten(1), 2 * (factors["x"] > 0.5) + (factors["y"] > 0.5)
    within = torch.nn.functional.one_hot(quarter).float()  # [image, quarter]
    means = within.T @ pixels / within.sum(dim=0)[:, None]  # [quarter, pixel]
    squares = (means - pixels.mean(dim=0)).square().sum(dim=1)  # [quarter]
    gain = within.mean(dim=0) @ squares / 2 / sprites.VARIANCE
    first[f"saved in {name}"] = float(gain)
first["saved in small, at a tenth of the decoder's variance"] = 10 * float(gain)
pd.Series(first | {"cost": np.log(4)}).round(1)

# %% [markdown]
# It saves more than a hundred times its cost in *large*, and only about twice its cost in *small*,
# where a disc that is smeared over a quarter is next to black. So small a gain may drown in the
# noise of a code that has just begun. If this is right, small discs should begin where pictures
# weigh more. So, after the seeds had run, we trained two pairs, of seeds 0 and 1, for 50 epochs at
# a tenth of the decoder's variance (`make study NAME=weighed`). A whole small disc then weighs as
# much as a large one did, and the first step saves more than twenty times its cost. In the figure,
# each dot is a run. The last row has the runs of these two pairs.

# %%
WEIGHED = tables.read_all("weighed")
discs = pd.concat(
    [
        runs.assign(line=line, unexplained=1 - runs.explained)
        for line, runs in {
            "large": EVERY[EVERY.world == "large"],
            "small": EVERY[EVERY.world == "small"],
            "small, decoder variance / 10": WEIGHED,
        }.items()
    ]
)
Picture(
    charts.dots(
        discs,
        "line",
        "decoder",
        {"unexplained": "unexplained share", "active": "latents in use"},
        ticks={"unexplained": (0.01, 0.1, 1), "active": (0, 5, 10)},
    ),
    "disc_scores",
    "Two panels with three rows of dots, the first on a logarithmic scale. In large, all runs "
    "leave about a hundredth unexplained, most of Spatial Broadcast's less. In small, one run of "
    "DeConv leaves a twentieth, with ten latents, two of Spatial Broadcast leave half, with two, "
    "and the others leave all. At a tenth of the decoder's variance all four leave less than a "
    "tenth.",
    chart=True,
)

# %% [markdown]
# All four begin, also the three of them that draw nothing at the study's variance. This fits the
# guess and does not prove it. It would fit other reasons, too, and it leaves open why two of SB's
# runs in *small* stop at the place: DeConv's run shows that the hue pays. Two pairs are too few to
# rank the decoders.
#
# ## And if factors depend on each other?
#
# In *hue-of-place* the hue tells `x`, and in *triangle* `x` tells something of `y`, since training
# shows only the upper left half of the square. Here is the answer to question 5:

# %% tags=["nbval-check-output"]
sprites.protocol_answers(EVERY).loc[["dependent factors"]].round(3)

# %% [markdown]
# It is a **yes**. Here is *flat* of each run, one column per seed, beside that of *large*, where
# nothing depends on anything. In *triangle* it is measured at the places that training showed. In
# *hue-of-place* discs of eight hues are moved over all places, so that the hue is not that of the
# place. Since this world was trained for a fifth of the epochs only, we added one pair in *large*
# with as few, after its runs had been scored (`make study NAME=short`), as a control. It has the
# short training and the processor, and no tie.

# %% tags=["nbval-check-output"]
tied = pd.concat(
    [EVERY[EVERY.world.isin(["large", "hue-of-place", "triangle"])], tables.read_all("short")]
)
tied.pivot_table("flat", ["world", "epochs", "precision", "decoder"], "seed").round(3).rename(
    index=NAMES
)

# %% [markdown]
# In *triangle* SB loses hardly anything by the tie. In *hue-of-place* its codes are less flat, with
# every seed. In the control they are as flat as after the full training, so as far as one pair can
# tell, it is not the few epochs that bend them. DeConv's codes are far from a plane everywhere.
#
# Here are other scores of the same runs, as means over the seeds, which we do not judge by. They
# are of new images of the same world, so the tie holds in them.

# %% tags=["nbval-check-output"]
tied.groupby(["world", "epochs", "decoder"])[
    ["reconstruction", "explained", "active", "MIG", "MCC", "InfoE", "R² of a sum of curves"]
].mean().round(2).rename(index=NAMES, columns={"active": "in use", "R² of a sum of curves": "sum"})

# %% [markdown]
# In *triangle* SB's scores of the code are about as high as without the tie, or higher. DeConv's
# rise, too, so half of the square may just be easier. In *hue-of-place*, too, an affine map reads
# all factors from SB's code (an InfoE of 1), as long as the tie holds. But DeConv draws the better
# pictures there, with every seed, and in the control SB does. So this, too, may come with the tie,
# which helps DeConv's pictures far more than SB's. (That SB uses nearly all latents does not come
# with the tie, since it does so in the control, too.)
#
# ### What if the tie breaks?
#
# Where the hue always goes with `x`, a code need not hold both. Here is the pair of *hue-of-place*
# whose scores, all in all, are the closest to those of the others (though its SB run has the
# highest, so the worst, reconstruction term), with discs of hues that, but in the middle, training
# never showed at their places. In the upper half, a disc of the hue of the middle moves to the
# right, and in the lower half a disc in the middle changes its hue.

# %%
tie = WORLDS["hue-of-place"]
pair = {name: load_run(f"hue-of-place-{name}").vae for name in PAIR}
line = torch.linspace(0.15, 0.85, 7)
center, rows = torch.full_like(line, 0.5), {}
for what, (x, h) in {"moved": (line, center), "recolored": (center, line)}.items():
    inputs = tie.draw({"x": x, "y": center, "h": h})
    rows |= {f"{what}:\ninput": inputs.numpy()} | {
        f"{what}:\n{NAMES[name]}": decode(vae, encode(vae, inputs)[0]) for name, vae in pair.items()
    }
Picture(
    image_grid(np.stack(list(rows.values())), list(rows), cell=0.9),
    "broken_tie",
    "Six rows of seven pictures. A cyan disc moves to the right: both decoders draw it yellow on "
    "the left, cyan in the middle and magenta on the right, Spatial Broadcast smaller at both "
    "sides. A disc in the middle changes its hue from yellow to magenta: both draw it "
    "cyan, DeConv darker in some pictures, Spatial Broadcast too large at both ends.",
)

# %% [markdown]
# Both decoders draw the disc in the hue that goes with its place, whatever its own is. So neither
# draws a hue apart from its place, which training never asked for. How far from its place, in
# pixels, do they draw it? The rows of the table group discs, over a grid of places and hues, by the
# gap between their hue and that of their place.

# %% tags=["nbval-check-output"]
line = torch.linspace(0.15, 0.85, 15)
x, h, y = (
    axis.flatten()
    for axis in torch.meshgrid(line, line, torch.tensor([0.25, 0.5, 0.75]), indexing="ij")
)
inputs = tie.draw({"x": x, "y": y, "h": h})
centers, missed = find_blobs(inputs.numpy()).centroid, {}
for name, vae in pair.items():
    drawn = find_blobs(decode(vae, encode(vae, inputs)[0]))
    print(f"{NAMES[name]}: one blob in {(drawn.count == 1).mean():.0%} of the pictures")
    missed[NAMES[name]] = np.linalg.norm(drawn.centroid - centers, axis=1)
apart = pd.cut(
    (x - h).abs().numpy(),
    [-0.01, 0.01, 0.1, 0.3, 0.5, 0.7],
    labels=["none", "to 0.1", "to 0.3", "to 0.5", "to 0.7"],
)
pd.DataFrame(missed).groupby(apart, observed=True).mean().round(1).rename_axis("gap")

# %% [markdown]
# Where the tie holds, both put the disc where it belongs. Where it does not, DeConv is still off by
# less than a pixel, and SB by two to five. (It is not off the more, the larger the gap is: at the
# largest gaps it is less.) So a hue that does not fit misleads SB, and hardly DeConv, and why we do
# not know. This is one pair of runs.
#
# What happens at the places that *triangle* did not show is told in [the next
# notebook](12_generalization.ipynb).
#
# ## The claims
#
# *Reproduced* means that all five seeds have the paper's sign, and *not reproduced* that we could
# not show it with a small part of the paper's steps. The third claim has no answer, and so no
# number.

# %% tags=["nbval-check-output"]
left = (1 - EVERY.set_index(["world", "decoder", "seed"]).explained).unstack(["world", "decoder"])
gap = (left["small"].sbd / left["small"].deconv) / (left["large"].sbd / left["large"].deconv)
claims.Report(
    *(
        claims.check(claim, intervals.mean(tables.difference(ROWS, score).groupby("seed").mean()))
        for claim, score in (("sprites-pictures", "reconstruction"), ("sprites-mig", "MIG"))
    ),
    claims.check("small-objects", intervals.mean(gap)),
)

# %% [markdown]
# ---
#
# **What you have seen**
#
# * When color, size, shape and angle vary as well, the SB decoder's codes of places still lie on a
#   plane, with every seed, and DeConv's with none.
# * MIG is better with the SB decoder, and low for both. It asks for single latents, and for every
#   factor. In the pair shown, an affine map reads place, size and hue from the SB code all the
#   same.
# * Whose pictures of sprites are better depends on the seed, after as many steps as we train. In
#   three worlds of large discs they are SB's with every seed, and in *hue-of-place*, after a fifth
#   of the steps, DeConv's.
# * Where factors depend on each other, SB's codes of places are flatter than DeConv's, with every
#   seed. If training shows half of the square, they lie on a plane as before. If each hue belongs
#   to one `x`, they are less flat, as measured with discs of other hues. In the pair shown, both
#   decoders then draw the hue of the place, and SB also misses the place, by several pixels.
# * At the study's decoder variance three of ten runs begin to draw discs of 4 pixels, too few to
#   say who gains. At a tenth of it all four did.
#
# **On your own** (solutions below)
#
# 1. Turn the two latents of the place in the hand-made *identity* code, by a few degrees at first.
#    Which scores fall, and how soon?
# 2. What does it cost a model, in nats per image, to draw no disc at all in *large*, and what in
#    *small*?
# 3. Make a world of your own, in which a triangle turns as it moves to the right.
#
# **Further reading.** Locatello and others 2019, [arXiv
# 1811.12359](https://arxiv.org/abs/1811.12359), train thousands of models, and find that seeds and
# hyperparameters matter more than the choice of the model. Hsu and others 2023, [arXiv
# 2305.18378](https://arxiv.org/abs/2305.18378), define InfoMEC.
#
# **Next.** [The next notebook](12_generalization.ipynb) asks about the places that training never
# showed.
#
# ## Solutions
#
# **1.** MIG loses a fifth after 5 degrees. SAP and InfoM lose less than that after 20, MCC hardly
# anything up to 20, and the affine readout never falls.

# %% tags=["solution", "hide-input", "nbval-check-output"]
hand_made, factors = disentanglement.hand_made()
rows = {}
for degrees in (0, 5, 10, 20, 45):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    code = hand_made["identity"].copy()
    code[:, :2] = code[:, :2] @ [[cos, -sin], [sin, cos]]
    rows[degrees] = {
        "MIG": mig(code, factors),
        "SAP": sap(code, factors),
        "MCC": mcc(code, factors),
        "InfoM": infomec(code, factors)["InfoM"],
        "affine readout R²": affine_r2(code, factors),
    }
pd.DataFrame(rows).T.rename_axis("degrees").round(2)

# %% [markdown]
# **2.** We divide the sum of squares of a picture by twice the decoder's variance. A small disc is
# worth a tenth of a large one.

# %% tags=["solution", "hide-input", "nbval-check-output"]
for name in ("large", "small"):
    images, _ = WORLDS[name].sample(1000, torch.Generator().manual_seed(0))
    nats = float(images.square().sum(dim=(1, 2, 3)).mean()) / 2
    print(
        f"{name}: {nats / sprites.VARIANCE:.0f} nats per image, and {nats / 0.3:.0f} at the "
        "post's variance"
    )

# %% [markdown]
# **3.** A `Rule` makes the angle a function of `x`, and a world is a value, so you need not
# register it anywhere. `train(TrainConfig("sbd", latent_dim=10), Stream(mine, 4096))`
# would train on it.

# %% tags=["solution", "hide-input"]
turning = Dependent(
    Continuous("x", 0.1, 0.9),
    Continuous("angle", 0, 2),
    Rule("angle = 2 x", ("x",), lambda x: 2 * x),
)
fixed = {"shape": SHAPES.index("triangle"), "y": 0.5, "scale": 0.25, "h": 0.1, "s": 0.8, "v": 1.0}
mine = World("turning", turning, fixed=tuple(fixed.items()))
images, factors = mine.sample(8, torch.Generator().manual_seed(0))
Picture(
    image_grid(images[factors["x"].argsort()][None].numpy(), ["turning"], cell=0.9),
    "turning",
    "A row of eight pictures of an orange triangle, which turns as it moves to the right.",
)
