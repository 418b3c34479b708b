"""Every public function refuses what it cannot use in our own words, before anything goes wrong."""

import inspect
import re
import traceback
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from sbd_utils import checks, claims
from sbd_utils.data import circles, dsprites, not_so_clevr, rules, sprites
from sbd_utils.data import factors as sets
from sbd_utils.metrics import (
    axes,
    codes,
    cost,
    disentanglement,
    geometry,
    information,
    intervals,
    pictures,
    prediction,
    scores,
)
from sbd_utils.metrics import describe as kinds
from sbd_utils.metrics.intervals import Estimate
from sbd_utils.models import coordconv, decoders, layers
from sbd_utils.models import vae as models
from sbd_utils.plots import charts, style
from sbd_utils.plots import geometry as maps
from sbd_utils.plots import pictures as grids
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.records import History, Run

torch.manual_seed(0)
SPRITES = circles.make_sprites(32, (8,), 3)  # 27
VAE = models.VAE("sbd", 3, image_size=32).eval()
MU = np.random.default_rng(0).normal(size=(27, 3))
PERIODS = {"x": 2.0}
SCORED = dict(
    codes=np.random.default_rng(0).normal(size=(75, 2)),
    periods=PERIODS,
    factors={name: np.tile(SPRITES.factors[name], 3)[:75] for name in ("x", "y", "color")},
)
DISCS, HELD = sprites.WORLDS["large"], sprites.WORLDS["quadrant"]
PLACE, GENERATOR = sprites.PLACE, torch.Generator()
RULE = rules.Rule("x < 2", ("x",), lambda x: x < 2)
DRAWN = {name: torch.ones(2) for name in sprites.FACTORS}
REAL = dsprites.DSprites(
    np.ones((9, 512), np.uint8), {name: np.arange(9.0) for name in dsprites.NAMES[1:]}
)
PRECISION, EYE = np.stack([np.diag([3.0, 2, 1])] * 4), np.eye(3)
PICTURES = np.random.default_rng(0).uniform(size=(27, 3, 32, 32))
LATTICE = geometry.lattice_places(np.linspace(0, 1, 6))
RUN = Run(TrainConfig(epochs=1), VAE, History([1.0], [1.0], [1.0]))
ROW = claims.check("slower", Estimate(2.0, 1.5, 2.5, 3))
ROWS = pd.DataFrame(
    {
        **{name: ["deconv", "sbd"] for name in ("decoder", "piece", "network")},
        "start": ["linear", "broadcast"],
        "end": ["plain", "coordconv"],
        "loop": "ours",
        "panel": "a",
        "up": "a",
        **{
            name: [1.0, 2.0]
            for name in (
                "folds",
                "pattern",
                "bent",
                "mixing",
                "epochs",
                "beta",
                "kl",
                "error",
                "weight",
                "value",
                "cost",
                "ratio",
                "low",
                "high",
                "seed",
                "hollow",
            )
        },
    }
)
# Of each function or class: arguments that it takes. What is not checked is not here, but in FREE.
CALLS = [
    (
        claims.Claim,
        dict(
            id="a",
            says="b",
            source="c",
            measure="d",
            unit="e",
            side="<",
            bound=1.0,
            recorded="reproduced",
            size=(1, 2),
            untestable="e",
        ),
    ),
    (claims.check, dict(id="slower", measured=Estimate(2, 1, 3, 4))),
    (claims.Report, dict(rows=ROW)),
    (claims.table, dict(rows=[ROW])),
    (claims.measured, dict(row=ROW)),
    (claims.format_value, dict(value=1.5)),
    (intervals.Estimate, dict(value=2.0, low=1.0, high=3.0, count=3)),
    (intervals.exactly, dict(value=1.0)),
    (intervals.mean, dict(values=[1.0, 2.0])),
    (axes.wanted_precision, dict(vae=VAE, mu=MU[:2], log_var=MU[:2])),
    (axes.turned_axes, dict(precision=PRECISION)),
    *(
        (function, dict(precision=PRECISION, axes=EYE))
        for function in (axes.precision_along, axes.diagonal_posterior_gap, axes.optimal_stddevs)
    ),
    (axes.balanced_noise, dict(count=4, latent_dim=3, seed=0)),
    (
        axes.loss_along,
        dict(
            vae=VAE,
            images=SPRITES.images[:4],
            mu=MU[:4],
            axes=EYE,
            widths=np.ones(3),
            noise=axes.balanced_noise(4, 3, 0),
        ),
    ),
    (codes.encode, dict(vae=VAE, images=SPRITES.images[:2])),
    (codes.device_of, dict(vae=VAE)),
    (codes.decode, dict(vae=VAE, codes=MU[:2], clamp=True)),
    (codes.traverse, dict(codes=MU, values=[0.0, 1.0], axes=EYE)),
    (cost.count_parameters, dict(module=VAE)),
    (cost.resident_bytes, dict(module=VAE)),
    (cost.multiply_adds, dict(function=lambda: None)),
    (cost.peak_bytes, dict(function=list)),
    (cost.step_bytes, dict(config=TrainConfig(compiled=False), images=SPRITES.images)),
    (information.mig, dict(codes=MU, factors=SPRITES.factors, periods=PERIODS, bins=20)),
    *(
        (function, SCORED | dict(bins=20))
        for function in (information.modularity, information.infomec)
    ),
    *(
        (function, SCORED)
        for function in (
            disentanglement.report,
            prediction.dci,
            prediction.sap,
            prediction.mcc,
            prediction.factor_vae_score,
            geometry.affine_r2,
            geometry.sum_r2,
        )
    ),
    (information.kl_per_latent, dict(mu=MU, log_var=MU)),
    (information.active_units, dict(mu=MU)),
    (prediction.error_ratio, dict(seen=MU[:, 0] ** 2, unseen=MU[:3, 0] ** 2)),
    (kinds.describe, SCORED | dict(bins=20, estimated=True)),
    (kinds.alive, dict(codes=MU)),
    (disentanglement.hand_made, dict(count=9, seed=0)),
    (geometry.affine_fit, dict(source=MU[:, :2], target=MU[:, :2])),
    (geometry.folded_cells, dict(lattice=LATTICE)),
    (geometry.informative_latents, dict(log_var=MU)),
    (geometry.additive_model_r2, dict(codes=MU, places=MU[:, :2], labels=SPRITES.factors["color"])),
    (geometry.knn_probe_r2, dict(codes=MU, places=MU[:, :2])),
    (geometry.principal_plane, dict(codes=LATTICE, places=LATTICE)),
    (geometry.compare, dict(points=LATTICE, places=LATTICE)),
    (geometry.lattice_places, dict(lines=[0.0, 1.0])),
    (geometry.draw_lattice, dict(sprites=SPRITES, color="red")),
    (geometry.encode_lattice, dict(vae=VAE, sprites=SPRITES, color="red")),
    (geometry.measure_geometry, dict(vae=VAE, sprites=SPRITES, latents=[0, 1], color="red")),
    *(
        (function, dict(images=PICTURES))
        for function in (pictures.find_blobs, pictures.strength, pictures.spectrum)
    ),
    (pictures.fixed_pattern, dict(images=PICTURES, period=2)),
    (pictures.gray_levels, dict(images=PICTURES, period=2)),
    (pictures.local_pattern, dict(pictures=PICTURES, truth=PICTURES, side=8, period=2)),
    (pictures.quadrant, dict(power=np.ones((8, 8)))),
    (pictures.peak_height, dict(power=np.ones((8, 8)), period=2)),
    (pictures.explained, dict(sprites=SPRITES, pictures=PICTURES)),
    (pictures.right_blobs, dict(sprites=SPRITES, pictures=PICTURES)),
    (pictures.measure_moves, dict(vae=VAE, mu=MU[:2], sprites=SPRITES, every=2, axes=EYE)),
    (scores.score, dict(run=RUN, sprites=SPRITES)),
    (style.looks, dict(names=["sbd", "mine"])),
    (style.new_figure, dict(width=8.0, height=3.0)),
    (style.Picture, dict(figure=style.new_figure(), name="a", alt="b", chart=True)),
    (
        charts.loss_curves,
        dict(
            histories={"sbd": {"reconstruction": [1.0], "kl": [1.0]}},
            published={"sbd": {"reconstruction": 1.0, "kl": 1.0}},
        ),
    ),
    (
        charts.responses,
        dict(
            centroids={"a": np.ones((2, 3, 4, 2))},
            colors={"a": np.ones((2, 3, 4, 3))},
            starts=np.ones((2, 2)),
            image_size=64,
        ),
    ),
    (
        charts.moves,
        dict(tables={"a": pd.DataFrame(EYE, columns=["x", "y", "color"])}, threshold=0.1),
    ),
    (charts.seed_spread, dict(rows=ROWS, panels={"kl": "a"}, bounds={"kl": 1.0}, most={"kl": 2.0})),
    (charts.growth, dict(rows=ROWS, labels={"a": ("x", "y")}, names=style.NAMES)),
    (charts.pieces, dict(rows=ROWS)),
    (charts.rate_distortion, dict(rows=ROWS)),
    (charts.learning, dict(panels={"a": {"plain": ([1, 2], [0.0, 0.1])}})),
    (charts.dissociation, dict(rows=ROWS, bound=0.1)),
    (
        charts.dots,
        dict(
            rows=ROWS,
            line="decoder",
            group="start",
            panels={"kl": "a"},
            hollow="b",
            ticks={"kl": (1, 2)},
            bound=0.1,
        ),
    ),
    (maps.geometry, dict(points={"a": LATTICE}, axis_labels={"a": ("x", "y")})),
    (maps.geometry_epochs, dict(lattices={"a": {"b": LATTICE}}, captions={"a": {"b": "c"}})),
    (
        maps.geometry_movie,
        dict(
            truth=LATTICE,
            planes={"sbd": LATTICE[None]},
            epochs=[1],
            name="a",
            alt="b",
            milliseconds=250,
        ),
    ),
    (style.Movie, dict(webp=b"", name="a", alt="b", width=800)),
    (maps.wanted_widths, dict(precision=np.eye(2), axis_labels=("a", "b"))),
    (grids.draw_image, dict(axes=style.new_figure().subplots(), image=PICTURES[0])),
    (
        grids.image_grid,
        dict(
            images=PICTURES[:2][None],
            row_labels=["a"],
            column_labels=["b", "c"],
            title="d",
            x_label="e",
            cell=0.8,
        ),
    ),
    (grids.schematic, dict(steps={"sbd": [("input", "", [5]), ("Conv2d", "3×3", [3, 8, 8])]})),
    (grids.broadcast, dict(tiled=PICTURES[0])),
    (grids.regions, dict(numbers=EYE)),
    (
        grids.traversals,
        dict(
            inputs=PICTURES[:2],
            reconstructions={"a": PICTURES[:2]},
            sweeps={"a": PICTURES[:2][None]},
            values=[0.0, 1.0],
            start=1,
        ),
    ),
    (
        grids.heat_maps,
        dict(rows={"a": {"b": EYE + 1}}, label="c", ticks=[0, 1], x_label="d", log=True),
    ),
    (circles.draw_sprite, dict(x=0.5, y=0.5, shape="circle", size=8, color="red", image_size=32)),
    (
        circles.make_sprites,
        dict(image_size=32, sizes=(8,), positions=2, shapes=("circle",), colors=("red",)),
    ),
    (circles.Sprites, dict(images=SPRITES.images, factors=SPRITES.factors)),
    (SPRITES.only, dict(factor="size")),
    (SPRITES.span, dict(factor="x")),
    (sets.Continuous, dict(name="a", low=0.0, high=1.0, periodic=True)),
    (sets.Discrete, dict(name="a", values=(1, 2))),
    (sets.Product, dict(parts=(PLACE,))),
    (sets.Union, dict(parts=(PLACE, PLACE))),
    (sets.SetMinus, dict(around=PLACE, hole=sprites.CORNER)),
    (rules.Where, dict(around=PLACE, rule=RULE)),
    (rules.Dependent, dict(whole=PLACE, factor=sprites.HUE, rule=RULE)),
    (rules.Rule, dict(text="a", names=("x",), function=abs)),
    (PLACE.grid, dict(steps=3)),
    (PLACE.sample, dict(count=3, generator=GENERATOR)),
    (PLACE.contains, dict(factors=DRAWN)),
    (sprites.draw, dict(factors=DRAWN, image_size=32)),
    (sprites.rgb, dict(h=torch.ones(2), s=torch.ones(2), v=torch.ones(2))),
    (
        sprites.World,
        dict(name="a", train=HELD.train, held_out=HELD.held_out, fixed=HELD.fixed, image_size=32),
    ),
    (sprites.discs, dict(name="a", pixels=4.0, train=DISCS.train, held_out=None)),
    (DISCS.sample, dict(count=3, generator=GENERATOR, device="cpu")),
    (DISCS.draw, dict(factors={name: DRAWN[name] for name in "xyh"})),
    (REAL.images, dict(rows=np.arange(3))),
    (REAL.sample, dict(count=3, generator=GENERATOR)),
    (dsprites.DSprites, dict(packed=REAL.packed, factors=REAL.factors)),
    (not_so_clevr.held_out, dict(split="uniform", seed=0)),
    *(
        (function, dict(places=not_so_clevr.centers()[:2]))
        for function in (
            not_so_clevr.coordinates,
            not_so_clevr.one_hot,
            not_so_clevr.pixel_numbers,
            not_so_clevr.squares,
        )
    ),
    (layers.coordinate_grid, dict(height=3, width=4)),
    (layers.Broadcast, dict(side=3)),
    (
        layers.BroadcastConv2d,
        dict(latent_dim=2, out_channels=3, kernel=3, side=8, coordinates=True, padding=1),
    ),
    (
        decoders.DecoderConfig,
        dict(
            start="linear", up="deconv", depth=3, coordinates="none", width=8, kernel=4, padded=True
        ),
    ),
    (
        decoders.ComposedDecoder,
        dict(latent_dim=2, image_size=32, config=decoders.DECONV, channels=3),
    ),
    (coordconv.new_network, dict(task="rendering", network="coordconv")),
    (coordconv.distinct_pixels, dict(recipe=coordconv.COORDCONV)),
    (decoders.builder, dict(name="sbd")),
    (models.Encoder, dict(latent_dim=2, image_size=32)),
    (models.VAE, dict(decoder="sbd", latent_dim=2, decoder_variance=0.3, image_size=32)),
    (VAE.encode, dict(x=SPRITES.images[:2])),
    (VAE.decode, dict(z=torch.zeros(2, 3))),
    (VAE.reconstruct, dict(x=SPRITES.images[:2])),
    (VAE.loss_terms, dict(x=SPRITES.images[:2], noise=torch.zeros(2, 3))),
]
# Results, layers of torch's own arguments, what takes no argument, and what takes a file.
FREE = {
    "Blobs",
    "Moves",
    "AffineFit",
    "Geometry",
    "Task",
    "TransposedConv2d",
    "FrugalConv2d",
    "AppendCoordinates",
    "NearestUpsample",
    "centers",
    "read",
    "FactorSet",
    "Part",
    "Factor",
    "CorrelatedFactors",
}
# NaN is a gap; the values, or the length, cost too much to look at in every step of training.
UNSEEN = {"power", "x", "noise", "z", "grid", "weight", "bias"}
# None need be there, nor is looked at if it is not drawn.
LOOSE = {"published", "ticks", "bounds", "periods", "most"}


