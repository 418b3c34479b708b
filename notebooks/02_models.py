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
# # Build two decoders and see what each must learn
#
# **Takeaway.** The Spatial Broadcast decoder (SB decoder) copies the code to every pixel and tells
# each pixel where it is, so that it can draw a disc *somewhere* by comparing numbers. It needs less
# than a sixth of the usual decoder's parameters, but about seven times its multiplications.
#
# A **VAE** (variational autoencoder) is an encoder that turns a picture into a few numbers, its
# **code** $z$, and a decoder that draws the picture from them. Each of the numbers is a **latent**,
# of which our two VAEs have five, and they differ in nothing but their decoder.
#
# You need to know what a convolution does; [the notebook on data](01_data.ipynb) draws the
# pictures.
#
# ---

# %%
import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from IPython.display import Code
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import relu
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sbd_utils import claims
from sbd_utils.data.circles import make_sprites
from sbd_utils.metrics import cost
from sbd_utils.metrics.intervals import exactly
from sbd_utils.models import decoders, layers
from sbd_utils.models.vae import VAE, Encoder
from sbd_utils.plots import pictures
from sbd_utils.plots.style import FACTOR_COLORS, NAMES, Picture, colors_and_labels, new_figure

LATENT_DIM, BATCH = 5, 16
COSTS = ["parameters", "million multiply-adds"]

# %% [markdown]
# The helper `walk` lists what comes out of each layer, without the ReLUs.

# %%
torch.manual_seed(0)
images = make_sprites().images
x = images[:: len(images) // BATCH][:BATCH].clone()  # [batch, channels, height, width]
z = torch.randn(BATCH, LATENT_DIM)


@torch.no_grad()
def walk(layers: nn.Sequential, value: torch.Tensor) -> pd.DataFrame:
    """Each layer's kernel, output shape of one image, parameters and work per image."""
    rows = [("input", "", list(value.shape[1:]), 0, 0)]
    for layer in layers:
        work = cost.multiply_adds(layer, value[:1])
        value = layer(value)
        if not isinstance(layer, nn.ReLU):
            kernel = "×".join(map(str, getattr(layer, "kernel_size", ())))
            rows.append(
                (
                    type(layer).__name__,
                    kernel,
                    list(value.shape[1:]),
                    cost.count_parameters(layer),
                    round(work / 1e6, 3),
                )
            )
    return pd.DataFrame(rows, columns=["layer", "kernel", "output", *COSTS])


# %% [markdown]
# ## The encoder
#
# Both VAEs have an encoder that starts like this. Two linear layers follow, which give the
# **posterior** $q(z \mid x)$, the encoder's guess at the code, as a normal distribution with a mean
# $\mu$ and a log-variance per latent.

# %% tags=["nbval-check-output"]
encoder = Encoder(LATENT_DIM)
mu, log_var = encoder(x)
print("mu", list(mu.shape), "log_var", list(log_var.shape))  # [batch, latent_dim]
walk(encoder.convolutions, x)[["layer", "kernel", "output"]]

# %% [markdown]
# ## The usual way: upsample
#
# The DeConv decoder turns the code into a 2×2 feature map and doubles it five times by transposed
# convolutions, also called deconvolutions. (Our `TransposedConv2d` is PyTorch's
# `nn.ConvTranspose2d`, made [faster](06_cost.ipynb).)


# %% tags=["nbval-check-output"]
def double(out):
    """A transposed convolution that doubles the sides of 64 feature maps."""
    return layers.TransposedConv2d(64, out, kernel_size=4, stride=2, padding=1)


deconv = nn.Sequential(
    nn.Linear(LATENT_DIM, 256),
    nn.ReLU(),
    nn.Unflatten(1, (64, 2, 2)),
    double(64),
    nn.ReLU(),
    double(64),
    nn.ReLU(),
    double(64),
    nn.ReLU(),
    double(64),
    nn.ReLU(),
    double(3),
)
tables = {"deconv": walk(deconv, z)}
tables["deconv"]

# %% [markdown]
# What must this network learn to put a disc at $x = 0.3$? A convolution does the same thing
# everywhere, so away from the border it doesn't know at which pixel it works. The linear layer has
# to write the position into four cells, and each doubling has to refine it. A network can learn
# this, but none of these layers offers it a simple map from code to place.
#
# ## The Spatial Broadcast way: tile, and say where
#
# The SB decoder (Watters and others 2019) copies the code $z$ to every pixel and appends two
# channels with the pixel's own coordinates. At row $i$ and column $j$ of an image $H$ pixels high
# and $W$ pixels wide, this gives
#
# $$ b_{ij} = \bigl(z_1, \dots, z_5,\; u_j,\; v_i\bigr), \qquad
# u_j = -1 + \tfrac{2j}{W-1}, \quad v_i = -1 + \tfrac{2i}{H-1}. $$
#
# Convolutions of stride 1 do the rest, so this is all that is new:

# %%
parts = layers.Broadcast, layers.coordinate_grid, layers.AppendCoordinates
Code("\n\n".join(map(inspect.getsource, parts)), language="python")

# %% tags=["nbval-check-output"]
sbd = nn.Sequential(
    layers.Broadcast(64),
    layers.AppendCoordinates(),
    nn.Conv2d(LATENT_DIM + 2, 64, kernel_size=3, padding=1),
    nn.ReLU(),
    nn.Conv2d(64, 64, kernel_size=3, padding=1),
    nn.ReLU(),
    nn.Conv2d(64, 3, kernel_size=3, padding=1),
)
tables["sbd"] = walk(sbd, z)
tables["sbd"]

# %% [markdown]
# The figure shows what comes out of each layer, with a sheet per channel, of which 64 merge into a
# block. In the lower row, the green sheet is the appended $x$ and the pink one $y$.


# %% tags=["hide-input"]
def draw_block(axes: Axes, left: float, shape: list[int], colors: list[str]) -> float:
    """Numbers as a bar, channels as sheets from back to front; returns where the block ends."""
    count = shape[0]
    side = 0.1 if len(shape) == 1 else 0.11 * shape[1] ** 0.5
    few = count < 20
    if len(shape) == 1:
        height = 0.05 * count**0.55
        corners = [(left, height * (0.5 - (k + 1) / count)) for k in range(count)]
        size, depth = (side, height / count), 0.0
    else:
        depth = 0.04 * (count - 1) if few else 0.035 * count**0.5
        shifts = [depth * (count - 1 - k) / (count - 1) for k in range(count)]
        corners = [(left + shift, shift - (side + depth) / 2) for shift in shifts]
        size = side, side
    for k, (corner, color) in enumerate(zip(corners, colors, strict=True)):
        edge = "white" if few or (depth and k == count - 1) else color
        axes.add_patch(Rectangle(corner, *size, facecolor=color, edgecolor=edge, linewidth=0.6))
    return left + side + depth


# %% tags=["hide-input"]
LAYER_WORDS = {
    "Linear": "linear",
    "Unflatten": "reshape",
    "TransposedConv2d": "deconv",
    "Broadcast": "broad-\ncast",
    "AppendCoordinates": "append\nx and y",
    "Conv2d": "conv",
}
ARROW = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0}


