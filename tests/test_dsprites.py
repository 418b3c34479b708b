"""The reader of dSprites on small files that are laid out as the real one, and as others."""

import io
import zipfile
from itertools import product

import numpy as np
import pytest
import torch

from sbd_utils.data import dsprites

TURN = 2 * np.pi


class Bomb:
    """What a pickle may do when it is read."""

    def __reduce__(self):
        return pytest.fail, ("the metadata was unpickled",)


def layout():
    """48 random images with the real file's keys, types and order."""
    steps = [(1.0,), (1.0, 2.0, 3.0), (0.5, 1.0), (0.0, TURN), (0.0, 1.0), (0.0, 1.0)]
    metadata = np.empty((), object)
    metadata[()] = Bomb()
    return {
        "metadata": metadata,
        "imgs": np.random.default_rng(0).integers(0, 2, (48, 64, 64), np.uint8),
        "latents_classes": np.array(list(product(*map(range, map(len, steps))))),
        "latents_values": np.array(list(product(*steps))),
    }


@pytest.fixture
def save(tmp_path):
    def save(**changed):
        arrays = {k: v for k, v in (layout() | changed).items() if v is not None}
        np.savez_compressed(tmp_path / "dsprites.npz", **arrays)
        return tmp_path / "dsprites.npz"

    return save


@pytest.mark.parametrize("block", [7, 4096])
def test_every_image_and_factor_in_order_and_no_pickle(save, monkeypatch, block):
    monkeypatch.setattr(dsprites, "BLOCK", block)
    sprites, wanted = dsprites.read(save()), layout()
    assert len(sprites) == 48 and sprites.packed.nbytes == wanted["imgs"].nbytes / 8
    images = sprites.images(np.arange(48))
    assert images.shape == (48, 3, 64, 64) and images.dtype == torch.float32
    for channel in range(3):
        np.testing.assert_array_equal(images[:, channel], wanted["imgs"])
    assert torch.equal(sprites.images([5, 3]), images[[5, 3]])
    assert list(sprites.factors) == ["shape", "scale", "angle", "x", "y"]
    assert sprites.factors["shape"].tolist() == [0] * 16 + [1] * 16 + [2] * 16
    assert sprites.factors["shape"].dtype == np.int64
    for name, column in zip(sprites.factors, wanted["latents_values"].T[1:], strict=True):
        np.testing.assert_allclose(sprites.factors[name], column - (name == "shape"), rtol=1e-6)


def test_shapes_are_those_that_the_values_tell_where_some_are_left_out(save):
    rows = slice(16, 48)  # no squares
    classes = layout()["latents_classes"][rows] - [0, 1, 0, 0, 0, 0]
    some = save(
        imgs=layout()["imgs"][rows],
        latents_classes=classes,
        latents_values=layout()["latents_values"][rows],
    )
    assert dsprites.read(some).factors["shape"].tolist() == [1] * 16 + [2] * 16


def test_values_may_be_rounded_up(save):
    some = save(latents_values=layout()["latents_values"] * [1, 1, 1, 1, 1, 1 + 0.8e-6])
    assert dsprites.read(some).factors["y"].max() == pytest.approx(1)


def test_samples_are_images_of_the_file_in_colors(save):
    sprites = dsprites.read(save())
    images, factors = sprites.sample(200, torch.Generator().manual_seed(0))
    again, _ = sprites.sample(200, torch.Generator().manual_seed(0))
    assert torch.equal(images, again) and images.shape == (200, 3, 64, 64)
    assert set(factors) == {*sprites.factors, "h", "s", "v"}
    assert all(column.shape == (200,) for column in factors.values())
    assert len(set(factors["h"].tolist())) > 190 and factors["v"].min() >= 0.9
    assert images.amax(dim=(1, 2, 3)) == pytest.approx(factors["v"], abs=1e-6)
    whole = {row.tobytes(): i for i, row in enumerate(layout()["imgs"])}
    for image, shape, x in zip(images[:20], factors["shape"], factors["x"], strict=False):
        row = whole[(image.amax(dim=0) > 0).byte().numpy().tobytes()]
        assert shape == sprites.factors["shape"][row] and x == sprites.factors["x"][row]


VALUES, CLASSES, IMAGES = (layout()[key] for key in ("latents_values", "latents_classes", "imgs"))


