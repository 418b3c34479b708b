"""The real dSprites (Matthey et al. 2017), read from the file that its authors publish."""

import hashlib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from jaxtyping import Float32, Integer, UInt8

from sbd_utils.data.sprites import COLOR, SHAPES, rgb

NAMES = ("shape", "scale", "angle", "x", "y")  # latents_values after the constant color, our names
SIDE, BLOCK = 64, 4096  # pixels; images that are unpacked from the file at once


@dataclass(frozen=True, eq=False)
class DSprites:
    """All images with their factors; at one bit per pixel, 737,280 of them take 380 MB.

    Attributes:
        packed: a row of `np.packbits` for each image.
        factors: columns [N]: shape (an index into `sprites.SHAPES`), scale (of the largest sprite:
            1), angle (radians; 0 and 2 pi look the same), x and y (0 to 1 of the free way).
    """

    packed: UInt8[np.ndarray, "N 512"]
    factors: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.packed)

    def __repr__(self) -> str:
        return f"DSprites({len(self)} images)"

    def id_fields(self) -> dict:
        """The images by their number and a digest of their pixels, for the id of a run."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.packed), digest_size=8).hexdigest()
        return {"class": "DSprites", "images": len(self), "digest": digest}

    def images(self, rows: Integer[np.ndarray, " n"]) -> Float32[torch.Tensor, "n 3 64 64"]:
        """The images of these rows, white on black."""
        pixels = torch.from_numpy(np.unpackbits(self.packed[rows], axis=1)).float()
        return pixels.view(-1, 1, SIDE, SIDE).repeat(1, 3, 1, 1)

    def sample(
        self, count: int, generator: torch.Generator
    ) -> tuple[Float32[torch.Tensor, "{count} 3 64 64"], dict[str, torch.Tensor]]:
        """Draw the paper's colored sprites: any of the images, each in a color from `COLOR`.

        Returns:
            The images, and their factors [count]: those of the file, and h, s, v.
        """
        colors = COLOR.sample(count, generator)
        rows = torch.randint(len(self), (count,), generator=generator).numpy()
        factors = {name: torch.from_numpy(column[rows]) for name, column in self.factors.items()}
        return self.images(rows) * rgb(**colors)[:, :, None, None], factors | colors


def read(path: str | os.PathLike) -> DSprites:
    """Read `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`, a block of images at a time.

    Its metadata, a pickle that could run any code, is not read.

    Raises:
        ValueError: the file is missing, damaged, or not dSprites'.
    """
    try:
        with ZipFile(path) as archive:
            with archive.open("latents_values.npy") as member:
                values = np.lib.format.read_array(member, allow_pickle=False)  # [N, 6]
            with archive.open("imgs.npy") as member:
                packed = _pack_images(member)
        shape = values[:, 1].astype(np.int64) - 1
        if values.shape != (len(packed), 6) or not set(shape) <= set(range(len(SHAPES))):
            raise ValueError(f"latents_values are {values.dtype} {list(values.shape)}")
    except (OSError, EOFError, LookupError, ValueError, BadZipFile, zlib.error) as error:
        raise ValueError(f"path must be dSprites' .npz file, got {path}: {error}") from error
    factors = dict(zip(NAMES, values[:, 1:].T.astype(np.float32), strict=True))
    return DSprites(packed, factors | {"shape": shape})


def _pack_images(member: BufferedIOBase) -> UInt8[np.ndarray, "N 512"]:
    """Read images [N, 64, 64] of 0 and 1 from a .npy file into eight pixels a byte."""
    np.lib.format.read_magic(member)
    shape, column_major, dtype = np.lib.format.read_array_header_1_0(member)
    if shape[1:] != (SIDE, SIDE) or column_major or dtype != np.uint8:
        raise ValueError(f"imgs are {dtype} {list(shape)}")
    packed = np.empty((shape[0], SIDE**2 // 8), np.uint8)
    for start in range(0, len(packed), BLOCK):
        rows = packed[start : start + BLOCK]
        pixels = np.frombuffer(member.read(len(rows) * SIDE**2), np.uint8)
        rows[:] = np.packbits(pixels.reshape(len(rows), -1), axis=1)  # raises where pixels lack
    return packed