def wrong(name, value):
    """What can never stand in place of an argument of this value."""
    yield from (object(), [[1, 2], [3]], np.array([object(), "a"]), [None, None])
    if not isinstance(value, str):
        yield from ("no", Path("a.png"))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from (float("nan"), float("inf"), True, [value])
    if isinstance(value, (np.ndarray, torch.Tensor)):
        yield from (SPRITES, value[..., None], -3)
        if name not in UNSEEN and value.dtype in (torch.float32, np.float32, np.float64):
            yield from (value * float("nan"), value[:0])
    if isinstance(value, dict) and name not in LOOSE:
        yield from ({}, {"a": []}, {"a": "text"}, {"a": {}}, {"a": object()})
    if isinstance(value, pd.DataFrame):
        yield from (value.iloc[:0], value.iloc[:, :1], value.astype(str), value.iloc[:, :0])


@pytest.mark.parametrize("function, given", CALLS, ids=lambda part: getattr(part, "__name__", ""))
def test_no_argument_may_be_just_anything(function, given):
    def call(**given):
        return function(*given.values()) if function is claims.Report else function(**given)

    call(**given)
    parameters = inspect.signature(function).parameters
    for name, value in given.items():
        optional = name in parameters and parameters[name].default is None
        for other in (*wrong(name, value), *(() if optional else (None,))):
            try:
                call(**given | {name: other})
            except ValueError as error:
                where = traceback.extract_tb(error.__traceback__)[-1].filename
                assert " must " in str(error) and "sbd_utils" in where, (name, other, where)
            else:
                raise AssertionError(f"{name} was accepted: {other!r}")


