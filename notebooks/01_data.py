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
# # Draw a world with three factors of variation
#
# **Takeaway.** Our world is one disc on a black square, at one of 35 by 35 places and in one of
# three colors. Every combination of place and color occurs exactly once, so nothing in the data
# ties the two together.
#
# Why would you want a model that tells place and color apart? Suppose that a network describes each
# picture by five numbers. If one of them is the color and two others are the place, you can move
# the disc without repainting it, or ask for a blue disc where you have only seen red ones. If every
# number holds a bit of everything, no single number does either. We call a description of the first
# kind **disentangled**.
#
# The network will be a **VAE** (variational autoencoder), which is an encoder that turns a picture
# into a few numbers and a decoder that draws the picture from them. Together these numbers are the
# picture's **code**, and each of them is a **latent**. Only somebody who knows what made the
# pictures can judge whether a code is disentangled, so we make them ourselves.
#
# We repeat an experiment from a blog post by Markus Borea, [*Spatial Broadcast Decoder: A Simple
# Architecture for Learning Disentangled Representations in
# VAEs*](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) (2020). It
# reimplements the core of the [paper](https://arxiv.org/abs/1901.07017) of the same name by
# Watters, Matthey, Burgess and Lerchner (2019).
#
# You need to know NumPy and PyTorch tensors, and nothing is downloaded.
#
# ---

# %%
import numpy as np
import pandas as pd

from sbd_utils import claims
from sbd_utils.data.circles import COLORS, draw_sprite, make_sprites
from sbd_utils.metrics.intervals import exactly
from sbd_utils.plots.pictures import image_grid
from sbd_utils.plots.style import Picture

# %% [markdown]
# ## One disc
#
# A sprite is a small shape in a picture. Five factors describe each of ours: `x` and `y` say where
# it is, as a fraction of the available range, while `shape`, `size` and `color` say what it is. The
# function `draw_sprite` turns them into a picture, a float tensor with values in $[0, 1]$.

# %% tags=["nbval-check-output"]
sprite = draw_sprite(x=0.5, y=0.25, shape="circle", size=16, color="red")
print(list(sprite.shape), sprite.dtype)  # [channels, height, width]
print("pixels across:", int(sprite[0].any(dim=0).sum()))

# %% [markdown]
# A decoder will have to learn the rule that places the disc. In an image $S$ pixels wide, a sprite
# of size $s$ has the upper left corner
#
# $$(x_0, y_0) = (S - 2 - s)\,(x, y), \qquad \text{here } 46\,(x, y).$$
#
# (Pillow paints both ends of a disc's extent, so a disc of size 16 is 17 pixels across, and the 2
# leaves room for that.) The corner may lie between two pixels, but Pillow, the library that draws,
# paints whole pixels only. A small step in $x$ therefore sometimes moves the picture and sometimes
# does not:

# %% tags=["nbval-check-output"]
fine = [draw_sprite(float(x), 0.5) for x in np.linspace(0.2, 0.8, 31)]
changes = sum(bool((a != b).any()) for a, b in zip(fine, fine[1:], strict=False))
print(f"{len(fine) - 1} small steps in x change the picture {changes} times")

# %% [markdown]
# So the picture follows $x$ like a staircase, with steps one pixel high. A code that tracks the
# picture perfectly is a staircase too, and even the best straight line misses it by part of a
# pixel. Remember this when [the notebook on geometry](05_geometry.ipynb) fits straight lines and
# finds scores just below one.
#
# ## Every combination, once
#
# The data set is a full grid, with every $x$, every $y$ and every color in one shape and one size.
# The table counts how many values each factor takes.

# %% tags=["nbval-check-output"]
sprites = make_sprites(image_size=64, sizes=(16,), positions=35, shapes=("circle",), colors=COLORS)
print("images:", list(sprites.images.shape), sprites.images.dtype)
pd.DataFrame(sprites.factors).nunique().to_frame("values")

# %% [markdown]
# A **factor of variation** is a property that varies across the data set. Shape and size have a
# single value here, so only $x$, $y$ and color remain. In a full grid they are also *independent*,
# which means that knowing the color tells you nothing about the place.
#
# The figure shows the grid at three of the 35 places per side. Along a row of a block only $x$
# changes, down a column only $y$, and the three blocks differ only in color.

# %%
steps = (0, 0.5, 1)
gap = np.ones((len(steps), 1, 3, 64, 64))  # [rows, columns, channels, height, width]
blocks = []
for color in COLORS:
    blocks += [[[draw_sprite(x, y, color=color).numpy() for x in steps] for y in steps], gap]
