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
# # Draw a disc where no model has ever seen one
#
# **Takeaway.** If you train a model on three quarters of the plane, can it draw in the last one?
# The paper's abstract says that the Spatial Broadcast decoder generalizes better to such places. In
# this notebook you see how we hold a region out, and what we asked before we trained anything. The
# results will follow here, once the study has run.
#
# A **VAE** (variational autoencoder) encodes a picture as a few numbers, its **code**, and a
# **decoder** draws the picture from them. We compare two of these decoders. DeConv doubles a small
# map step by step. The Spatial Broadcast decoder (SB decoder) copies the code to every pixel and
# appends the pixel's coordinates. The SB decoder has one rule for all pixels, so it may know how to
# draw where nothing was ever drawn. DeConv's first layer has weights of its own for each cell of
# its small map, so it may have to learn each. But both have an *encoder* of the same build, trained
# along with them, which has not seen these places, either. This is why we must ask about the two
# halves one by one.
#
# ---

# %%
import torch

from sbd_utils.figures.pictures import image_grid
from sbd_utils.figures.style import Picture
from sbd_utils.worlds.factors import Interval
from sbd_utils.worlds.sprites import WORLDS

# %% [markdown]
# ## Sets that compose
#
# A world says over which set its factors vary. You can compose such sets, since `*` makes a
# product, `|` a union and `-` takes one set out of another. The held-out places are those of the
# COBRA configuration of Spriteworld, the tool that the paper's first author published.

# %% tags=["nbval-check-output"]
places = Interval("x", 0.1, 0.9) * Interval("y", 0.1, 0.9)
corner = Interval("x", 0.5, 0.9) * Interval("y", 0.5, 0.9)
world = WORLDS["quadrant"]
hue = Interval("h", 0, 1, periodic=True)
print("our world is this set:", world.train == (places - corner) * hue)
seen = world.train.sample(10_000, torch.Generator().manual_seed(0))
print("draws in the corner:", int((corner * hue).contains(seen).sum()), "of", len(seen["x"]))

# %%
both = torch.stack([
    world.draw(part.sample(8, torch.Generator().manual_seed(2)))
    for part in (world.train, world.held_out)
])
Picture(
    image_grid(both.numpy(), ["training", "held out"], cell=0.9),
    "held_out",
    "Two rows of eight discs of all hues: above, nowhere in the lower right quarter; below, only "
    "there.",
)

# %% [markdown]
# What is held out is the *center* of a disc. Discs of training reach into the corner by half of
# their width.
#
# A second world, *triangle*, shows only places with `x + y < 1`. Its unseen half is larger, and it
# touches what was seen along a diagonal.
#
# ## What we ask, before we train
#
# We train both decoders on these worlds in the study of
# [the notebook on sprites](11_sprites.ipynb), with the same five seeds. We wrote down what we ask
# and when we call it a yes, and committed it before the seeds ran.
#
# Eight discs, each of its own hue, are moved over a lattice of places. On the places that were seen
# in training, we fit one affine map from place to code, which is a linear map and an offset. All
# discs share the slope, and each has an offset of its own. It gives us a code for the places that
# were *not* seen, without asking the encoder. Each error below is a root mean square over the
# unseen places, and the SB decoder has to have the lower one in *quadrant* in each of the five
# seeds.
#
# 1. **Drawing:** the decoder gets the affine map's code. How far off is the picture?
# 2. **Encoding:** how far is the encoder's code from the affine map's, as a share of how far the
#    codes of seen places vary?
# 3. **Both:** how far off is the picture if it goes through encoder and decoder? This is the
#    paper's claim.
#
# A lower error may come from being better everywhere, so we show the error over the seen places
# beside it, and the ratio of the two. A ratio alone would mislead, since a decoder that is wrong
# where it was trained has little left to lose: if it only draws black, its ratio is about 1. As a
# control we show the same split in *large*, where nothing was held out. The error of pixels
# punishes a misplaced disc more than a missing one, so we also count the pictures with one blob
# within two pixels of its place. None of these decides an answer, and neither does *triangle*,
# which we show as well.
#
# Settings, seeds and what counts as a yes are those of the other notebook, which also shows the
# function that measures this.