def draw_layers(axes: Axes, layers: list, known: str) -> float:
    """A row of blocks, with an arrow to each from the one before; returns where the row ends."""
    right = 0.0
    for i, (layer, kernel, shape) in enumerate(layers):
        if i > 0:
            words = f"{LAYER_WORDS[layer]}\n{kernel}".strip()
            axes.annotate("", (right + 0.64, 0), (right + 0.06, 0), arrowprops=ARROW)
            axes.text(right + 0.34, 0.06, words, ha="center", va="bottom", fontsize=8)
            right += 0.7
        colors = [known] * shape[0]
        if layer == "AppendCoordinates":
            colors[-2:] = FACTOR_COLORS["x"], FACTOR_COLORS["y"]
        left, right = right, draw_block(axes, right, shape, colors)
        role = "(code)" if i == 0 else "(image)" if i == len(layers) - 1 else ""
        size = " channels\nof " + "×".join(map(str, shape[1:])) if shape[1:] else "\nnumbers"
        words = f"{shape[0]}{size}\n{role}".strip()
        axes.text((left + right) / 2, -0.7, words, ha="center", va="top", fontsize=8)
    return right


# %% tags=["hide-input"]
def schematic(steps: dict[str, list]) -> Figure:
    """Decoders as rows of blocks, whose sides grow as the root of their pixels."""
    figure = new_figure(8, 2.1 * len(steps))
    rows = figure.subplots(len(steps), 1)
    ends = []
    for axes, (decoder, (color, name)) in zip(rows, colors_and_labels(steps).items(), strict=True):
        ends.append(draw_layers(axes, steps[decoder], color))
        axes.set(ylim=(-1.3, 0.75), aspect="equal")
        axes.set_axis_off()
        axes.set_title(f"{name} decoder", color=color, loc="left")
    for axes in rows:
        axes.set_xlim(-0.4, max(ends) + 0.1)
    return figure