Picture(
    image_grid(
        np.concatenate(blocks[:-1], axis=1),
        [f"y = {y}" for y in steps],
        ([*(str(x) for x in steps), ""] * 3)[:-1],
        x_label="x",
        cell=0.66,
    ),
    "factor_grid",
    "Three blocks of three by three pictures, red, green and blue: in each block a disc moves to "
    "the right along a row and down along a column.",
)

# %% [markdown]
# You can see that larger $y$ is further *down*, as usual in images. The models will get these
# pictures without their factors, so a VAE has to find out by itself that there is an $x$.
#
# ## Green is only half as bright
#
# In the green block the discs are dim, because HTML's `green` has half the brightness of the color
# that it calls `lime`. The last column sums the squares of a picture's pixel values.

# %% tags=["nbval-check-output"]
rows = []
for color in ("red", "green", "lime", "blue"):
    disc = draw_sprite(0.5, 0.5, color=color)
    rows.append((color, round(float(disc.max()), 2), round(float(disc.square().sum()))))
pd.DataFrame(rows, columns=["color", "brightest value", "sum of squares"]).set_index("color")

# %% [markdown]
# We will train the models on squared errors, and half the brightness makes a quarter of the squared
# error. A model that forgets a green disc altogether pays a quarter of what a forgotten red one
# costs.
#
# ## The claims
#
# The post says that there are 3675 images and three factors of variation. We count the *different*
# images and the factors with more than one value. Wherever we judge claims, you find such a table
# of them, our results and a verdict.

# %% tags=["nbval-check-output"]
different = len({image.tobytes() for image in sprites.images.numpy()})
varying = sum(len(np.unique(values)) > 1 for values in sprites.factors.values())
claims.Report(claims.check("images", exactly(different)), claims.check("factors", exactly(varying)))

# %% [markdown]
# ---
#
# **What you have seen**
#
# * Three independent factors, $x$, $y$ and color, make every picture of this world.
# * Places come in whole pixels, so a perfect code is a fine staircase and not quite a line.
# * Leaving out a green disc costs a quarter of leaving out a red or a blue one.
#
# **On your own** (solutions below)
#
# 1. Let color depend on $x$: red on the left, green in the middle, blue on the right. Would you
#    still call color a factor of variation?
# 2. Take 100 or 200 places per side in place of 35. How many of them can you tell apart?
# 3. Draw a world with two shapes, three sizes and two colors. How many factors does it have?
#
# **Further reading.** [dSprites](https://github.com/google-deepmind/dsprites-dataset) and
# [Spriteworld](https://github.com/google-deepmind/spriteworld) are larger worlds of this kind, made
# because real pictures come without a list of their factors.
#
# **Next.** In [the next notebook](02_models.ipynb) we build the two decoders that will draw these
# discs.
#
# ## Solutions
#
# **1.** We keep only the images whose color fits their place, and count the colors per value of
# $x$. Color still varies, but $x$ gives it away, so that these images have only two independent
# factors.

# %% tags=["solution", "hide-input", "nbval-check-output"]
factors = pd.DataFrame(sprites.factors)
third = np.minimum(factors["x"] * 3, 2).astype(int)
tied = factors[factors["color"] == np.array(COLORS)[third]]
for name, table in (("full grid", factors), ("tied", tied)):
    per_x = table.groupby("x")["color"].nunique().max()
    print(f"{name}: {len(table)} images, {table['color'].nunique()} colors, {per_x} per value of x")

# %% [markdown]
# **2.** However fine the grid, there are only as many places as whole pixels in the available
# range. With 35 places, neighbors are more than one pixel apart and all of them stay different.

# %% tags=["solution", "hide-input", "nbval-check-output"]
for places in (35, 100, 200):
    pictures = {draw_sprite(x, 0.5).numpy().tobytes() for x in np.linspace(0, 1, places).tolist()}
    print(f"{places} values of x make {len(pictures)} different pictures")

# %% [markdown]
# **3.** The answer is five, since `x` and `y` vary as well. The figure shows the discs and squares
# in one of the corners.

# %% tags=["solution", "hide-input"]
zoo = make_sprites(48, (8, 16, 24), 2, ("circle", "square"), ("orange", "#8060ff"))
print("factors:", sum(len(np.unique(values)) > 1 for values in zoo.factors.values()))
Picture(
    image_grid(
        zoo.images[:12].reshape(2, 6, 3, 48, 48).numpy(),
        ["circle", "square"],
        [str(size) for size in np.repeat((8, 16, 24), 2)],
        x_label="size in pixels",
        cell=1.0,
    ),
    "other_sprites",
    "Circles above and squares below, in three sizes and two colors, all in the upper left corner.",
)