def test_every_public_function_is_called_here():
    modules = (
        claims,
        axes,
        codes,
        cost,
        disentanglement,
        geometry,
        information,
        intervals,
        kinds,
        pictures,
        prediction,
        scores,
        style,
        charts,
        maps,
        grids,
        circles,
        dsprites,
        not_so_clevr,
        rules,
        sets,
        sprites,
        coordconv,
        decoders,
        layers,
        models,
    )
    public = {
        name
        for module in modules
        for name, thing in vars(module).items()
        if isinstance(thing, (type, types.FunctionType))
        and not name.startswith("_")
        and thing.__module__ == module.__name__
    }
    assert public - FREE == {function.__name__ for function, _ in CALLS} & public


IMAGES = SPRITES.images[:2]


@pytest.mark.parametrize(
    "bad, says",
    [
        (SPRITES, "got a Sprites; give its .images: NAME.images"),
        ("disc.png", "got 'disc.png'; PIL.Image.open says: [Errno 2] No such file"),
        (Path("disc.png"), "; PIL.Image.open says"),
        ([], "got []"),
        ([1, IMAGES], "got a list"),
        (
            [Image.new("RGB", (32, 32)), Image.new("I;16", (32, 32))],
            "; its images differ in their ran",
        ),
        (list(IMAGES), "got a list; give torch.stack(NAME)"),
        (
            IMAGES.numpy(),
            "got ndarray of float32, shape [2, 3, 32, 32]; give torch.from_numpy(NAME)",
        ),
        (IMAGES.permute(0, 2, 3, 1), "shape [2, 32, 32, 3]; give NAME.movedim(-1, -3)"),
        (IMAGES[0], "shape [3, 32, 32]; give NAME[None]"),
        (
            (255 * IMAGES).byte(),
            "got Tensor of torch.uint8, shape [2, 3, 32, 32]; give NAME.float() /",
        ),
        ((255 * IMAGES).int(), "; the range of int32 must be known: give NAME.float() / 255 if it"),
        ((255 * IMAGES[:, 0]).byte(), "; if it is gray, give NAME.float().unsq"),
        (IMAGES.double(), "got Tensor of torch.float64, shape [2, 3, 32, 32]; give NAME.float()"),
        (255 * IMAGES, "got values from 0 to 255; if it is 8 bits, give NAME / 255"),
        (256 * IMAGES, "got values from 0 to 256"),
        (IMAGES - 0.5, "got values from -0.5 to 0.5"),
        (IMAGES * np.nan, "got values from nan to nan"),
        (IMAGES[:0], "got Tensor of torch.float32, shape [0, 3, 32, 32]"),
        (IMAGES[..., :16], "shape [2, 3, 32, 16]"),
        (IMAGES[:, :2], "shape [2, 2, 32, 32]"),
        (IMAGES.to(torch.complex64), "got Tensor of torch.complex64, shape [2, 3, 32, 32]"),
        (
            np.ma.masked_less(IMAGES.numpy(), 0.5),
            "got MaskedArray of float32, shape [2, 3, 32, 32]",
        ),
    ],
)
def test_wrong_images_are_told_the_call_that_helps(bad, says):
    for name, size, door in (
        ("images", "size", lambda value: checks.images("images", value)),
        ("images", 32, lambda value: codes.encode(VAE, value)),
        ("x", 32, VAE.encode),
        ("x", 32, VAE.reconstruct),
    ):
        with pytest.raises(ValueError) as caught:
            door(bad)
        wanted = f"{name} must be a float32 tensor in [0, 1], [N, 3, {size}, {size}], got "
        assert str(caught.value).startswith(wanted)
        assert says.replace("NAME", name) in str(caught.value)
        assert "; " in says or "; " not in str(caught.value), "a call that does not help"


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, .* are deprecated:UserWarning")
@pytest.mark.parametrize(
    "word, odd",
    [
        ("sparse_coo", torch.Tensor.to_sparse),
        ("meta", lambda x: x.to("meta")),
        ("nested", lambda x: torch.nested.as_nested_tensor(list(x), layout=torch.jagged)),
        ("quantized", lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
    ],
)
def test_tensors_whose_numbers_cannot_be_read_are_told(word, odd):
    z = odd(torch.zeros(2, 3))
    for door in (
        VAE.decode,
        lambda z: checks.images("z", z),
        lambda z: checks.arrays(z=(z, "n m")),
        lambda z: checks.labels("z", z, 2),
    ):
        with pytest.raises(ValueError, match=f"^z must be .*, got a {word} tensor$"):
            door(z)
    column = z if word == "nested" else odd(torch.zeros(2))  # which has two dimensions at least
    with pytest.raises(ValueError, match=rf"^z\['a'\] must be .*, got a {word} tensor$"):
        checks.columns("z", {"a": column}, ["a"])


RAMP = np.linspace(0, 255, 32 * 32 * 3).round().astype(np.uint8).reshape(32, 32, 3)[:, ::-1]
COLORS = Image.fromarray(RAMP)
GRAY16 = np.linspace(0, 20000, 32 * 32).astype(np.uint16).reshape(32, 32)  # dark
ALPHA = COLORS.copy()
ALPHA.putalpha(Image.linear_gradient("L").resize((32, 32)))
ON_WHITE = Image.alpha_composite(Image.new("RGBA", (32, 32), "white"), ALPHA).convert("RGB")
TURNED = Image.Exif()
TURNED[0x0112] = 6  # turn it clockwise to see it


# Pillow keeps a GIF open, for its next frame, until it is collected.
@pytest.mark.filterwarnings("ignore:unclosed file .*palette.gif:ResourceWarning")
@pytest.mark.parametrize(
    "file, image, shown, options",
    [
        ("rgb.png", COLORS, RAMP, {}),
        ("gray.png", COLORS.convert("L"), COLORS.convert("L").convert("RGB"), {}),
        ("palette.png", COLORS.convert("P"), COLORS.convert("P").convert("RGB"), {}),
        ("palette.gif", COLORS.convert("P"), COLORS.convert("P").convert("RGB"), {}),
        ("rgba.png", ALPHA, ON_WHITE, {}),
        ("alpha.tif", ALPHA, ON_WHITE, {}),
        ("cmyk.jpg", COLORS.convert("CMYK"), RAMP, dict(quality=100)),
        ("gray16.png", Image.fromarray(GRAY16), np.stack([GRAY16 / 257] * 3, axis=-1), {}),
        ("turned.jpg", COLORS, RAMP[::-1].transpose(1, 0, 2), dict(exif=TURNED, quality=100)),
    ],
)
def test_calls_for_files_show_what_the_file_shows(file, image, shown, options, tmp_path):
    path = tmp_path / file
    image.save(path, **options)
    with Image.open(path) as image:
        image.load()
    for images in (path, str(path), [path, path], image, (image, image)):
        found = 255 * followed("images", images)
        assert found.shape == (2 if isinstance(images, (list, tuple)) else 1, 3, 32, 32)
        loss = 20 if file.endswith("jpg") else 1  # of a pixel; the mean is kept
        for one in found:
            expected = torch.tensor(np.asarray(shown, np.float32)).movedim(-1, 0)
            assert one.mean().item() == pytest.approx(expected.mean().item(), abs=loss / 20)
            assert (one - expected).abs().max() <= loss


def test_a_list_of_files_that_differ_is_read_as_all_of_them_need(tmp_path):
    paths = [tmp_path / "rgb.png", tmp_path / "rgba.png"]
    for path, image in zip(paths, (COLORS, ALPHA), strict=True):
        image.save(path)
    for one, shown in zip(followed("images", paths), (COLORS, ON_WHITE), strict=True):
        expected = torch.tensor(np.asarray(shown, np.float32)).movedim(-1, 0)
        assert (255 * one - expected).abs().max() <= 1


FOUR = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
GRAY = SPRITES.images[:2].max(dim=1).values  # [2, 32, 32]


@pytest.mark.parametrize(
    "image, expected, cmyk",
    [
        (np.stack([RAMP] * 2), torch.tensor(RAMP.copy()).movedim(-1, 0) / 255, False),
        (RAMP, torch.tensor(RAMP.copy()).movedim(-1, 0) / 255, False),
        ([RAMP, RAMP], torch.tensor(RAMP.copy()).movedim(-1, 0) / 255, False),
        (RAMP.astype(">u2") * 257, torch.tensor(RAMP.copy()).movedim(-1, 0) / 255, False),
        (GRAY, GRAY[:, None].expand(-1, 3, -1, -1), False),
        (GRAY[:, None], GRAY[:, None].expand(-1, 3, -1, -1), False),
        (GRAY[0].numpy(), GRAY[:1, None].expand(-1, 3, -1, -1), False),
        (255 * GRAY, GRAY[:, None].expand(-1, 3, -1, -1), False),
        ((255 * GRAY).byte(), (255 * GRAY).byte()[:, None].expand(-1, 3, -1, -1) / 255, False),
        ([*GRAY, GRAY[1]], GRAY[[0, 1, 1], None].expand(-1, 3, -1, -1), False),  # three, but no RGB
        (FOUR, FOUR[:, :3] * FOUR[:, 3:] + 1 - FOUR[:, 3:], False),
        (FOUR.movedim(1, -1).numpy(), (1 - FOUR[:, :3]) * (1 - FOUR[:, 3:]), True),
    ],
)
def test_calls_for_arrays_make_the_images_that_they_are(image, expected, cmyk):
    found = followed("images", image, cmyk)
    torch.testing.assert_close(found, expected.broadcast_to(found.shape))
    with pytest.raises(ValueError) as caught:  # drawing takes one image, without a first dimension
        checks.pictures(image=(np.float32(GRAY[0]), "3 height width"))
    assert str(caught.value).endswith(".unsqueeze(-3).repeat_interleave(3, -3)")


def followed(name, images, cmyk=False):
    """The images after the calls of the messages, as they are written, until there is no more."""
    for _ in range(3):
        try:
            checks.images(name, images)
            return images
        except ValueError as error:
            says = str(error)
        names = {name: images, "np": np, "torch": torch, "Image": Image, "ImageOps": ImageOps}
        if split := re.search(r"with (c, k = .*), RGBA over", says):
            exec(split[1], names)
        call = re.search(r"RGBA over white is ([^,]*)|give (.*?)(?:; if|$)", says)
        if cmyk:
            call = re.search(r"CMYK is (.*)", says)
        images = eval(call[1] or call[2], names)
    raise AssertionError(says)


@pytest.mark.parametrize(
    "bad, says",
    [
        (SPRITES, "; give its .images: images.images"),
        ("disc.png", "; PIL.Image.open says: [Errno 2"),
        (
            PICTURES.transpose(0, 2, 3, 1),
            "; give torch.from_numpy(images.astype('float32')).movedim",
        ),
        (torch.from_numpy(PICTURES[0]), "; give images.float()[None]"),
        (
            (255 * PICTURES).astype(np.uint8),
            "; give torch.from_numpy(images.astype('float32')) / 255",
        ),
        ((255 * PICTURES).astype(int), "; the range of int64 must be known"),
        (
            PICTURES[:, :1],
            "; give torch.from_numpy(images.astype('float32')).repeat_interleave(3, -3)",
        ),
        (PICTURES[:, :2], "got ndarray of float64, shape [27, 2, 32, 32]"),
    ],
)
def test_wrong_pictures_are_told_so_too(bad, says):
    with pytest.raises(ValueError) as caught:
        pictures.find_blobs(bad)
    assert str(caught.value).startswith("images must be numbers, [N, 3, height, width], got ")
    assert says in str(caught.value)
    for good in (PICTURES.tolist(), torch.from_numpy(PICTURES), list(PICTURES)):
        assert (pictures.find_blobs(good).count == pictures.find_blobs(PICTURES).count).all()


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: pictures.explained(SPRITES, PICTURES[:1]),
            "pictures must be numbers, [27, 3, 32, 32",
        ),
        (
            lambda: pictures.right_blobs(SPRITES, PICTURES[0]),
            "pictures must be numbers, [27, 3, 32",
        ),
        (
            lambda: pictures.local_pattern(PICTURES[:1], PICTURES),
            "truth must be numbers, [N, channels, height, width] with N = 1, got",
        ),
        (
            lambda: VAE.loss_terms(IMAGES, torch.zeros(1, 3)),
            "noise must be a tensor of floats [2, 3]",
        ),
        (
            lambda: VAE.loss_terms(IMAGES[..., :16], torch.zeros(2, 3)),
            "x must be a tensor of floats [N, 3, 32, 32], got",
        ),
        (lambda: geometry.folded_cells(LATTICE * np.nan), "lattice must be finite, got a NaN"),
        (
            lambda: geometry.compare(LATTICE[:4, :4], LATTICE[:4, :4]),
            "points must be [n, n, 2] with n",
        ),
        (lambda: codes.traverse(MU, axes=EYE + 0.1), "axes must have orthonormal rows"),
        (
            lambda: axes.diagonal_posterior_gap(PRECISION, 2 * EYE),
            "axes must have orthonormal rows",
        ),
        (
            lambda: axes.diagonal_posterior_gap(PRECISION - 9, EYE),
            "precision must be symmetric and positive definite",
        ),
        (
            lambda: axes.turned_axes(PRECISION + np.triu(np.ones((3, 3)))),
            "precision must be symmetric",
        ),
        (lambda: decoders.ComposedDecoder(5, 48), "side must lead to 48 by doublings, got 2"),
        (lambda: models.VAE(lambda latent_dim, size: lambda z: z), "decoder must be a Module, got"),
        (lambda: charts.learning({}), "panels must be a mapping, not empty, got []"),
        (
            lambda: charts.pieces(ROWS.iloc[:0]),
            "rows must be a DataFrame with rows of decoder, piece",
        ),
        (
            lambda: grids.image_grid(IMAGES[None], column_labels=["a"]),
            "column_labels must be 2 texts",
        ),
        (lambda: circles.make_sprites(colors=("red", "red")), "colors must be a list of different"),
        (
            lambda: circles.Sprites(IMAGES, SPRITES.factors),
            "factors['x'] must be 2 texts or numbers",
        ),
        (
            lambda: checks.labels("kind", ["disc", float("nan")], 2),
            "kind must be 2 texts or numbers",
        ),
        (lambda: checks.labels("kind", ["disc", 1], 2), "kind must be 2 texts or numbers"),
        *(
            (lambda call=call: call(np.ma.masked_equal([1.0, 9.0], 9)), "x must be ")
            for call in (
                lambda value: checks.labels("x", value, 2),
                lambda value: checks.arrays(x=(value, "N")),
            )
        ),
        (lambda: checks.arrays(codes=(np.array([["1"]], object), "n m")), "codes must be numbers"),
        (
            lambda: circles.Sprites(IMAGES, {"x": [0, 1]}),
            "factors must be a mapping of x, y, shape",
        ),
        (lambda: SPRITES.only("color"), "sprites must be of one color, got blue, green, red"),
    ],
)
def test_what_was_once_accepted_is_refused_in_these_words(call, says):
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value).startswith(says)
