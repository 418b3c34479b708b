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
# # Measure what the Spatial Broadcast decoder costs
#
# **Takeaway.** In a plain training loop, the Spatial Broadcast decoder (SB decoder) takes about
# three times the memory and three times the time of the usual DeConv decoder, which is more than
# the blog post says that we reproduce. Much of that need not be paid. A better loop brings the two
# closer together, and an SB decoder of 22 channels in place of 64 has DeConv's multiply-adds, in
# the better loop also less than its memory and time, and a fortieth of its parameters. As [the
# ablation](09_ablation.ipynb) shows, its code still puts places on a straight grid, and it draws
# sharper than DeConv.
#
# A **decoder** draws a picture from a **code** of a few numbers, the **latents**. With the encoder
# that finds the code it makes up a **VAE** (variational autoencoder). DeConv doubles a small map
# five times by transposed convolutions. The SB decoder copies the code to every pixel, appends the
# pixel's coordinates and works at full size from its first layer on.
#
# The [blog post](https://borea17.github.io/paper_summaries/spatial_broadcast_decoder) names two
# drawbacks of the SB decoder: about half as much memory again, and about one and a half times the
# training time. We count first, then measure memory, then time, and ask what of it has to be paid.
# The times are those that `make bench` left in `results/`.
#
# ---

# %%
import json
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from sbd_utils.claims import Report, check
from sbd_utils.data.circles import make_sprites
from sbd_utils.experiments import tables
from sbd_utils.metrics import cost
from sbd_utils.metrics.intervals import exactly
from sbd_utils.models.decoders import DECODERS, SBD, ComposedDecoder
from sbd_utils.models.layers import BroadcastConv2d
from sbd_utils.models.vae import VAE
from sbd_utils.plots.charts import legend_below
from sbd_utils.plots.style import Picture, colors_and_labels, new_figure
from sbd_utils.settings import RESULTS
from sbd_utils.training.loop import TrainConfig

# %%
SIZES = (32, 64, 128, 256)
SHORT = {"deconv": "DeConv", "sbd": "SB", "sbd-width22": "SB of 22 channels"}
BENCH = json.loads((RESULTS / "bench.json").read_text(encoding="utf-8"))


