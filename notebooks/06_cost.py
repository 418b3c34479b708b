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
# The blog post ends with two drawbacks: the Spatial Broadcast (SB) decoder needs about half as much
# memory again as the DeConv decoder, and it trains about one and a half times as long. This
# notebook takes both apart. What exactly is paid, how does it grow, and how much of it has to be
# paid at all?
#
# **What you'll do.** Count parameters, multiply-adds and bytes for pictures of 32 to 256 pixels;
# find the nine answers that the SB decoder's first layer has for a code; read what the collection's
# training loop gains over a plain one, piece by piece.
#
# **What you'll learn.** Where a convolutional decoder's memory goes, why a broadcast code makes a
# convolution nearly free, and how to tell a slow model from a slow loop.
#
# **What you'll need.** The decoders of [notebook 02](02_models.ipynb) and the runs of [notebook
# 03](03_training.ipynb); what is missing is trained here.
#
# ---

# %%
import inspect
import json
import statistics

import torch
from IPython.display import Code, Markdown

from sbd_utils import charts, claims, cost, data, figures, models, study, training
from sbd_utils.figures import NAMES, Picture
from sbd_utils.metrics import interval
from sbd_utils.settings import RESULTS, TRAINING, preset

# %%
PRESET, SEED = preset(), 0
DECODERS = ("deconv", "sbd")
SIZES = (32, 64, 128, 256)
BENCH = json.loads((RESULTS / "bench.json").read_text())  # from `make bench`

# %% [markdown]
# ## Parameters and multiply-adds
#
# Both can be counted without training anything, so we count them for four picture sizes.

# %%
counts = {
    name: {
        size: (cost.count_parameters(decoder), cost.multiply_adds(decoder, torch.zeros(1, 5)))
        for size in SIZES
        for decoder in [models.DECODERS[name](latent_dim=5, image_size=size)]
    }
    for name in DECODERS
}

# %% tags=["nbval-check-output"]
for name, sizes in counts.items():
    for size, (parameters, work) in sizes.items():
        print(f"{name:>6} at {size:3}: {parameters:7,} parameters, {work / 1e6:8.2f} million MACs")

# %%
Picture(
    charts.growth(
        {panel: {n: (SIZES, [pair[i] for pair in sizes.values()]) for n, sizes in counts.items()}
         for i, panel in enumerate(("parameters", "work"))},
        {"parameters": ("image size, pixels", "parameters"),
         "work": ("image size, pixels", "multiply-adds an image")},
    ),
    "cost_counts",
    "Two log-log panels over the image size. Parameters: flat for the SB decoder, slowly rising "
    "and higher for DeConv. Multiply-adds: two parallel lines, the SB decoder's above.",
)

# %% [markdown]
# On the left, an SB decoder does not care how large the picture is: its three small kernels are the
# same, and only the coordinate ramps are drawn finer. A DeConv decoder needs one more layer for
# each doubling.
#
# On the right, the surprise is that the lines are parallel. It is tempting to say that the SB
# decoder scales badly because it works on every pixel. But the last layers of *any* decoder work on
# every pixel, or on a quarter of them, so that both grow with the pixels, fourfold for each
# doubling of the side. The SB decoder pays a constant factor, nearly all of it in one layer: 64
# channels to 64 channels at full size.

# %% tags=["nbval-check-output"]
for size in SIZES:
    print(f"{size}: {counts['sbd'][size][1] / counts['deconv'][size][1]:.1f} times the work")
x, noise = torch.zeros(1, 3, 64, 64), torch.zeros(1, 5)
whole = {n: cost.multiply_adds(models.VAE(n).loss_terms, x, noise) for n in DECODERS}
print(f"64, encoder included: {whole['sbd'] / whole['deconv']:.1f} times")

# %% [markdown]
# ## Memory
#
# What a training step must hold at one time: weights, Adam's two moments, gradients, and whatever
# the backward pass still needs. We run our step under torch's profiler, which reports all that
# torch allocates (what the convolution library takes for itself, it does not see), and take the
# peak; first eagerly, that is, without compiling anything:

