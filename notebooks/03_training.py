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
# # Train both decoders and compare their losses
#
# **Takeaway.** After 150 epochs, the VAE with the Spatial Broadcast decoder (SB decoder)
# reconstructs clearly better than the one with the DeConv decoder, and its code is a little
# cheaper. After 20 epochs you would have concluded that its pictures are the worse ones.
#
# A **VAE** (variational autoencoder) is an encoder that turns a picture into a few numbers, its
# **code**, and a decoder that draws the picture from them. Each of the numbers is a **latent**.
# Training lowers the sum of two terms, both **per image**:
#
# * The **reconstruction term** is the squared error of the drawn picture, divided by $2 \sigma^2$
#   with the post's *decoder variance* $\sigma^2 = 0.3$, which sets what an error costs against the
#   other term.
# * The **KL term** is the price of the code. For each image the encoder gives a distribution of
#   codes, the **posterior**, and the KL term says how far it is from a standard normal one.
#
# The unit of both is the **nat**, which is 1.44 bits. We follow a [blog
# post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) by Markus Borea, *the
# post* from here on, and compare two decoders. **DeConv** doubles a small map again and again by
# transposed convolutions. The **Spatial Broadcast decoder** (SB decoder) copies the code to every
# pixel, appends the pixel's coordinates, and convolves. [The notebook on models](02_models.ipynb)
# builds both. We load published runs, since training a pair takes half an hour or more.
#
# ---

# %%
import math

import pandas as pd
import torch
from livelossplot import PlotLosses
from livelossplot.outputs import MatplotlibPlot
from torch.utils.data import DataLoader

from sbd_utils import claims
from sbd_utils.data.circles import make_sprites
from sbd_utils.experiments import circles, tables
from sbd_utils.metrics import intervals
from sbd_utils.models.vae import VAE
from sbd_utils.plots import charts, pictures
from sbd_utils.plots.style import DECODER_COLORS, NAMES, Picture, colors_and_labels, new_figure
from sbd_utils.training.records import load_run

# %config InlineBackend.figure_format = "retina"
TERMS = {"reconstruction": "reconstruction term", "kl": "KL term"}
images = make_sprites().images  # [image, channels, height, width]

# %% [markdown]
# ## One epoch, live
#
# We use the post's settings: the optimizer Adam with a learning rate of $3 \cdot 10^{-4}$ and
# batches of 16 images. An **epoch** is one pass over all images. The function `live_plot` prepares
# livelossplot, a library that redraws its curves while a loop runs. A batch of 16 images gives a
# noisy loss, so the solid line is a mean over 20 steps.


# %%
def live_plot(color: str) -> PlotLosses:
    """Both terms against the step of training: every step pale, their running mean solid."""

    def style(axes, name: str, x_label: str) -> None:
        (line,) = axes.lines
        mean = pd.Series(line.get_ydata()).rolling(20, center=True, min_periods=1).mean()
        line.set(color=color, linewidth=0.7, alpha=0.3)
        axes.plot(line.get_xdata(), mean, color=color)
        axes.set(title=name[2:], xlabel="step", ylabel="nats per image", ylim=(0, None))

    # livelossplot sorts its panels by name. The digit keeps our order and is cut off above.
    groups = {f"{i} {title}": [term] for i, (term, title) in enumerate(TERMS.items())}
    return PlotLosses(groups=groups, outputs=[MatplotlibPlot(figsize=(8, 3), after_subplot=style)])


# %% [markdown]
# The loop below trains the DeConv VAE for one epoch. In each step it takes a batch, draws one code
# per image from the posterior, adds both terms, and moves the weights a little downhill.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
vae = VAE("deconv", latent_dim=5, decoder_variance=0.3)
optimizer = torch.optim.Adam(vae.parameters(), lr=3e-4)
plot = live_plot(DECODER_COLORS["deconv"])
for step, x in enumerate(DataLoader(images, batch_size=16, shuffle=True), start=1):
    noise = torch.randn(len(x), vae.latent_dim)  # it makes the sample of the code
    reconstruction, kl = vae.loss_terms(x, noise)  # [batch] each
    loss = (reconstruction + kl).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    plot.update({"reconstruction": reconstruction.mean().item(), "kl": kl.mean().item()})
    if step % 23 == 0:  # ten times per epoch, since drawing takes its time
        plot.send()