# %%
steps = {name: table[["layer", "kernel", "output"]].values for name, table in tables.items()}
Picture(
    schematic(steps),
    "schematic",
    "Above, the DeConv decoder: a code of 5 numbers becomes 256 numbers and 64 channels of 2 by 2, "
    "which five deconvolutions double until they are an image of 64 by 64. Below, the Spatial "
    "Broadcast decoder: the code becomes 5 channels of 64 by 64, two channels x and y are "
    "appended in green and pink, and three convolutions of the same size end in the image.",
)

# %% [markdown]
# The DeConv decoder climbs from four cells to the full image, while the SB decoder works at full
# size throughout. For the code $(-1, -0.5, 0, 0.5, 1)$, its first convolution gets this input:


# %% tags=["hide-input"]
def broadcast(tiled: np.ndarray) -> Figure:
    """The input of the SB decoder [latent_dim + 2, height, width], channel by channel."""
    figure = new_figure(8, 1.6)
    bound = max(1.0, float(np.abs(tiled).max()))
    labels = [f"latent {k}" for k in range(1, len(tiled) - 1)] + ["x", "y"]
    panels = figure.subplots(1, len(tiled))
    for axes, channel, label in zip(panels, tiled, labels, strict=True):
        shown = axes.imshow(channel, cmap="RdBu_r", vmin=-bound, vmax=bound)
        axes.set(xticks=[], yticks=[], title=label)
    panels[0].set(
        xticks=[0, tiled.shape[2] - 1], yticks=[0, tiled.shape[1] - 1], ylabel="pixel row"
    )
    figure.supxlabel("pixel column", fontsize="medium")
    figure.colorbar(shown, ax=panels, shrink=0.8, label="value")
    return figure


# %%
code = torch.linspace(-1, 1, LATENT_DIM)[None]  # [batch, latent_dim]
Picture(
    broadcast(sbd[:2](code)[0].numpy()),
    "broadcast",
    "Seven square panels: five are flat, one for each latent; the sixth grows from left to right "
    "and the seventh from top to bottom.",
)

# %% [markdown]
# The code, in five flat panels, can say where the disc is. The two ramps, the same for every image,
# say where the pixel is.
#
# Later notebooks compare many decoders, which the package writes as configurations. We copy the
# weights from above into decoders built from our two configurations and check that they draw the
# same:

# %% tags=["nbval-check-output"]
deconv_config = decoders.DecoderConfig()
sbd_config = decoders.DecoderConfig(
    start="broadcast", base_size=None, coordinates="first", kernel=3
)
# base_size: of the first map, None for the image's own
assert (deconv_config, sbd_config) == (decoders.DECONV, decoders.SBD)

for model, config in ((deconv, deconv_config), (sbd, sbd_config)):
    decoder = decoders.ComposedDecoder(LATENT_DIM, 64, config)
    vector_to_parameters(parameters_to_vector(model.parameters()), decoder.parameters())
    print("the same picture, bit for bit:", torch.equal(decoder(z), model(z)))

# %% [markdown]
# ## A disc from edges
#
# How do the coordinates help? Say that latent 1 holds the disc's $x$ and latent 2 its $y$. A
# channel of the first layer can subtract the code from the coordinates:
#
# $$ \operatorname{ReLU}\bigl(u_j - z_1 - r\bigr). $$
#
# This is zero up to the right edge of a disc of radius $r$ and positive beyond, so it marks a half
# plane. A second layer can start from 1 and subtract several such edges with a large weight, so
# that a pixel stays bright only where all are zero. With weights set by hand, two codes give:

# %%
u, v = layers.coordinate_grid(64, 64)  # [height, width] each


def by_hand(z1, z2, count, radius=0.27):
    """First layer: count edges around (z1, z2). Second layer: what lies beyond none of them."""
    angles = torch.arange(count) * 2 * torch.pi / count
    edges = [relu(a.cos() * (u - z1) + a.sin() * (v - z2) - radius) for a in angles]
    return edges, relu(1 - 30 * sum(edges))