# %%
images = data.make_sprites().images
eager = {"precision": "float32", "compiled": False}
ways = {
    "eager float32": eager,
    "eager float32 in 4 pieces": eager | {"accumulate": 4},
    "eager bfloat16": eager | {"precision": "bfloat16"},
    "eager bfloat16 in 4 pieces": eager | {"precision": "bfloat16", "accumulate": 4},
}
memory = {
    way: {n: cost.step_bytes(training.TrainConfig(n, **settings), images) for n in DECODERS}
    for way, settings in ways.items()
}


def memory_table(*ways: str) -> Markdown:
    lines = ["| step | DeConv, MB | SBD, MB | SBD over DeConv |", "|---" * 4 + "|"]
    for way in ways:
        deconv, sbd = (memory[way][name] / 1e6 for name in DECODERS)
        lines.append(f"| {way} | {deconv:.0f} | {sbd:.0f} | {sbd / deconv:.2f} |")
    return Markdown("\n".join(lines))


memory_table(*ways)

# %% [markdown]
# The first row is far from the post's "about 50% more". The post does not say what it counted; the
# memory of a whole GPU process, for one, would dilute the ratio. What is the difference made of?
# One feature map of 64 channels, for 16 pictures of 64×64, is this large:

# %% tags=["nbval-check-output"]
map_bytes = 4 * 16 * 64 * 64 * 64
print(f"{map_bytes / 1e6:.1f} MB in float32")
resident = {n: cost.resident_bytes(models.VAE(n)) for n in DECODERS}
maps = {n: (memory["eager float32"][n] - resident[n]) / map_bytes for n in DECODERS}
print("peak, without weights and moments, in such maps:",
      ", ".join(f"{NAMES[n]} {maps[n]:.0f}" for n in DECODERS))

# %% [markdown]
# The SB decoder has two of them, both saved for the backward pass. Where that goes through the
# second ReLU it holds two gradients as well, what comes in and what goes out: four. DeConv is at
# its peak in the same place, but its largest feature map has a quarter of the pixels.
#
# These maps need not be held for all 16 pictures at once. Cut the batch into pieces and add up
# their gradients: same step, same gradient, a fraction of the activations. This is gradient
# accumulation, `TrainConfig(accumulate=4)`, and off by default: at this size memory is not what
# anybody runs out of.
#
# ## The nine neighborhoods
#
# Now the nicest thing about this decoder. Its first convolution sees a code that is the same at
# every pixel. A 3×3 kernel in the interior sees nine equal codes, wherever it stands. Only at the
# border, where it hangs over the edge and zeros come in, does it see something else. Convolve a
# broadcast code and count the different answers:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
z, weight = torch.randn(1, 5), torch.randn(8, 5, 3, 3)
answer = torch.nn.functional.conv2d(z[:, :, None, None].expand(-1, -1, 64, 64), weight, padding=1)
different, where = answer[0].flatten(1).T.round(decimals=3).unique(dim=0, return_inverse=True)
print(f"{64 * 64} pixels, {len(different)} different answers")

# %% [markdown]
# The interior, four edges, four corners: nine. Here they are, on a picture of 8×8 so that the edges
# can be seen:

# %%
regions = where.view(64, 64)[[0, *range(1, 7), 63]][:, [0, *range(1, 7), 63]]
Picture(
    figures.regions(regions.numpy()),
    "nine_neighborhoods",
    "A square of 8 by 8 cells in nine colors: one for the interior, one for each edge, one for "
    "each corner.",
)

# %% [markdown]
# So $z$'s part of the layer is a 3×3 convolution of a 3×3 picture, with its middle repeated; the
# coordinates' part does not depend on the image at all and is computed once a batch. A convolution
# is linear in its input, so the two add up to the whole layer, exactly:
#
# $$ W * [z\ \text{tiled},\ u, v] = \operatorname{spread}(W_z * z_{3 \times 3})
#    + W_{uv} * [u, v]. $$
#
# Nothing is tiled, nothing is concatenated, and what the layer has to remember for its backward
# pass is a 3×3 picture. For any kernel size $k$ there are $k^2$ neighborhoods.