# %% [markdown]
# At first the reconstruction term, on the left, drops to a plateau while the KL term, on the right,
# stays near zero. There the VAE hardly uses its code and draws much the same picture for every
# image. Then it begins to use the code: the KL term rises and the reconstruction term falls again.
#
# This loop is all you need. The package's own does the same, [faster](06_cost.ipynb). As in the
# post, no images are held out, so every loss is one on training images.
#
# ## The published curves
#
# Now we look at the whole training of a typical run of each decoder, the one whose scores are
# closest to those of all runs. In a single score it may still lie at an end of the range: of all
# our SB runs this one has the lowest reconstruction term. (If you set `SBD_PRESET=blog`, the next
# cell trains both anew.) The diamonds in the strip at the right are the post's run after its last
# epoch, with numbers from its [author's notebook](https://github.com/borea17/Notebooks).


# %% tags=["hide-input"]
POST = 400  # where the post's values are drawn, beyond the epochs


def loss_curves(histories: dict, published: dict):
    """Both loss terms by epoch, and the post's last ones in a strip of their own."""
    figure = new_figure(8, 3.6)
    panels = figure.subplots(1, 2)
    for axes, (term, title) in zip(
        panels, {"reconstruction": "reconstruction term", "kl": "KL term"}.items(), strict=True
    ):
        for i, (decoder, (color, label)) in enumerate(
            colors_and_labels(histories).items(), start=1
        ):
            curve = histories[decoder][term]
            axes.plot(range(1, len(curve) + 1), curve, color=color, label=label)
            if decoder in published:
                last = published[decoder][term]
                axes.plot(
                    POST * 1.25 ** (i - (len(histories) + 1) / 2), last, "D", color=color, ms=5
                )  # side by side
        axes.plot([], [], "D", color="black", ms=5, label="the post's last epoch")
        axes.axvline(POST / 1.5, color="#999999", lw=0.8)
        axes.set(xscale="log", xlabel="epoch", ylabel="nats per image", title=title)
        axes.set_xticks((1, 2, 5, 10, 20, 50, 150, POST), (1, 2, 5, 10, 20, 50, 150, "post"))
        axes.minorticks_off()
    panels[0].set_yscale("log")
    panels[0].set_yticks((5, 10, 20, 50, 100, 200), (5, 10, 20, 50, 100, 200))
    panels[0].minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# %%
PUBLISHED = {
    "deconv": {"reconstruction": 8.82, "kl": 12.77},
    "sbd": {"reconstruction": 5.97, "kl": 12.90},
}
runs = circles.pair()
Picture(
    loss_curves({name: vars(run.history) for name, run in runs.items()}, PUBLISHED),
    "loss_curves",
    "Two panels over epochs on a log axis, a curve for each decoder. The reconstruction terms "
    "fall, with a spike of DeConv's on the way. The KL terms rise steeply; that of DeConv then "
    "comes down slowly, and that of Spatial Broadcast in one slide. Diamonds at the right mark the "
    "post's last epoch.",
)

# %% [markdown]
# Follow the left panel from left to right. The SB decoder starts well, then falls *behind*, and
# passes the DeConv decoder for good between epochs 20 and 60. In the right panel, both KL terms
# rise steeply within five epochs. Both come down later, SB's the further, and in this pair rise a
# little again toward the end, while the pictures go on improving.

# %% tags=["nbval-check-output"]
done = [epoch for epoch in (1, 5, 20, 60, 150) if epoch <= len(runs["sbd"].history)]
losses = pd.DataFrame(
    {
        (title, NAMES[name]): [getattr(run.history, term)[epoch - 1] for epoch in done]
        for term, title in TERMS.items()
        for name, run in runs.items()
    },
    index=pd.Index(map(str, done), name="epoch"),
)
losses.loc["150, the post"] = [PUBLISHED[name][term] for term in TERMS for name in runs]
losses.round(2)