rows = {}
for z1, z2 in ((-0.4, -0.3), (0.3, 0.4)):
    edges, square = by_hand(z1, z2, count=4)
    maps = dict(zip(("right edge", "lower edge", "left edge", "upper edge"), edges, strict=True))
    maps |= {"from 4 edges": square, "from 16 edges": by_hand(z1, z2, count=16)[1]}
    rows[f"latents {z1}, {z2}"] = {name: values.numpy() for name, values in maps.items()}
Picture(
    pictures.heat_maps(rows, "value of the channel"),
    "edges",
    "Two rows, one per code. Four panels show half planes, bright to the right, at the bottom, to "
    "the left and at the top; the fifth shows a bright square and the sixth a bright disc. In the "
    "second row all edges have moved to the lower right.",
)

# %% [markdown]
# Four edges leave a square, and sixteen a disc. When the code changes, all edges move along by the
# same amount, so that an SB decoder *can* draw from a code that is linear in the position. Whether
# training finds one is the question of [the notebook on geometry](05_geometry.ipynb).
#
# ## What it costs
#
# We add up the last two columns of the tables above. (A multiply-add is one product added to a
# sum.)

# %% tags=["nbval-check-output"]
total = pd.DataFrame({NAMES[name]: table[COSTS].sum() for name, table in tables.items()})
total["SB over DeConv"] = total[NAMES["sbd"]] / total[NAMES["deconv"]]
total.map(claims.format_value)

# %% [markdown]
# The SB decoder has fewer parameters because only one of its layers goes from 64 channels to 64,
# with kernels of 3×3, while DeConv has four, with kernels of 4×4. But all SB layers work on all
# pixels. [The notebook on cost](06_cost.ipynb) turns to time and memory.
#
# ## The loss, by hand
#
# A VAE maximizes a lower bound on the log-probability of the data (Kingma and Welling 2014),
#
# $$ \mathcal L = \mathbb E_{q(z \mid x)} \log p(x \mid z)
#    - D_{\mathrm{KL}}\bigl(q(z \mid x) \,\|\, \mathcal N(0, I)\bigr). $$
#
# The first term rewards a good reconstruction $\hat x(z)$. With $p(x \mid z) = \mathcal N(\hat
# x(z), \sigma^2 I)$ and $\sigma^2 = 0.3$ it is $-\lVert x - \hat x \rVert^2 / 2\sigma^2$ plus a
# constant, which we drop. So the post's $\sigma^2$ sets what a squared error costs against the
# other term. We estimate it from one sample $z = \mu + e^{\frac12 \log \sigma_z^2} \varepsilon$ per
# image. The second, the **KL term**, says how far the posterior is from a standard normal
# distribution:
#
# $$ D_{\mathrm{KL}} = -\tfrac12 \sum_k
#    \bigl(1 + \log\sigma_{z,k}^2 - \mu_k^2 - \sigma_{z,k}^2\bigr). $$
#
# Training lowers the sum of the KL term and the negative first term, which grows with the error.
# The unit is the **nat** per image; a nat is 1.44 bits. The package's code for both terms:

# %%
Code(inspect.getsource(VAE.loss_terms), language="python")

# %% [markdown]
# We compare these formulas with PyTorch's own distributions:

# %% tags=["nbval-check-output"]
vae = VAE("sbd", LATENT_DIM, decoder_variance=0.3)
noise = torch.randn(BATCH, LATENT_DIM)
with torch.no_grad():
    reconstruction, kl = vae.loss_terms(x, noise)
    mu, log_var = vae.encode(x)
    posterior = Normal(mu, torch.exp(0.5 * log_var))
    expected_kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1)
    mean = vae.decode(mu + posterior.stddev * noise)
    likelihood = Independent(Normal(mean, 0.3**0.5), 3)
    best = Independent(Normal(x, 0.3**0.5), 3).log_prob(x)  # the constant that the loss drops
    expected_reconstruction = best - likelihood.log_prob(x)
print("KL agrees:", torch.allclose(kl, expected_kl, atol=1e-4))
print("reconstruction agrees:", torch.allclose(reconstruction, expected_reconstruction, rtol=1e-3))

# %% [markdown]
# ## The claim
#
# The [blog post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) that we
# reproduce says that the SB decoder has fewer parameters, so we divide its count by DeConv's.

# %% tags=["nbval-check-output"]
ratio = cost.count_parameters(sbd) / cost.count_parameters(deconv)
claims.Report(claims.check("fewer-parameters", exactly(ratio)))