# %%
Code(inspect.getsource(models.broadcast_convolution), language="python")

# %% [markdown]
# The same numbers, and for how much less:

# %% tags=["nbval-check-output"]
decoder, codes = models.SpatialBroadcastDecoder(latent_dim=5), torch.randn(16, 5)
first = decoder.convolutions[0]
long = first(decoder.broadcast(codes))
short = models.broadcast_convolution(codes, decoder.grid, first.weight, first.bias)
print("equal within rounding:", torch.allclose(long, short, atol=1e-5))
for name, layer in (("tiled", lambda: first(decoder.broadcast(codes))),
                    ("short", lambda: models.broadcast_convolution(
                        codes, decoder.grid, first.weight, first.bias))):
    print(f"{name}: {cost.multiply_adds(layer) / 1e6:.1f} million multiply-adds a batch of 16")

# %% [markdown]
# Nor need the layer's output be kept. When the backward pass comes to the second layer and asks for
# that layer's input, a whole feature map, it can be recomputed from the nine neighborhoods: one
# pass over memory, and next to no convolution. The rest is order. The second layer first makes its
# weights' gradient, the last to need that feature map, and then its input's gradient, which takes
# its place. Of the four feature maps `torch.compile` spares one, since it takes a ReLU's gradient
# in place, and recomputing another. Two are left:

# %%
memory["ours"] = {n: cost.step_bytes(training.TrainConfig(n), images) for n in DECODERS}
memory_table("eager float32", "eager bfloat16", "ours")

# %% [markdown]
# The last row is what this machine trains with in [notebook 03](03_training.ipynb), the whole batch
# at once. A word of caution, though: fewer multiply-adds are not less time. The layer still has to
# *write* a whole feature map. `torch.compile` merges the repeating, the addition and the ReLU into
# one pass over memory, and so the collection uses the shortcut just there.
#
# ## Time: a slow model or a slow loop?
#
# The plain loop is what one writes first: a `DataLoader`, `float32`, default memory layout,
# `.item()` at every step. The collection's loop takes the same training step. `make bench` lets the
# two take turns and committed this:


# %%
def bench_row(r: dict) -> str:
    return (f"| {NAMES.get(r['decoder'], 'both')} | {r['precision']} | {r['plain_ms']:.1f} | "
            f"{r['ours_ms']:.1f} | {r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f}) |")


Markdown("\n".join([
    f"{BENCH['device']}, {BENCH['threads']} threads, torch {BENCH['torch']}; {BENCH['rounds']} "
    f"rounds of about {BENCH['seconds']} seconds.\n",
    "| decoder | precision | plain, ms a step | ours, ms a step | plain over ours (quartiles) |",
    "|---" * 5 + "|", *map(bench_row, BENCH["rows"]),
]))

# %% [markdown]
# So a good part of "the SB decoder is slow" was "the loop is slow". What did it? Each row is our
# step without one of its pieces, over our step with all of them; the bars span the middle half of
# the rounds.

# %%
Picture(
    charts.pieces(BENCH["without"]),
    "cost_pieces",
    "Two panels of dots with ranges, one decoder each: how many times slower a step is without "
    "each piece of the fast loop.",
)

# %% [markdown]
# bfloat16 is the largest piece for both. The others gain a little each, or nothing that a shared
# machine can tell from nothing.
#
# * **bfloat16**: half the bytes, and instructions that multiply it natively. The loss stays
#   `float32`. On a processor without them the loop keeps to `float32`.
# * **kept memory**: malloc hands a freed tensor's pages back to the system, and the next step
#   faults them in again, one by one. Two calls of `mallopt` keep them.
# * **torch.compile** merges what lies between the convolutions: biases, ReLUs, casts, the loss.
# * **channels_last** is the layout that the convolution library works in. torch.compile sees to it
#   even where we do not, so that its row shows no gain; it is there for machines without a
#   compiler.
# * **bias apart** (DeConv's five layers), **shortcut** and **recomputing** (the SB decoder's first
#   two). The last one is there for memory. Without the shortcut there is nothing to recompute, and
#   without torch.compile the loop takes neither, so that these rows hold for what goes with them.
# * **fused Adam**: one call for all parameters.
#
# On a recent GPU a step of 16 images is so short that *starting* its few hundred operations may
# take longer than running them. There the loop records a whole step, optimizer included, as one
# CUDA graph and replays it (`speed.CapturedStep`). That piece was written without a GPU at hand:
# the tests of the recording run only where there is one, and no number here says what it gains.
# `make bench` does, on a machine that has one.
#
# How much is left to gain? We count the operations of our step, forward and backward, and set their
# rate beside that of the widest layer alone, forward only, the best that this machine was seen to
# do:

# %%
Markdown("\n".join([
    "| decoder | precision | TFLOP/s of our step | of the widest layer |", "|---" * 4 + "|",
    *(f"| {NAMES[r['decoder']]} | {r['precision']} | {r['tflops']:.2f} | "
      f"{r['ceiling_tflops']:.2f} |" for r in BENCH["rows"] if "tflops" in r),
]))

# %% [markdown]
# The SB decoder, with its one big convolution, comes nearer to that rate than DeConv, whose layers
# are too small to fill the machine: a step's time grows by less than its multiply-adds.
#
# And how does a step grow? Dashed the plain loop, solid ours, each point the median of a few
# rounds:


# %%
def grown(cost_name: str) -> dict:
    panels = {}
    for r in BENCH["growth"]:
        lines = panels.setdefault(r["what"], {})
        values, costs = lines.setdefault(f"{r['decoder']} {r['loop']}", ([], []))
        values.append(r["value"])
        costs.append(r[cost_name] / (1e6 if cost_name == "bytes" else 1))
    return panels


def axis_labels(cost_label: str) -> dict:
    return {"image_size": ("image size, pixels", cost_label),
            "batch_size": ("batch size", cost_label), "latent_dim": ("latents", cost_label)}


# %%
Picture(
    charts.growth(grown("ms"), axis_labels("ms a step")),
    "cost_time_growth",
    "Three log-log panels: milliseconds a step over image size, batch size and number of latents, "
    "for both decoders and both loops.",
)

# %%
Picture(
    charts.growth(grown("bytes"), axis_labels("peak of a step, MB")),
    "cost_memory_growth",
    "Three log-log panels: the peak memory of a step over image size, batch size and number of "
    "latents, for both decoders and both loops.",
)

# %% [markdown]
# Image and batch size act alike, since both are pixels. With the latents, beware: the cases were
# timed one after another, and the machine changed its pace in between. From 5 to 20 even DeConv
# slows down, though it has next to nothing more to do. From 20 to 80 our loop stays as it is, and
# the plain SB decoder, which tiles them, pays for each. And in our loop, on this machine in
# `bfloat16`, the SB decoder needs about as much memory as DeConv in a plain `float32` one.
#
# The distance between the decoders, SBD over DeConv in our loop:

# %%
by_size = {name: {d: dict(zip(*grown(name)["image_size"][f"{d} ours"], strict=True))
                  for d in DECODERS} for name in ("ms", "bytes")}
Markdown("\n".join([
    "| image size | " + " | ".join(map(str, SIZES)) + " |", "|---" * 5 + "|",
    *(f"| {label} | "
      + " | ".join(f"{by_size[name]['sbd'][n] / by_size[name]['deconv'][n]:.2f}" for n in SIZES)
      + " |" for name, label in (("ms", "time"), ("bytes", "memory"))),
]))

# %% [markdown]
# Both grow with the picture and stay below the ratio of the work: in small pictures what the two
# have in common, encoder, optimizer and overhead, weighs most.
#
# ## The same model?
#
# In half the precision, compiled, with its sums in another order, our loop does not give to the bit
# what plain arithmetic gives. Is the model as good? `make study NAME=seeds` trained five seeds
# under the preset `quick` both ways: as we do, and with the same code in eager `float32`. Is our
# mean among the eager runs? And since both begin with the same weights and see the same images and
# noise, how do they differ seed by seed?

# %%
lines = ["| score | decoder | eager float32, lowest to highest | ours, mean | "
         "ours less eager, 95% interval |", "|---" * 5 + "|"]