# %% [markdown]
# The last row holds a surprise. The post says that SB improves the KL term *as well*, yet in its
# own published run SB's KL term is the larger one, by a hair. One run of each decoder cannot settle
# such a small difference.
#
# The curves in the post's figure differ from ours by a constant. The post adds up the means of 230
# batches but divides by 3675, the number of images. On its logarithmic axis, this shifts every
# curve by $\ln(230 / 3675)$, so its comparison is right, and we have undone the shift above. The
# post also speaks of $3.4 \cdot 10^2$ training steps, and there were a hundred times as many:

# %% tags=["nbval-check-output"]
batches = math.ceil(len(images) / 16)
print(
    f"shift of the post's curves: ln({batches} / {len(images)}) = "
    f"{math.log(batches / len(images)):.3f}"
)
print(f"steps of training: 150 epochs of {batches} batches = {150 * batches:,}")

# %% [markdown]
# ## More than one seed
#
# Two single runs may differ by luck alone, so we have trained both decoders from ten **seeds**,
# half of them on two processors, which makes 15 pairs. A seed fixes the first weights, the order of
# the images and the noise. In the next figure each dot is one run after 150 epochs. Beside the
# dots, the thin line spans their range, the circle is the mean, and the thick line is its 95%
# interval by the bootstrap, which resamples the seeds. (In it, a seed that we have trained twice
# counts once, with the mean of its runs.) Dots stand side by side only so that none hides another.

# %%
rows = tables.read("seeds", "blog")  # one pair of runs per seed
SHOWN = {term: tables.SCORES[term] for term in TERMS}
Picture(
    charts.seed_spread(rows, SHOWN),
    "seeds_losses",
    "Two panels of dots, one per run: the reconstruction terms of Spatial Broadcast lie far "
    "below those of DeConv, and most of its KL terms lie below, but the ranges overlap.",
)

# %% [markdown]
# In the left panel the decoders are far apart, and in the right one their ranges overlap. Each seed
# trains a pair, one run of each decoder, so we can also count the pairs in which the SB decoder is
# lower. We do so for a second set of runs, too, which stop after 20 epochs. (Of the finished runs
# our tables keep only the last epoch.)

# %% tags=["nbval-check-output"]
counts = {}
for epochs, seeds in ((20, tables.read("early", "quick")), (150, rows)):
    for term, title in TERMS.items():
        lower = tables.difference(seeds, term) < 0
        counts[f"after {epochs} epochs", title] = {"SB is lower in": lower.sum(), "of": len(lower)}
pd.DataFrame(counts).T

# %% [markdown]
# DeConv leads in the reconstruction term in all five early pairs, and in none of the finished ones.
# If you stop a comparison early, you may find out which model starts faster, and not which one ends
# better.
#
# Where do the post's run and our typical one lie among all our runs? To those of the seeds we add
# three SB runs that have no DeConv run beside them.

# %% tags=["nbval-check-output"]
every = tables.pair()
found = every.melt("decoder", list(TERMS), "term").groupby(["term", "decoder"], sort=False).value
among = found.agg(["count", "min", "max"])
among.columns = ["our runs", "our lowest", "our highest"]
among["typical run"] = [getattr(runs[name].history, term)[-1] for term, name in among.index]
among["the post's"] = pd.DataFrame(PUBLISHED).stack()
above = [(found.get_group(case) > among["the post's"][case]).sum() for case in among.index]
among.assign(**{"runs above it": above}).round(2).rename(index=TERMS | NAMES)

# %% [markdown]
# Look at the post's KL term of the SB decoder, which contradicts the post's own claim: only one of
# our SB runs lies above it. That run is published as `sbd-mixing`, and [the next
# notebook](04_traversals.ipynb) shows what its latents do. It has no DeConv run of its own, so
# below we compare it with the mean of all of them. Even with it, both means stay below zero.