TWICE = [0, 0, *range(2, 48)]


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"imgs": None}, "path must be dSprites' .npz file, got PATH without imgs.npy"),
        ({"latents_classes": None, "imgs": None}, "got PATH without imgs.npy, latents_classes.npy"),
        ({"imgs": IMAGES[:47]}, "imgs must be uint8 [48, 64, 64], got uint8 [47, 64, 64]"),
        ({"imgs": IMAGES[..., :32]}, "imgs must be uint8 [48, 64, 64], got uint8 [48, 64, 32]"),
        ({"imgs": IMAGES[..., None]}, "got uint8 [48, 64, 64, 1]"),
        ({"imgs": IMAGES.astype(float)}, "imgs must be uint8 [48, 64, 64], got float64 [48"),
        (
            {"imgs": np.asfortranarray(IMAGES)},
            "imgs must be uint8 [48, 64, 64], got uint8 [48, 64, 64] in Fortran order",
        ),
        ({"imgs": layout()["metadata"]}, "imgs must be uint8 [48, 64, 64], got object []"),
        ({"imgs": IMAGES * 255}, "imgs must be of 0 and 1, got 255"),
        (
            {"latents_values": VALUES[:, 1:]},
            "latents_values must be float64 [N, 6], got float64 [48,",
        ),
        (
            {"latents_values": VALUES[:0]},
            "latents_values must be float64 [N, 6], got float64 [0, 6]",
        ),
        (
            {"latents_values": VALUES.astype(object)},
            "latents_values must be float64 [N, 6], got objec",
        ),
        (
            {"latents_values": VALUES * [1, 1, 1, 2, 1, 1]},
            "latents_values must have angle up to 6.283",
        ),
        (
            {"latents_values": VALUES * [1, 1, 1, 1, 1, np.nan]},
            "latents_values must have y up to 1",
        ),
        (
            {"latents_values": VALUES * [1, 1, 1, 1, 1, 1 + 1.2e-6]},
            "latents_values must have y up to",
        ),
        ({"latents_classes": CLASSES[::-1]}, "latents_classes must number the values of shape in"),
        ({"latents_values": VALUES[:, [0, 1, 2, 3, 5, 4]].copy("C")}, "number the values of x"),
        (
            {"latents_values": VALUES[[*range(14), 15, 14, *range(16, 48)]]},
            "number the values of y",
        ),
        (
            {"latents_classes": CLASSES[:47], "latents_values": VALUES[:47], "imgs": IMAGES[:47]},
            "latents_classes must be 48 rows, one per combination, got 47 of them in 47",
        ),
        (
            {"latents_classes": CLASSES[TWICE], "latents_values": VALUES[TWICE]},
            "latents_classes must be 48 rows, one per combination, got 47 of them in 48",
        ),
        (
            {"latents_values": VALUES - [0, 0.5, 0, 0, 0, 0]},
            "latents_values must have shape up to 3",
        ),
        (
            {"latents_values": VALUES * [1, 0.75, 1, 1, 1, 1] + [0, 0.25, 0, 0, 0, 0]},
            "latents_values must have whole numbers for shape",
        ),
        (
            {"latents_classes": CLASSES[:9]},
            "latents_classes must be int64 [48, 6], got int64 [9, 6]",
        ),
    ],
)
def test_another_layout_is_refused(save, changed, says):
    path = save(**changed)
    with pytest.raises(ValueError) as caught:
        dsprites.read(path)
    assert says.replace("PATH", str(path)) in str(caught.value)


def test_another_file_is_refused(tmp_path, save):
    text = tmp_path / "text.npz"
    text.write_text("no archive", encoding="utf-8")
    np.save(tmp_path / "array.npy", IMAGES)
    for path in (text, tmp_path / "array.npy", tmp_path / "none.npz", tmp_path):
        with pytest.raises(ValueError, match="^path must be dSprites' .npz file, got .*: "):
            dsprites.read(path)
    for path in (None, 3, [tmp_path], b"text.npz"):
        with pytest.raises(ValueError, match="^path must be a path of dSprites' .npz file, got "):
            dsprites.read(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (48, 64, 64)}
    )
    with zipfile.ZipFile(save(imgs=None), "a") as archive:
        archive.writestr("imgs.npy", header.getvalue() + bytes(100))
    with pytest.raises(ValueError, match="^path must be .*: imgs ends early"):
        dsprites.read(tmp_path / "dsprites.npz")
    whole = save().read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        for key in ("imgs", "latents_values", "latents_classes"):
            archive.writestr(f"{key}.npy", bytes(5000))
    for cut in (
        whole[: len(whole) // 2],
        whole[:5000] + bytes(50) + whole[5050:],
        packed.getvalue(),
    ):
        text.write_bytes(cut)
        with pytest.raises(ValueError, match=" must "):
            dsprites.read(text)
    values = io.BytesIO()
    np.save(values, VALUES)
    for shape in (b"(48, 6(", b"(-8, 6)"):
        with zipfile.ZipFile(save(latents_values=None), "a") as archive:
            archive.writestr("latents_values.npy", values.getvalue().replace(b"(48, 6)", shape))
        with pytest.raises(ValueError, match="^latents_values must be"):
            dsprites.read(tmp_path / "dsprites.npz")


@pytest.mark.parametrize("rows", [[48], [-1], [], [0.5], [[0]], "no"])
def test_rows_that_are_not_there_are_refused(save, rows):
    with pytest.raises(ValueError, match="^rows must be whole numbers .n. from 0 to 47, got"):
        dsprites.read(save()).images(rows)
