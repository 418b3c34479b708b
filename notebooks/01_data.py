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
# Before a model can be asked whether it *disentangles* anything, there must be something to tell
# apart, and we must know what it is. So we build the smallest world that can fail in an interesting
# way: one disc on a black background, which can be anywhere and has one of three colors.
#
# **What you'll do.** Draw all 3675 pictures of that world, look at them, and check that they are
# what the blog post describes.
#
# **What you'll learn.** What a *factor of variation* is, why it matters that every combination of
# factors occurs exactly once, and three details of this data set that leave traces in every later
# result.
#
# **What you'll need.** NumPy and PyTorch tensors. Nothing is downloaded; Pillow draws everything.
#
# ---

# %%
import numpy as np

from sbd_utils import claims, data
from sbd_utils.figures import Picture, image_grid

COLORS = ("red", "green", "blue")

# %% [markdown]
# ## One sprite
#
# A sprite is given by five factors: `x` and `y` say where it is, as a fraction of the way that is
# free, and `shape`, `size` and `color` say what it is. `draw_sprite` turns them into a picture, a
# float tensor in $[0, 1]$.

# %% tags=["nbval-check-output"]
sprite = data.draw_sprite(x=0.5, y=0.25, shape="circle", size=16, color="red")
print(sprite.shape, sprite.dtype)  # [channels, height, width]

# %% [markdown]
# The rule that places it is worth writing down, because a decoder will have to learn it. On an
# image $S$ pixels wide, a sprite of size $s$ gets the box whose upper left corner is
#
# $$(x_0, y_0) = (S - 2 - s)\,(x, y), \qquad \text{here } 46\,(x, y).$$
#
# Two things follow. Pillow includes the last row and column of a box, so our disc of size 16 is 17
# pixels across. And it receives the corner as a fraction of a pixel but draws without
# anti-aliasing, so a small step in $x$ sometimes moves the picture and sometimes does not:

# %% tags=["nbval-check-output"]
occupied = sprite[0].any(dim=0).sum(), sprite[0].any(dim=1).sum()
print("columns and rows that the disc covers:", *(int(n) for n in occupied))

fine = [data.draw_sprite(x, 0.5) for x in np.linspace(0.2, 0.8, 31)]
changes = sum(bool((a != b).any()) for a, b in zip(fine, fine[1:], strict=False))
print("30 small steps in x change the picture", changes, "times")

# %% [markdown]
# So the picture is a staircase in $x$, with steps one pixel high. A latent code that follows it
# perfectly is a staircase too, and even the best straight line through its codes misses by a part
# of a pixel. Keep that in mind when notebook 05 fits straight lines and finds $R^2$ just below 1.
#
# ## Every combination, once
#
# The data set is the full grid: 35 values of $x$, 35 of $y$ and three colors, with one shape and
# one size.

# %% tags=["nbval-check-output"]
sprites = data.make_sprites(
    image_size=64, sizes=(16,), positions=35, shapes=("circle",), colors=COLORS
)
print("images", list(sprites.images.shape), sprites.images.dtype)
for name, values in sprites.factors.items():
    print(f"{name}: {len(np.unique(values))} values")

# %% [markdown]
# A **factor of variation** is one of the knobs that made the picture, if it is turned at all. Shape
# and size have a single value here, so three factors remain: $x$, $y$ and color. The full grid
# makes them *independent*: knowing the color tells nothing about the place. That is what licenses
# the later question. If two factors always changed together, no model could know that they are two.
#
# A contact sheet, 40 pictures taken evenly from the set:

# %%
rows, columns = 4, 10
every = len(sprites.images) // (rows * columns)
sample = sprites.images[::every][: rows * columns].reshape(rows, columns, 3, 64, 64)
Picture(
    image_grid(sample.numpy(), title=f"every {every}th of {len(sprites.images)} images", cell=0.7),
    "contact_sheet",
    "Forty small pictures, each with one red, green or blue disc on black.",
)