within, intervals = [], []
for name, label in study.SCORES.items():
    for decoder in DECODERS:
        plain, ours = ([row[name] for row in study.read_scores("quick", loop)
                        if row["decoder"] == decoder] for loop in ("plain", "ours"))
        mean = statistics.mean(ours)
        low, high = interval([mine - its for mine, its in zip(ours, plain, strict=True)])
        within.append(min(plain) <= mean <= max(plain))
        intervals.append(low <= 0 <= high)
        lines.append(f"| {label} | {NAMES[decoder]} | {min(plain):.4g} to {max(plain):.4g} | "
                     f"{mean:.4g} | {low:.2g} to {high:.2g} |")
Markdown("\n".join(lines))

# %% tags=["nbval-check-output"]
print(f"{sum(within)} of {len(within)} means lie within the spread of eager float32")
print(f"{sum(intervals)} of {len(intervals)} intervals of the difference contain 0")

# %% [markdown]
# Every mean is within, and no interval excludes 0. That is as much as five seeds of twenty epochs
# can say: no difference was found, and one larger than the intervals is unlikely.
#
# ## The drawbacks, all at once
#
# What does the SB decoder cost, in units of DeConv? It depends on the loop:

# %%
both = {r["decoder"]: r for r in BENCH["rows"] if r["precision"] == BENCH["rows"][0]["precision"]}


def over(cost_name: str) -> str:
    return f"{both['sbd'][cost_name] / both['deconv'][cost_name]:.2f}"


Markdown("\n".join([
    "| SBD over DeConv | plain loop | ours | the post |", "|---" * 4 + "|",
    f"| time of a step | {over('plain_ms')} | {over('ours_ms')} | 1.48 |",
    f"| peak memory of a step | {over('plain_bytes')} | {over('ours_bytes')} | about 1.5 |",
]))

# %% [markdown]
# The post's loop is a plain one, but on a GPU, and it does not say what its memory counts. So the
# last column is no check of the others; it is there to show that "half as much again" is a fact
# about a loop and a machine as much as about a decoder.
#
# ## The claims
#
# "Slower" and "under 30 minutes" are about the trainings of [notebook 03](03_training.ipynb), in
# our loop; "more memory" is about an eager `float32` step, as the post's was.

# %%
if PRESET == "blog":
    where = claims.THIS_RUN
    deconv, sbd = (
        training.load_or_train(
            training.TrainConfig(name, SEED, **TRAINING[PRESET]), images
        ).history.undisturbed_seconds for name in DECODERS
    )
    slower, minutes = {"ratio": sbd / deconv}, {"minutes": (sbd + deconv) / 60}
else:
    where = claims.COMMITTED
    slower, minutes = claims.committed("slower"), claims.committed("under-30-min")

# %%
deconv, sbd = (memory["eager float32"][name] / 1e6 for name in DECODERS)
report = claims.Report(
    claims.check("more-memory", DeConv=deconv, SBD=sbd, off=abs(sbd / deconv - 1.5)),
    claims.check("slower", where, **slower),
    claims.check("under-30-min", where, **minutes),
)
report

# %% tags=["nbval-check-output"]
print(report.verdicts())

# %% [markdown]
# ---
#
# In this notebook we have seen that the SB decoder does the same multiple of DeConv's work at every
# size, that its memory is a few full-size feature maps of which not all need be held, that its
# first layer has only nine different answers for a code, and that a plain loop makes the price look
# larger than it is.
#
# **On your own.** The middle convolution is nearly all of the work. Replace it by a depthwise one
# followed by a 1×1, and see what the decoder loses.
#
# **In practice.** Before you call a model slow, measure how near its step comes to what the machine
# can do. If it is far away, the loop is slow.
#
# **Further reading.** Gradient accumulation and channels-last in the [PyTorch performance
# guide](https://pytorch.org/tutorials/recipes/recipes/tuning_guide.html); [roofline
# models](https://doi.org/10.1145/1498765.1498785) (Williams et al. 2009) on reading the distance to
# a ceiling.