def with_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Columns by decoder get their short names, and beside them each over DeConv."""
    table = table[[name for name in SHORT if name in table]].rename(columns=SHORT)
    return table.join(
        table.div(table["DeConv"], axis=0)
        .drop(columns="DeConv")
        .add_suffix(" over DeConv")
        .round(2)
    )


# %% [markdown]
# ## Parameters and multiply-adds
#
# A multiply-add is one product that is added to a sum. We count them, and the parameters, for four
# sizes of the picture.


# %% tags=["hide-input"]
def draw_growth(rows: pd.DataFrame, labels: dict, names: dict):
    """One log-log panel per quantity, one line per decoder and loop."""
    figure = new_figure(8, 3.4)
    same = len({y_label for _, y_label in labels.values()}) == 1
    panels = figure.subplots(1, len(labels), sharey=same, squeeze=False)[0]
    styles = colors_and_labels(rows.decoder.unique())
    for axes, (panel, (x_label, y_label)) in zip(panels, labels.items(), strict=True):
        shown = rows[rows.panel == panel]
        lines = shown.groupby(["decoder", "loop"], sort=False)
        for over, ((decoder, loop), line) in enumerate(lines):
            axes.plot(
                line.value,
                line.cost,
                marker="o",
                ms=4,
                color=styles[decoder][0],
                ls="--" if loop == "plain" else "-",
                label=names[decoder]
                + {"plain": ", plain loop", "ours": ", our loop", "": ""}[loop],
                mfc="white" if loop == "plain" else None,
                zorder=3 if loop == "plain" else 2,
                lw=1.5 if loop else 4 / (1 + over),
            )  # thinner, so that none hides another
        axes.set(xscale="log", yscale="log", xlabel=x_label)
        if axes is panels[0] or not same:
            axes.set_ylabel(y_label)
        axes.set_xticks(shown.value.unique(), shown.value.unique())
        axes.minorticks_off()
        axes.margins(y=0)
    for axes in panels[:1] if same else panels:  # whole decades, so that each has ticks to read
        low, high = np.log10(axes.get_ylim())
        axes.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
    legend_below(figure, panels, ncols=4, fontsize="small")
    return figure


# %%
rows = []
for name in SHORT:
    for size in SIZES:
        decoder = ComposedDecoder(5, size, DECODERS[name])
        for what, count in (
            ("parameters", cost.count_parameters(decoder)),
            ("multiply-adds", cost.multiply_adds(decoder, torch.zeros(1, 5))),
        ):
            rows.append({"decoder": name, "panel": what, "value": size, "cost": count, "loop": ""})
counts = pd.DataFrame(rows)
Picture(
    draw_growth(counts, {what: ("pixels per side", what) for what in counts.panel.unique()}, SHORT),
    "cost_counts",
    "Two panels with log axes over the image size. Parameters: flat for both SB decoders, slowly "
    "rising and higher for DeConv. Multiply-adds: parallel lines, those of DeConv and of the SB "
    "decoder of 22 channels on top of each other, the wide SB decoder's above.",
)

# %% tags=["nbval-check-output"]
for name in SHORT:
    decoder = ComposedDecoder(5, 64, DECODERS[name])
    print(f"{SHORT[name]}: {cost.count_parameters(decoder):,} parameters at 64 pixels per side")
work = counts[counts.panel == "multiply-adds"]
work = work.pivot(index="value", columns="decoder", values="cost") / 1e6
with_ratios(work.round(1)).rename_axis("pixels per side")

# %% [markdown]
# On the left, an SB decoder has the same few parameters for any picture, while DeConv needs one
# more layer for each doubling.
#
# The table holds the millions of multiply-adds from the right panel. It is tempting to say that the
# SB decoder scales badly because it works on every pixel. But the last layers of *any* decoder work
# on every pixel, or on a quarter of them, so that all of this work grows fourfold with each
# doubling of the sides. The SB decoder pays a constant factor, most of it in one layer from 64
# channels to 64, which is why 22 channels are enough to come down to DeConv.
#
# ## Memory
#
# At its peak, a training step must hold the weights, the optimizer's two moments of each, the
# gradients, and whatever the backward pass still needs. We run a step of 16 images under torch's
# profiler, which sees what torch allocates, though not what the convolution library takes for
# itself. First our own step, run *eagerly*, that is without compiling anything, in MB. (The plain
# loop, by which we judge the post's claim, follows below.)

# %%
images = make_sprites().images
ways = {
    "eager, float32": {"precision": "float32"},
    "eager, float32, in 4 pieces": {"precision": "float32", "gradient_accumulation_steps": 4},
    "eager, bfloat16": {"precision": "bfloat16"},
}
peaks = pd.DataFrame(
    {
        name: {
            way: cost.step_bytes(TrainConfig(name, compiled=False, **settings), images)
            for way, settings in ways.items()
        }
        for name in SHORT
    }
)

# %%
with_ratios(peaks.div(1e6).round(1))

# %% [markdown]
# The first row is far from the post's "about 50% more". (The post does not say what it counted; the
# memory of a whole GPU process would give a smaller ratio.) The difference is made of feature maps.
# We count how many maps of 64 channels, for 16 pictures in `float32`, each step holds:

# %% tags=["nbval-check-output"]
map_bytes = 4 * 16 * 64 * 64 * 64
print(f"one feature map: {map_bytes / 1e6:.1f} MB")
for name in ("deconv", "sbd"):
    held = (peaks[name]["eager, float32"] - cost.resident_bytes(VAE(name))) / map_bytes
    print(f"{SHORT[name]}: about {held:.0f} at the peak, not counting weights and moments")

# %% [markdown]
# The SB decoder keeps two of them for the backward pass, the outputs of its first two layers. Where
# the backward pass goes through the second ReLU, it holds two gradients as well, one that comes in
# and one that goes out, which makes four. DeConv's memory peaks in the backward pass through its
# last ReLU, too, but its largest feature map has a quarter of the pixels.
#
# These maps need not be held for all 16 pictures at once. The second row of the table cuts the
# batch into four pieces and adds up their gradients, which is called gradient accumulation. The
# step stays the same and needs less memory. In the third row, the maps are in `bfloat16`, with half
# the bytes per number.
#
# ## The nine neighborhoods
#
# With a shortcut, the SB decoder's first layer needs hardly any multiply-adds. It convolves a code
# that is the same at every pixel, so that a 3×3 kernel sees nine equal codes wherever it stands.
# Only at the border, where zeros come in, does it see something else. We convolve a copied code and
# count the different answers:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
z, weight = torch.randn(1, 5), torch.randn(8, 5, 3, 3)
answer = F.conv2d(z[:, :, None, None].expand(-1, -1, 64, 64), weight, padding=1)
different, where = answer[0].flatten(1).T.round(decimals=3).unique(dim=0, return_inverse=True)
print(f"{64 * 64} pixels, {len(different)} different answers")

# %% [markdown]
# There is one answer for the interior, one for each edge and one for each corner. Here are the
# outermost rows and columns and six of those between, with a color for each answer:


# %% tags=["hide-input"]
def regions(numbers: np.ndarray):
    """Cells [height, width] colored by the number that they hold."""
    figure = new_figure(2.6, 2.6)
    axes = figure.subplots()
    axes.pcolormesh(numbers, cmap="Set3", edgecolors="white", linewidth=1)
    axes.set(aspect="equal", xticks=[], yticks=[])
    return figure


# %%
ends = [0, *range(1, 7), 63]  # six inner rows stand for all 62
Picture(
    regions(where.view(64, 64)[ends][:, ends].numpy()),
    "nine_neighborhoods",
    "A square of 8 by 8 cells in nine colors: one for the interior, one for each edge, one for "
    "each corner.",
)

# %% [markdown]
# So the code's part of the layer is a 3×3 convolution of a 3×3 picture, whose middle is then
# repeated. The coordinates' part is the same for every image and is computed once per batch. A
# convolution is linear in its input, so the two add up to the whole layer:
#
# $$ W * [z\ \text{copied},\ u, v] = \operatorname{spread}(W_z * z_{3 \times 3})
#    + W_{uv} * [u, v]. $$
#
# All that the layer has to remember for its backward pass is a 3×3 picture. For a kernel of size
# $k$ there are $k^2$ neighborhoods.


# %% tags=["nbval-check-output"]
def shortcut(layer: BroadcastConv2d, z: torch.Tensor) -> torch.Tensor:
    """What a BroadcastConv2d draws of z, [batch, 5], with nothing copied to every pixel."""
    kernel, middle = layer.kernel_size[0], layer.padding[0]
    tile = z[:, :, None, None].expand(-1, -1, kernel, kernel)
    small = F.conv2d(tile, layer.weight[:, :5], padding=middle)  # [batch, out, kernel, kernel]
    index = [*range(middle), *[middle] * (64 - 2 * middle), *range(middle + 1, kernel)]
    spread = small[:, :, index][:, :, :, index]  # [batch, out, 64, 64]
    return F.relu(
        spread + F.conv2d(layer.grid[None], layer.weight[:, 5:], layer.bias, padding=middle)
    )


layer, codes = BroadcastConv2d(5, 64, kernel=3, side=64, padding=1), torch.randn(16, 5)
print("equal within rounding:", torch.allclose(layer(codes), shortcut(layer, codes), atol=1e-5))
for way, function in (("copied", layer), ("shortcut", partial(shortcut, layer))):
    print(f"{way}: {cost.multiply_adds(function, codes) / 1e6:.1f} million multiply-adds per batch")

# %% [markdown]
# The shortcut gives the same numbers for a small part of the multiply-adds. Fewer multiply-adds are
# not less time, though, since the layer still has to *write* a whole feature map: in our training
# loop the shortcut saved less than a tenth of a step, so the loop does without it. Here is our own
# loop, compared with the plain one:

# %%
steps = pd.DataFrame(BENCH["rows"])
steps = steps[steps.decoder.isin(list(SHORT))]
plain = steps.drop_duplicates("decoder").assign(loop="plain loop, float32")
plain = plain.assign(ms=plain.plain_ms, MB=plain.plain_bytes / 1e6)
ours = steps.assign(
    loop="our loop, " + steps.precision, ms=steps.ours_ms, MB=steps.ours_bytes / 1e6
)
loops = pd.concat([plain, ours]).pivot(index="loop", columns="decoder", values=["ms", "MB"])
loops = loops.sort_index(ascending=False)  # plain first, bfloat16 last
with_ratios(loops["MB"].round(1))

# %% [markdown]
# The plain SB step needs one map more than the eager one above, because it does not use the memory
# layout that the convolutions prefer.
#
# ## Time: a slow model or a slow loop?
#
# The plain loop is what you would write first: a `DataLoader`, `float32`, the default memory layout
# and an `.item()` at every step. `make bench` lets it take turns with ours, so that other work on
# the machine slows both equally. These are milliseconds per step:

# %%
print(f"{BENCH['device']}, {BENCH['threads']} threads, torch {BENCH['torch']}")
times = loops["ms"]
with_ratios(times.round(1))

# %% [markdown]
# So there is no single ratio of the two decoders' times. The SB decoder of 22 channels takes a
# little longer than DeConv in the plain loop, and less in ours. For the post's claim we take the
# first row, since the post trained in a plain loop, too. But it did so on a K80 GPU, and we on two
# threads of a processor, so our ratio does not show that the post's is wrong. It says what you pay
# here.
#
# Two things lie between the first row and the last, our loop and its precision. If we divide each
# row by the next, we see what each of them gains:

# %%
gains = (times.shift() / times).iloc[1:].rename(columns=SHORT)
gains.index = ["gained by the loop", "gained by bfloat16"][: len(gains)]
gains.round(2)

# %% [markdown]
# `bfloat16` has half the bytes of `float32`, but not every processor that has it computes faster
# with it. Our loop takes it where we measured that it pays (`machine.pick_precision`).
#
# What does each piece of our loop gain? In the figure, each row is our step without one piece, over
# our step with all of them. Both were timed in turns, and a bar spans the middle half of these
# rounds.


# %% tags=["hide-input"]
def draw_pieces(rows: pd.DataFrame):
    """How much slower a step is without each piece of the loop, one panel per decoder."""
    figure = new_figure(8, 2.9)
    styles = colors_and_labels(rows.decoder.unique())
    panels = figure.subplots(1, len(styles), sharex=True, squeeze=False)[0]
    for axes, (decoder, (color, name)) in zip(panels, styles.items(), strict=True):
        shown = rows[rows.decoder == decoder].sort_values("ratio")
        spans = [(shown.ratio - shown.low).abs(), (shown.high - shown.ratio).abs()]
        axes.errorbar(
            shown.ratio, range(len(shown)), xerr=spans, fmt="o", ms=5, capsize=2, color=color
        )
        axes.axvline(1, color="black", lw=0.8, ls=":")
        axes.set(yticks=range(len(shown)), yticklabels=shown.piece)
        axes.set_title(name, color=color)
    figure.supxlabel("time of a step without the piece, over a step with it", fontsize="medium")
    return figure


# %%
Picture(
    draw_pieces(pd.DataFrame(BENCH["without"]).query("decoder in ('deconv', 'sbd')")),
    "cost_pieces",
    "Two panels of dots with ranges, one for each decoder: how many times slower a step is without "
    "each piece of the fast loop.",
)

# %% [markdown]
# Where `bfloat16` is used, it is the largest piece. (It was timed again for this figure, which is
# why its dots are not quite the gains in the table above.) Of the others, kept memory gains the
# most, and DeConv gains from adding its bias apart. The rest gain about a tenth or less.
#
# * **kept memory**: a freed tensor's pages go back to the system, and the next step has to ask for
#   them again, one by one. Two calls of `mallopt` keep them.
# * **torch.compile** merges what lies between the convolutions: biases, ReLUs and the loss.
# * **channels_last** is the layout that the convolution library works in. `torch.compile` sees to
#   it by itself, so it matters only where nothing is compiled.
# * **bias apart** (DeConv) adds a transposed convolution's bias after it, which is faster.
# * **fused Adam** updates all parameters in one call.
# * **shortcut** (above) and **recomputing** its output in the backward pass (SB) were part of our
#   loop when it was timed. They gained so little that it no longer has them, so our SB step now
#   takes about a tenth longer and needs somewhat more memory than these tables say.
#
# ## How much is left?
#
# Could our step be much faster? Its rate is the number of its operations over its time, in TFLOP/s,
# which are 10¹² operations per second. Beside it we set the best rate that the widest layer of any
# of the three decoders reaches when it runs alone, forward only. If the whole step ran at that
# rate, it would be faster by the factor in the last column. (A layer that is better still would
# raise it.)

# %%
left = steps.set_index(["precision", "decoder"])[["tflops", "ceiling_tflops"]]
left.ceiling_tflops = left.groupby("precision").ceiling_tflops.transform("max")
left = left.assign(left=left.ceiling_tflops / left.tflops).rename(index=SHORT).round(2)
left.columns = ["step, TFLOP/s", "best layer, TFLOP/s", "times faster at that rate"]
left

# %% [markdown]
# The SB decoder's work is mostly one big convolution, so it comes nearer to the best rate than the
# two others.
#
# ## How does a step grow?
#
# The dashed lines are the plain loop in `float32`, and the solid ones ours in the precision that it
# takes here. Each point is the median of only a few rounds, and may be off by a third: more latents
# cannot need less time, as most lines on the right seem to say. So only coarse differences count.

# %%
growth = pd.DataFrame(BENCH["growth"]).rename(columns={"what": "panel"})
GROWN = {"image_size": "pixels per side", "batch_size": "images per batch", "latent_dim": "latents"}
Picture(
    draw_growth(
        growth.assign(cost=growth.ms),
        {what: (label, "milliseconds per step") for what, label in GROWN.items()},
        SHORT,
    ),
    "cost_time_growth",
    "Three panels with log axes: milliseconds per step over image size, batch size and number of "
    "latents, for both decoders and both loops. The plain loop of DeConv and our loop of Spatial "
    "Broadcast take similar times.",
)

# %% [markdown]
# Images and pixels act alike, since a batch is so many pixels in all. How does time grow as the
# sides double, and the pixels become four times as many?

# %%
sides = growth[growth.panel == "image_size"].pivot(
    index="value", columns=["decoder", "loop"], values=["ms", "bytes"]
)
grown = (sides / sides.shift()).iloc[1:].rename(columns=SHORT)
grown.index = [f"from {small} to {large}" for small, large in zip(SIZES, SIZES[1:], strict=False)]
grown["ms"].round(1)

# %% [markdown]
# A number above 4 means that time grows faster than the pixels. In our loop it never does, because
# the optimizer and other overhead do not depend on them. In the plain loop one number stands out,
# that of the SB decoder from 64 to 128 pixels; perhaps its feature maps no longer fit into the
# processor's caches. The others are about four or less, as far as these few rounds can tell. The
# memory itself never grows faster than the pixels:

# %%
grown["bytes"].round(1)

# %% [markdown]
# ## Is it still the same model?
#
# Our loop has numbers of half the size, and its sums are in another order. Is the trained model as
# good? `make study NAME=early` trained five seeds for 20 epochs both ways, in our loop and in the
# plain one in `float32`, from the same weights and on the same images. For each score and decoder,
# does the mean of our five runs lie between the lowest and the highest of the five plain ones? And
# do all five seeds differ in the same direction?

# %% tags=["nbval-check-output"]
fast, eager = (
    tables.read("early", "quick", loop).set_index(["decoder", "seed"]) for loop in ("ours", "plain")
)
scores = [name for name in tables.SCORES if name in fast]
fast, eager = fast[scores], eager[scores]
low, high = eager.groupby("decoder").min().stack(), eager.groupby("decoder").max().stack()
means = fast.groupby("decoder").mean().stack()
signs = np.sign(fast - eager).groupby("decoder").sum().stack().abs()
print(f"{means.between(low, high).sum()} of {len(means)} means lie within")
print(f"{(signs == 5).sum()} of {len(signs)} scores differ in the same direction in all five seeds")

# %% [markdown]
# Five coins that are thrown together agree once in sixteen throws, so that one or two such scores
# can be luck. Five seeds can't prove that there is no difference, but a large one would have shown.
#
# ---
#
# **What you have seen**
#
# * The SB decoder's memory goes into a few feature maps of full size, its time into one layer. Its
#   parameters are few, and with a
#   shortcut its first layer needs hardly any multiply-adds.
# * "The SB decoder is slow" is a statement about a loop, a precision and a machine as well.
# * With 22 channels it has DeConv's multiply-adds and, in our loop, needs less memory and time than
#   DeConv.
#
# **The claims.** "More memory" and "slower" are about a step of the plain loop in `float32`. "Under
# 30 minutes" is about a processor that we don't have.

# %% tags=["nbval-check-output"]
held, spent = loops.loc["plain loop, float32", "MB"], times.loc["plain loop, float32"]
minutes = 34_500 * (spent["deconv"] + spent["sbd"]) / 60_000  # both trainings, on bench's machine
Report(
    check("more-memory", exactly(held["sbd"] / held["deconv"])),
    check("slower", exactly(spent["sbd"] / spent["deconv"])),
    check("under-30-min", exactly(minutes)),
)

# %% [markdown]
# **On your own** (solutions below)
#
# 1. The middle convolution is most of the work. Replace it by a depthwise convolution, which looks
#    at one channel at a time, and a 1×1 convolution. What is left of the multiply-adds?
# 2. How many neighborhoods does a kernel of 5 have, and what does its shortcut save?
# 3. How does the memory of an eager step grow with the channels of an SB decoder?
#
# **Further reading.** The [PyTorch performance
# guide](https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html) is about gradient
# accumulation, memory layouts and more. [Roofline
# models](https://doi.org/10.1145/1498765.1498785) (Williams and others 2009) teach you to read how
# far a step is from what the machine can do.
#
# **Next.** [The notebook on the checkerboard](07_checkerboard.ipynb) turns to the post's first
# argument against transposed convolutions.
#
# ## Solutions
#
# **1.** The two replacements need an eighth of the middle layer's work, and the decoder comes down
# to less than twice DeConv's. What it loses can only be told by training it.

# %% tags=["solution", "hide-input", "nbval-check-output"]
separable = ComposedDecoder(5, 64, SBD)
separable[1] = torch.nn.Sequential(
    torch.nn.Conv2d(64, 64, 3, padding=1, groups=64), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 1)
)
for name, decoder in (
    ("SB", ComposedDecoder(5, 64, SBD)),
    ("separable SB", separable),
    ("DeConv", ComposedDecoder(5)),
):
    print(f"{name}: {cost.multiply_adds(decoder, torch.zeros(1, 5)) / 1e6:.1f} million")

# %% [markdown]
# **2.** There are 25, and the shortcut saves more multiply-adds than for a kernel of 3. What the
# shortcut still computes is mostly the coordinates' part, once per batch instead of once per image.

# %% tags=["solution", "hide-input", "nbval-check-output"]
layer = BroadcastConv2d(5, 64, kernel=5, side=64, padding=2)
with torch.no_grad():
    tiled = z[:, :, None, None].expand(-1, -1, 64, 64)
    answers = F.conv2d(tiled, layer.weight[:, :5], padding=2)[0].flatten(1).T
print(len(answers.round(decimals=4).unique(dim=0)), "neighborhoods")
for way, function in (("copied", layer), ("shortcut", partial(shortcut, layer))):
    print(f"{way}: {cost.multiply_adds(function, codes) / 1e6:.1f} million multiply-adds per batch")

# %% [markdown]
# **3.** With 16 channels it takes about as much as DeConv in an eager step. It does not grow in
# proportion to the channels, since the encoder's part stays the same.

# %% tags=["solution", "hide-input"]
for name in ("sbd-width16", "sbd-width22", "sbd", "sbd-width128"):
    config = TrainConfig(name, precision="float32", compiled=False)
    ratio = cost.step_bytes(config, images) / peaks["deconv"]["eager, float32"]
    print(f"{name}: {ratio:.2f} of DeConv's memory")