# %% [markdown]
# ---
#
# **What you have seen**
#
# * A DeConv decoder must write a place into four cells and refine it at every doubling.
# * An SB decoder can compare the code with coordinates, and draw edges in one layer and a disc in
#   the next.
# * It has fewer parameters but works on every pixel in every layer, so that it computes more.
#
# **On your own** (solutions below)
#
# 1. Take the SB decoder with 1×1 kernels and set its weights so that it draws a red disc.
# 2. Take the coordinates away from the SB decoder. What can it still draw?
# 3. How do parameters and multiply-adds of both decoders grow with the size of the image?
#
# **Further reading**
#
# * The SB decoder: Watters et al. 2019, [arXiv 1901.07017](https://arxiv.org/abs/1901.07017)
# * Convolutions with coordinates: Liu et al. 2018, [arXiv
#   1807.03247](https://arxiv.org/abs/1807.03247)
# * VAEs: Kingma and Welling 2014, [arXiv 1312.6114](https://arxiv.org/abs/1312.6114)
# * Slot Attention, which broadcasts the code of each object: Locatello et al. 2020, [arXiv
#   2006.15055](https://arxiv.org/abs/2006.15055)
#
# **Next.** In [the next notebook](03_training.ipynb) we train both models.
#
# ## Solutions
#
# **1.** Here are the sixteen edges from above as weights of the package's decoder. A 1×1 kernel is
# enough for a disc, and a 3×3 kernel also lets a pixel see its neighbors.

# %% tags=["solution", "hide-input"]
decoder = decoders.ComposedDecoder(LATENT_DIM, 64, replace(decoders.SBD, kernel=1))
# The first holds the broadcast and a ReLU, too; its inputs 0 to 4 are the latents, 5 and 6 x and y.
first, second, third = (layer for layer in decoder if isinstance(layer, nn.Conv2d))
angles = torch.arange(16) * 2 * torch.pi / 16
directions = torch.stack([angles.cos(), angles.sin()], dim=1)[:, :, None, None]
with torch.no_grad():
    for weights in decoder.parameters():
        weights.zero_()
    first.weight[:16, :2] = -directions  # latents 1 and 2
    first.weight[:16, 5:] = directions  # x and y
    first.bias[:16] = -0.27
    second.weight[0, :16] = -30
    second.bias[0] = 1
    third.weight[0, 0] = 1  # red
    codes = torch.zeros(7, LATENT_DIM)
    codes[:, 0] = torch.arange(-6, 7, 2) / 10
    drawn = decoder(codes)
Picture(
    pictures.image_grid(
        drawn[None].numpy(),
        column_labels=[f"{c:.1f}" for c in codes[:, 0]],
        x_label="latent 1",
        cell=1.0,
    ),
    "disc_by_hand",
    "Seven pictures of a red disc that moves from left to right as latent 1 grows.",
)

# %% [markdown]
# **2.** Every pixel gets the same input, so all pixels draw the same color, except those that feel
# the zeros at the border. Through three 3×3 kernels they reach three pixels far.

# %% tags=["solution", "hide-input", "nbval-check-output"]
with torch.no_grad():
    drawn = decoders.builder("sbd-no-xy")(LATENT_DIM, 64)(z)
for margin in (0, 3):
    inner = drawn[:, :, margin : 64 - margin, margin : 64 - margin]
    spread = inner.amax(dim=(2, 3)) - inner.amin(dim=(2, 3))
    print(f"all pixels but a margin of {margin} are the same:", bool(spread.max() < 1e-5))

# %% [markdown]
# **3.** Four times the pixels cost the SB decoder four times the work and not one parameter. DeConv
# gets one layer more per doubling, and its work grows by a factor of four as well.

# %% tags=["solution", "hide-input", "nbval-check-output"]
rows = []
for name, config in (("deconv", decoders.DECONV), ("sbd", decoders.SBD)):
    for size in (32, 64, 128, 256):
        decoder = decoders.ComposedDecoder(LATENT_DIM, size, config)
        rows.append(
            (
                NAMES[name],
                size,
                cost.count_parameters(decoder),
                round(cost.multiply_adds(decoder, z[:1]) / 1e6, 1),
            )
        )
pd.DataFrame(rows, columns=["decoder", "pixels per side", *COSTS]).set_index("decoder")