# %% tags=["nbval-check-output"]
mixing = load_run("sbd-mixing").history
by_seed = {term: tables.difference(rows, term).groupby("seed").mean() for term in TERMS}
with_it = {}
for term, title in TERMS.items():
    seeds = by_seed[term]  # SB minus DeConv
    one = getattr(mixing, term)[-1] - rows[rows.decoder == "deconv"][term].mean()
    with_it[f"{title}, SB minus DeConv"] = {
        "mean of the seeds": seeds.mean(),
        "sbd-mixing": one,
        "mean with it": intervals.mean([*seeds, one]).value,
    }
pd.DataFrame(with_it).T.round(2)

# %% [markdown]
# ## The claims
#
# We judge both claims by the difference, SB minus DeConv, seed by seed. A claim is reproduced where
# the whole interval of the mean lies on its side of zero.

# %% tags=["nbval-check-output"]
claims.Report(*(claims.check(f"better-{term}", intervals.mean(by_seed[term])) for term in TERMS))

# %% [markdown]
# To check this on your own machine, run `make reproduce`, which trains both decoders from nothing,
# and tells for every score whether the new run lies in the range of the seeds.
#
# ---
#
# **What you have seen**
#
# * A VAE trains in a dozen lines, and it finds a use for its code within the first epochs.
# * The SB decoder falls behind early and ends ahead, so stopping early would mislead you.
# * Over the seeds SB wins in both terms, but the KL term can come out otherwise in a single run.
#
# **On your own** (solutions below)
#
# 1. What does the VAE draw after the live epoch?
# 2. Where does the plateau in the live curve lie? Compute it from the images alone.
# 3. How many nats does it take to name one of the images? Why is the KL term larger?
#
# **Further reading**
#
# * The paper: Watters et al. 2019, [arXiv 1901.07017](https://arxiv.org/abs/1901.07017)
# * The two terms as rate and distortion: Alemi et al. 2018, [arXiv
#   1711.00464](https://arxiv.org/abs/1711.00464)
# * What the KL term consists of: Hoffman and Johnson 2016, [*ELBO
#   surgery*](http://approximateinference.org/accepted/HoffmanJohnson2016.pdf)
#
# **Next.** In [the next notebook](04_traversals.ipynb) we change one latent at a time and watch
# what moves.
#
# ## Solutions
#
# **1.** You should see blurred discs of one or two colors, in the right places. The pictures of the
# other discs are still nearly black, since the VAE has not learned all colors yet.

# %% tags=["solution", "hide-input", "nbval-ignore-output"]
some = images[150::400][:8]
with torch.no_grad():
    drawn = vae.reconstruct(some)
Picture(
    pictures.image_grid(torch.stack([some, drawn]).numpy(), ["input", "drawn"], cell=0.9),
    "after_one_epoch",
    "Eight discs above, and below what the VAE draws of them after one epoch: some blurred spots, "
    "and black pictures.",
)

# %% [markdown]
# **2.** A decoder that ignores its code does best with the mean of all images. Its squared error,
# divided by $2 \sigma^2 = 0.6$ as in the reconstruction term, is the height of the plateau.

# %% tags=["solution", "hide-input", "nbval-check-output"]
error = (images - images.mean(dim=0)).square().sum(dim=(1, 2, 3)).mean()
print(f"the mean image costs {error / 0.6:.0f} nats per image")

# %% [markdown]
# **3.** If every image is as likely as every other, it takes $\ln 3675$ nats to name one. The mean
# KL term has two parts: what the code tells about the image, which cannot be more than that, and
# how far all codes together are from a standard normal distribution. The difference in the last
# column is therefore the least that the second part can be.

# %% tags=["solution", "hide-input", "nbval-check-output"]
naming = math.log(len(images))
prices = pd.DataFrame(
    {
        NAMES[name]: {"KL term": run.history.kl[-1], "naming an image": naming}
        for name, run in runs.items()
    }
).T
prices.assign(difference=prices["KL term"] - naming).round(2)
