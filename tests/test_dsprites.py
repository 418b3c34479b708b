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
    assert torch.equal(sprites.images(np.array([5, 3])), images[[5, 3]])
    assert list(sprites.factors) == ["shape", "scale", "angle", "x", "y"]
    assert sprites.factors["shape"].tolist() == [0] * 16 + [1] * 16 + [2] * 16
    assert sprites.factors["shape"].dtype == np.int64
    for name, column in zip(sprites.factors, wanted["latents_values"].T[1:], strict=True):
        np.testing.assert_allclose(sprites.factors[name], column - (name == "shape"), rtol=1e-6)


def test_shapes_are_those_of_the_values_where_some_are_left_out(save):
    kept = slice(16, 48)  # no squares
    some = save(imgs=layout()["imgs"][kept], latents_values=layout()["latents_values"][kept])
    assert dsprites.read(some).factors["shape"].tolist() == [1] * 16 + [2] * 16


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


LAYOUT = layout()
IMAGES, VALUES = LAYOUT["imgs"], LAYOUT["latents_values"]


@pytest.mark.parametrize(
    "changed",
    [
        {"imgs": None},
        {"latents_values": None},
        {"imgs": IMAGES[:47]},
        {"imgs": IMAGES[..., :32]},
        {"imgs": IMAGES.astype(float)},
        {"imgs": np.asfortranarray(IMAGES)},
        {"imgs": LAYOUT["metadata"]},
        {"latents_values": LAYOUT["metadata"]},
        {"latents_values": VALUES[:, 1:]},
        {"latents_values": VALUES[:, 0]},
        {"latents_values": VALUES - 1},
        {"latents_values": VALUES + [0, 3, 0, 0, 0, 0]},
    ],
)
def test_another_layout_is_refused(save, changed):
    with pytest.raises(ValueError, match="^path must be dSprites' .npz file, got .*dsprites.npz: "):
        dsprites.read(save(**changed))


def test_other_and_damaged_files_are_refused(tmp_path, save):
    whole, text = save().read_bytes(), tmp_path / "text.npz"
    np.save(tmp_path / "array.npy", IMAGES)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (48, 64, 64)}
    )
    with zipfile.ZipFile(save(imgs=None), "a") as archive:
        archive.writestr("imgs.npy", header.getvalue() + bytes(100))  # ends early
    for path in ("dsprites.npz", "array.npy", "none.npz", "."):
        with pytest.raises(ValueError, match="^path must be dSprites' .npz file, got .*: "):
            dsprites.read(tmp_path / path)
    for damaged in (
        b"no archive",
        whole[: len(whole) // 2],
        whole[:5000] + bytes(50) + whole[5050:],
    ):
        text.write_bytes(damaged)
        with pytest.raises(ValueError, match="^path must be dSprites' .npz file, got .*: "):
            dsprites.read(text)