# %% [markdown]
# The pictures come in a fixed order: $x$ changes slowest, then $y$, and color fastest, which is why
# the discs drift to the right as you read on, bobbing up and down on the way. Training shuffles
# them.
#
# Now the same world as a grid of factors. Along a row of a block only $x$ changes, down a block
# only $y$; the blocks differ only in color.

# %%
steps = np.linspace(0, 1, 5)
blocks = [
    [data.draw_sprite(x, y, color=color).numpy() for color in COLORS for x in steps]
    for y in steps
]
Picture(
    image_grid(
        np.array(blocks), [f"y = {y:.2f}" for y in steps], [f"{x:.2f}" for x in steps] * 3,
        title="the factor grid: five of 35 places a side, three colors", x_label="x", cell=0.52,
    ),
    "factor_grid",
    "Three blocks of five by five pictures: in each, a disc moves right along x and down along y.",
)

# %% [markdown]
# ## Green is darker than it looks
#
# Look at the green block again. HTML's `green` is not full green: that one is called `lime`.

# %% tags=["nbval-check-output"]
for color in ("red", "green", "lime", "blue"):
    disc = data.draw_sprite(0.5, 0.5, color=color)
    print(f"{color:>5}: brightest {disc.max():.2f}, squared norm {float(disc.square().sum()):.0f}")

# %% [markdown]
# Our loss will be a squared error, and half the brightness is a quarter of the squared error. A
# model that drops a green disc altogether pays a quarter of what dropping a red one costs. When a
# reconstruction is going to be wrong somewhere, expect it there.
#
# ## More than the post needs
#
# The generator draws squares as well, any set of sizes and of Pillow's colors, on an image of any
# size. Whatever you ask for comes as a full grid in the same order.

# %%
zoo = data.make_sprites(
    image_size=48, sizes=(8, 16, 24), positions=2, shapes=("circle", "square"),
    colors=("orange", "#8060ff"),
)
print("2 x 2 places, 2 shapes, 3 sizes, 2 colors:", len(zoo.images), "images")
Picture(
    image_grid(
        zoo.images[:12].reshape(2, 6, 3, 48, 48).numpy(), ["circle", "square"],
        [str(size) for size in np.repeat((8, 16, 24), 2)], x_label="size", cell=1.0,
    ),
    "other_sprites",
    "Circles above, squares below, in three sizes and two colors, all in the upper left corner.",
)

# %% [markdown]
# What cannot be drawn is refused at the door, with the reason:

# %% tags=["nbval-check-output"]
for wrong in ({"colors": ("ruby red",)}, {"sizes": (63,)}, {"shapes": ()}):
    try:
        data.make_sprites(**wrong)
    except ValueError as error:
        print(error)

# %% [markdown]
# ## The claim
#
# The post says: 3675 images and three factors of variation. Count the images, and the factors that
# take more than one value.

# %%
report = claims.Report(
    claims.check(
        "data-3675",
        images=len(np.unique(sprites.images.numpy().reshape(len(sprites.images), -1), axis=0)),
        factors=sum(len(np.unique(values)) > 1 for values in sprites.factors.values()),
    )
)
report

# %% tags=["nbval-check-output"]
print(report.verdicts())

# %% [markdown]
# The count is of *different* images: `np.unique` would have dropped any that were drawn twice. All
# 35 places stay apart because neighbors are $46 / 34 = 1.35$ pixels from each other.
#
# ---
#
# In this notebook we have drawn the whole data set, seen what its three factors are, and found
# three traces to watch for: positions come in whole pixels, green weighs a quarter, and the factors
# are independent by construction.
#
# **On your own.** Draw a world in which color depends on $x$ (red on the left, blue on the right).
# Would you still call color a factor of variation?
#
# **In practice.** Real data has no list of factors. Synthetic sets such as this one, dSprites or
# Spriteworld exist because a measure of disentanglement needs the truth to compare with.
#
# **Further reading.** The paper: Watters, Matthey, Burgess and Lerchner, *Spatial Broadcast
# Decoder*, 2019, [arXiv 1901.07017](https://arxiv.org/abs/1901.07017). Next: [02, build two
# decoders](02_models.ipynb).
