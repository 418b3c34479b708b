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
# A VAE has to draw a disc at the place that its code names. This notebook builds the two decoders
# that the whole collection compares, one piece at a time, with the shape after each step.
#
# **What you'll do.** Take the encoder, the deconvolutional decoder and the Spatial Broadcast (SB)
# decoder apart; draw what the SB decoder sees; count parameters and multiply-adds; compute the loss
# by hand and against `torch.distributions`.
#
# **What you'll learn.** Why tiling a code over the image beats upsampling it when something has to
# be put *somewhere*, and what that costs.
#
# **What you'll need.** Convolutions and the idea of a VAE. [Notebook 01](01_data.ipynb) made the
# pictures.
#
# ---

# %%
import inspect

import torch
from IPython.display import Code
from torch.distributions import Independent, Normal, kl_divergence

from sbd_utils import claims, cost, data, models
from sbd_utils.figures import Picture, broadcast

LATENT_DIM, BATCH = 5, 16

# %% [markdown]
# We seed the weights, so that the pictures below are the same for everybody, and take a batch of 16
# images, spread over the data set.

# %%
torch.manual_seed(0)
images = data.make_sprites().images
x = images[:: len(images) // BATCH][:BATCH].clone()  # [batch, channels, height, width]


def show_shapes(layers: torch.nn.Module, value: torch.Tensor) -> torch.Tensor:
    """Send value through the layers and print its shape after each."""
    for layer in layers:
        value = layer(value)
        print(f"{type(layer).__name__:>16}  {list(value.shape)}")
    return value


# %% [markdown]
# ## The encoder
#
# Both models share it: four convolutions of stride 2 halve the image to 4×4, and two linear heads
# read off the mean and the log-variance of $q(z \mid x) = \mathcal N(\mu, \operatorname{diag}
# \sigma_z^2)$.

# %% tags=["nbval-check-output"]
encoder = models.Encoder(LATENT_DIM)
hidden = encoder.hidden(show_shapes(encoder.convolutions, x))
print("after the hidden layer", list(hidden.shape))
print("mu", list(encoder.mu(hidden).shape), " log_var", list(encoder.log_var(hidden).shape))

# %% [markdown]
# ## The usual way: upsample
#
# A DeConv decoder turns the code into a 2×2 feature map and doubles it five times.

# %% tags=["nbval-check-output"]
deconv = models.DeConvDecoder(LATENT_DIM)
z = torch.randn(BATCH, LATENT_DIM)
small = deconv.linear(z).view(-1, models.WIDTH, 2, 2)
print("linear, as a feature map", list(small.shape))
_ = show_shapes(deconv.deconvolutions, small)

# %% [markdown]
# Now think about what this network must learn to put a disc at $x = 0.3$. A convolution does the
# same thing everywhere; it cannot ask *where am I?* Apart from the zeros around the border,
# positions differ only in the linear layer that fills the 2×2 feature map. So the position has to
# be spelled out in a coarse code of four cells, handed down and refined at each doubling, with a
# new nonlinear rule at every scale for what half a cell to the right means. It can be learned.
# Nothing makes it linear in the code.
#
# ## The Spatial Broadcast way: tile, and say where
#
# The SB decoder (Watters et al. 2019) removes the whole ladder. Copy the code $z$ to every pixel,
# and append two channels that hold the pixel's own coordinates:
#
# $$ b_{ij} = \bigl(z_1, \dots, z_L,\; u_j,\; v_i\bigr), \qquad
# u_j = -1 + \tfrac{2j}{W-1}, \quad v_i = -1 + \tfrac{2i}{H-1}. $$
#
# Then apply convolutions of stride 1. Here is the package's code, all of it:

# %%
Code(inspect.getsource(models.SpatialBroadcastDecoder), language="python")

# %% [markdown]
# A footnote on `indexing="xy"`. The post calls `meshgrid` without it, and so its "x" channel varies
# along the rows. That is harmless, because the network gets both channels anyway, but it is
# misnamed; ours varies along the width.

# %% tags=["nbval-check-output"]
sbd = models.SpatialBroadcastDecoder(LATENT_DIM)
tiled = sbd.broadcast(z)
print("       broadcast ", list(tiled.shape))
_ = show_shapes(sbd.convolutions, tiled)

# %% [markdown]
# What enters the first convolution, for one code:

# %%
Picture(
    broadcast(tiled[0].numpy()),
    "broadcast",
    "Seven square panels: five are flat, one for each latent; the sixth grows from left to right "
    "and the seventh from top to bottom.",
)

# %% [markdown]
# Five flat panels, the same number at every pixel, and two ramps that never change from one image
# to the next. A pixel now has everything it needs *locally*: the code says where the disc is, the
# ramps say where the pixel is. Whether it lies in the disc is a comparison, such as
#
# $$ \operatorname{ReLU}(w\,(z_k - u_j) + c), $$
#
# and the center of one 3×3 kernel can compute it. Move the disc by changing $z_k$ and the answer
# shifts by the same amount everywhere in the image. Position in the picture *can be* linear in the
# code because subtraction is. That is the whole argument, and notebook 05 measures it.
#
# ## What it costs
#
# The parameters first.

# %% tags=["nbval-check-output"]
decoders = {"DeConv": deconv, "SBD": sbd}
parameters = {name: cost.count_parameters(decoder) for name, decoder in decoders.items()}
for name, count in parameters.items():
    print(f"{name:>6} decoder: {count:,} parameters")
print(f"the encoder: {cost.count_parameters(encoder):,}")

# %% [markdown]
# The SB decoder has under a sixth of the parameters, because it needs neither the linear layer nor
# the ladder. Its multiply-adds tell the other side of it: every layer works on all 64×64 pixels.

# %% tags=["nbval-check-output"]
for name, decoder in decoders.items():
    work = cost.multiply_adds(decoder, z[:1])
    print(f"{name:>6} decoder: {work / 1e6:.2f} million multiply-adds an image")

# %% [markdown]
# Seven times the work. Most of it sits in the middle convolution, 64 channels to 64 channels at
# full resolution. [Notebook 06](06_cost.ipynb) takes the costs apart, and the memory with them.
#
# ## The loss, by hand
#
# A VAE maximizes the evidence lower bound (Kingma and Welling 2014),
#
# $$ \mathcal L = \mathbb E_{q(z \mid x)} \log p(x \mid z)
#    - D_{\mathrm{KL}}\bigl(q(z \mid x) \,\|\, \mathcal N(0, I)\bigr). $$
#
# With $p(x \mid z) = \mathcal N(\hat x(z), \sigma^2 I)$ of fixed variance $\sigma^2 = 0.3$, the
# first term is $-\lVert x - \hat x \rVert^2 / 2\sigma^2$ plus a constant, which we drop, estimated
# with a single sample $z = \mu + e^{\frac12 \log \sigma_z^2} \varepsilon$. The second is
#
# $$ D_{\mathrm{KL}} = -\tfrac12 \sum_k
#    \bigl(1 + \log\sigma_{z,k}^2 - \mu_k^2 - \sigma_{z,k}^2\bigr). $$
#
# `loss_terms` returns the two in nats, one number an image. Every loss in this collection is in
# that unit.

# %%
Code(inspect.getsource(models.VAE.loss_terms), language="python")

# %% [markdown]
# Does it agree with a library that was written by somebody else?

# %% tags=["nbval-check-output"]
vae = models.VAE("sbd", LATENT_DIM, decoder_variance=0.3)
noise = torch.randn(BATCH, LATENT_DIM)
with torch.no_grad():
    reconstruction, kl = vae.loss_terms(x, noise)
    mu, log_var = vae.encode(x)
    posterior = Normal(mu, torch.exp(0.5 * log_var))
    prior = Normal(torch.zeros(LATENT_DIM), torch.ones(LATENT_DIM))
    expected_kl = kl_divergence(posterior, prior).sum(dim=1)
    mean = vae.decode(mu + posterior.stddev * noise)
    likelihood = Independent(Normal(mean, 0.3**0.5), 3)
    best = Independent(Normal(x, 0.3**0.5), 3).log_prob(x)  # the constant that the loss drops
    expected_reconstruction = best - likelihood.log_prob(x)
print("KL agrees:", torch.allclose(kl, expected_kl, atol=1e-4))
print("reconstruction agrees:", torch.allclose(reconstruction, expected_reconstruction, rtol=1e-3))

# %% [markdown]
# And one forward pass, to see where training starts. An untrained network draws something faint and
# wrong, which costs more than drawing nothing:

# %% tags=["nbval-check-output"]
black = (x.square().sum(dim=(1, 2, 3)) / (2 * 0.3)).mean()
print(f"an all-black picture would cost {black:.0f} nats")
print("the untrained VAE costs more than that:", bool(reconstruction.mean() > black))
print("and its KL term is below one nat:", bool(kl.mean() < 1))

# %% [markdown]
# ## The claims

# %%
report = claims.Report(claims.check("fewer-parameters", **parameters))
report

# %% tags=["nbval-check-output"]
print(report.verdicts())

# %% [markdown]
# ---
#
# In this notebook we have built both decoders from their layers, seen that a tiled code with
# coordinates turns *where* into a subtraction, paid for it in multiply-adds, and checked the loss
# against an independent implementation.
#
# **On your own.** Put a 1×1 kernel in the SB decoder's three layers. Can it still draw a disc? What
# does the 3×3 kernel buy?
#
# **In practice.** The coordinates are the part that most people reuse: object-centric models such
# as Slot Attention broadcast a code to a small grid and then upsample.
#
# **Further reading.** CoordConv: Liu et al. 2018, [arXiv
# 1807.03247](https://arxiv.org/abs/1807.03247). Checkerboards: Odena et al. 2016, *Distill*,
# [10.23915/distill.00003](https://doi.org/10.23915/distill.00003). VAEs: Kingma and Welling 2014,
# [arXiv 1312.6114](https://arxiv.org/abs/1312.6114). Next: [03, train both](03_training.ipynb).
