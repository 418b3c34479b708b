"""The real dSprites (Matthey et al. 2017), read from the file that its authors publish."""

import hashlib
import math
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from tokenize import TokenError
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
import torch

from sbd_utils import checks
from sbd_utils.data.factors import Columns
from sbd_utils.data.sprites import COLOR, rgb

NAMES = ("color", "shape", "scale", "angle", "x", "y")  # the columns of latents_values, our names
HIGHEST = (1, 3, 1, 2 * math.pi, 1, 1)  # the lowest of color and shape is 1, of the others 0
SIDE, BLOCK = 64, 4096  # pixels; how many images are unpacked from the file at once


@dataclass(frozen=True, eq=False)
class DSprites:
    """All images with their factors; at eight pixels a byte, 737,280 of them take 380 MB.

    packed: a row of `np.packbits` for each image, uint8 [N, 512].
    factors: each [N], as measures take them: shape (a place in `sprites.SHAPES`), scale (the
        largest sprite's is 1), angle (radians from 0 to 2 pi, which look the same), x and y (0 to
        1 of the free way).
    """

    packed: np.ndarray
    factors: Mapping[str, np.ndarray]

    def __post_init__(self):
        packed, wanted = self.packed, (SIDE * SIDE // 8,)
        if (
            getattr(packed, "dtype", None) != np.uint8
            or packed.shape[1:] != wanted
            or (not isinstance(packed, np.ndarray) or len(packed) == 0)
        ):
            raise checks.argument_error("packed", f"an array of uint8 [N, {wanted[0]}]", packed)
        checks.mapping("factors", self.factors, NAMES[1:])
        for name, column in self.factors.items():
            checks.check_type(f"factors[{name!r}]", column, np.ndarray)
            checks.arrays(**{f"factors[{name!r}]": (column, str(len(packed)))})

    def __len__(self) -> int:
        return len(self.packed)

    def __repr__(self) -> str:
        return f"DSprites({len(self)} images)"

    def id_fields(self) -> dict:
        """The images by their number and a digest of their pixels, for the id of a run."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.packed), digest_size=8).hexdigest()
        return {"class": "DSprites", "images": len(self), "digest": digest}

    def images(self, rows: np.ndarray) -> torch.Tensor:
        """The images of these row numbers [n], white on black, float32 [n, 3, 64, 64]."""
        try:
            rows = np.asarray(rows)
            fine = (
                rows.dtype.kind in "iu"
                and rows.ndim == 1
                and rows.min() >= 0
                and (rows.max() < len(self))
            )
        except ValueError:  # none, or rows of different lengths
            fine = False
        if not fine:
            raise checks.argument_error(
                "rows", f"whole numbers [n] from 0 to {len(self) - 1}", rows
            )
        pixels = torch.from_numpy(np.unpackbits(self.packed[rows], axis=1)).float()
        return pixels.view(-1, 1, SIDE, SIDE).repeat(1, 3, 1, 1)

    def sample(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, Columns]:
        """The paper's colored sprites: any of the images, in a color drawn anew from `COLOR`.

        Images [count, 3, 64, 64], and factors [count]: those of the file, and h, s, v.
        """
        colors = COLOR.sample(count, generator)
        rows = torch.randint(len(self), (count,), generator=generator).numpy()
        factors = {name: torch.from_numpy(column[rows]) for name, column in self.factors.items()}
        return self.images(rows) * rgb(**colors)[:, :, None, None], factors | colors


def read(path: str | os.PathLike) -> DSprites:
    """The file `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`, unpacked a block at a time.

    Its metadata, which is a pickle and could run any code, stays closed. ValueError for a file that
    is broken or laid out otherwise.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise checks.argument_error("path", "a path of dSprites' .npz file", path)
    try:
        with ZipFile(path) as archive:
            missing = {f"{key}.npy" for key in ("imgs", "latents_values", "latents_classes")}
            if missing := missing - set(archive.namelist()):
                raise ValueError(
                    f"path must be dSprites' .npz file, got {path} without "
                    f"{', '.join(sorted(missing))}"
                )
            values = _array(archive, "latents_values", "<f8", None, 6)
            count = len(values)
            classes = _array(archive, "latents_classes", "<i8", count, 6)
            _check_latents(values, classes)
            packed = _array(archive, "imgs", "|u1", count, SIDE, SIDE, each=_packed)
    except (OSError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"path must be dSprites' .npz file, got {path}: {error}") from error
    factors = dict(zip(NAMES, values.T.astype(np.float32), strict=True))
    return DSprites(
        packed,
        {name: factors[name] for name in NAMES[1:]} | {"shape": values[:, 1].astype(np.int64) - 1},
    )


def _array(
    archive: ZipFile,
    key: str,
    dtype: str,
    count: int | None,
    *sides: int,
    each: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> np.ndarray:
    """An array of the file, [count, *sides], with each block of rows changed; no unpickling."""
    if archive.getinfo(f"{key}.npy").compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{key} must be stored or deflated, as NumPy does")
    with archive.open(f"{key}.npy") as member:
        try:
            np.lib.format.read_magic(member)
            shape, turned, found = np.lib.format.read_array_header_1_0(member)
        except (ValueError, TokenError) as error:
            raise ValueError(f"{key} must be an array, got {error}") from error
        if (
            found != np.dtype(dtype)
            or turned
            or shape[1:] != sides
            or (shape[0] != (count or shape[0]) or shape[0] < 1)
        ):
            wanted = ", ".join(map(str, (count or "N", *sides)))
            raise ValueError(
                f"{key} must be {np.dtype(dtype)} [{wanted}], got {found} "
                f"{list(shape)}{' in Fortran order' * turned}"
            )
        size, array = math.prod(sides) * found.itemsize, None
        for start in range(0, shape[0], BLOCK):
            rows = min(BLOCK, shape[0] - start)
            data = member.read(rows * size)
            if len(data) < rows * size:
                raise EOFError(f"{key} ends early")
            block = each(np.frombuffer(data, found).reshape(rows, *sides))
            if array is None:
                array = np.empty((shape[0], *block.shape[1:]), block.dtype)
            array[start : start + rows] = block
        return array


def _packed(block: np.ndarray) -> np.ndarray:
    if block.max() > 1:
        raise ValueError(f"imgs must be of 0 and 1, got {block.max()}")
    return np.packbits(block.reshape(len(block), -1), axis=1)


def _check_latents(values: np.ndarray, classes: np.ndarray) -> None:
    for name, numbers, column, highest in zip(NAMES, classes.T, values.T, HIGHEST, strict=True):
        if not (int(name in NAMES[:2]) <= column.min() <= column.max() <= highest + 1e-6):
            raise ValueError(
                f"latents_values must have {name} up to {highest:g}, got "
                f"{column.min():g} to {column.max():g}"
            )
        if name == "shape" and not np.array_equal(column, column.round()):
            raise ValueError("latents_values must have whole numbers for shape")
        if not np.array_equal(numbers, np.unique(column, return_inverse=True)[1]):
            raise ValueError(f"latents_classes must number the values of {name} in latents_values")
    sides = classes.max(axis=0) + 1
    found = len(np.unique(np.ravel_multi_index(classes.T, sides)))
    if not len(classes) == found == sides.prod():
        raise ValueError(
            f"latents_classes must be {sides.prod()} rows, one per combination, got "
            f"{found} of them in {len(classes)}"
        )
