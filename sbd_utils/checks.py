"""What is checked at the doors, and the one way to refuse it: name, what it must be, what came."""

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from PIL import Image

SCALES = {"RGB": 255, "RGBA": 255, "uint8": 255, "uint16": 65535}  # the white of each kind of pixel


def argument_error(name: str, wanted: str, got: object) -> ValueError:
    """The error to raise; of what came, it tells the value, or what kind of thing it is."""
    return ValueError(f"{name} must be {wanted}, got {describe(got)}")


def describe(value: object) -> str:
    """A value in a few words: of an array its shape, of what is long its type."""
    if odd := odd_tensor(value):
        return f"a {odd} tensor"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype}, shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def odd_tensor(value: object) -> str:
    """What keeps a tensor's numbers from being read as an array's; "" if nothing, or no tensor."""
    if not isinstance(value, torch.Tensor):
        return ""
    odd = {
        "nested": value.is_nested,
        "quantized": value.is_quantized,
        "meta": value.is_meta,
        str(value.layout).removeprefix("torch."): value.layout != torch.strided,
    }
    return next((word for word, holds in odd.items() if holds), "")


def check_int(name: str, value: object, least: int = 1, most: int = 2**63 - 1) -> int:
    """The value as an int; ValueError unless it is a whole number in [least, most]."""
    if isinstance(value, (bool, np.bool)) or not isinstance(value, Integral):
        raise argument_error(name, "a whole number", value)
    if not least <= value <= most:
        span = f"of at least {least}" if most == 2**63 - 1 else f"from {least} to {most}"
        raise argument_error(name, f"a whole number {span}", value)
    return int(value)


def check_float(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """The value as a float; ValueError unless it is a finite number in [low, high]."""
    if isinstance(value, (bool, np.bool)) or not isinstance(value, Real):
        raise argument_error(name, "a number", value)
    if not low <= value <= high or not math.isfinite(value):
        bounded = not math.isinf(low) or not math.isinf(high)
        raise argument_error(
            name, f"a number in [{low:g}, {high:g}]" if bounded else "finite", value
        )
    return float(value)


def check_positive(name: str, value: object, most: float = math.inf) -> float:
    """The value as a float; ValueError unless it is a finite number above 0 and at most `most`."""
    if check_float(name, value, high=most) <= 0:
        raise argument_error(name, "a number above 0", value)
    return float(value)


def check_one_of(name: str, value: object, allowed: Collection) -> None:
    """ValueError unless the value is one of the allowed ones, and of its type."""
    value, *items = (str(one) if isinstance(one, str) else one for one in (value, *allowed))
    if not any(type(value) is type(item) and value == item for item in items):  # np.str_ is a text
        raise argument_error(name, f"one of {', '.join(map(str, allowed))}", value)


def check_type(name: str, value: object, wanted: type | tuple) -> None:
    """ValueError unless the value is an instance of the class."""
    if not isinstance(value, wanted):
        what = "text" if wanted is str else wanted.__name__
        raise argument_error(name, f"{'an' if what[0] in 'AEIOU' else 'a'} {what}", value)


def mapping(name: str, value: object, keys: Iterable = (), of: type = object) -> None:
    """ValueError unless a mapping to values of a class, not empty, with an entry for each key."""
    keys = list(keys)
    if not isinstance(value, Mapping) or not value or not set(keys) <= set(value):
        wanted = f"a mapping of {', '.join(map(str, keys))}" if keys else "a mapping, not empty"
        raise argument_error(name, wanted, list(value) if isinstance(value, Mapping) else value)
    for key, item in value.items():
        check_type(f"{name}[{key!r}]", item, of)


def table(name: str, value: object, labels: Iterable, numbers: Iterable) -> None:
    """ValueError unless a DataFrame with a row at least and columns of labels and of numbers."""
    labels, numbers = list(labels), list(numbers)
    wanted = f"a DataFrame with rows of {', '.join(map(str, labels + numbers))}"
    if not isinstance(value, pd.DataFrame) or value.empty:
        raise argument_error(name, wanted, value)
    if not set(labels + numbers) <= set(value.columns):
        raise ValueError(f"{name} must be {wanted}, got {', '.join(map(str, value.columns))}")
    for column in numbers:
        if not pd.api.types.is_numeric_dtype(value[column]) or value[column].isna().all():
            raise ValueError(f"{name} must have numbers in {column}, got {value[column].unique()}")


def labels(name: str, value: object, length: int) -> np.ndarray:
    """Values as an array [length] of texts or finite numbers; ValueError for anything else."""
    try:
        array = np.asarray(_on_cpu(value))
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise argument_error(name, f"{length} texts or numbers", value) from error
    if array.dtype.kind in "OU":  # NumPy makes texts of numbers, too, where they stand among texts
        mixed = not all(isinstance(item, str) for item in np.asarray(value, object).flat)
        array = array.astype(object if mixed else str)
    if array.shape != (length,) or array.dtype.kind not in "biufU":
        raise argument_error(name, f"{length} texts or numbers", value)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got a NaN or an infinity")
    return array


def _on_cpu(value: object) -> object:
    """A tensor as an array, wherever it is; else as it is. TypeError where it is masked or odd."""
    if np.ma.is_masked(value) or odd_tensor(value):
        raise TypeError("masked or odd")  # an array would show what the mask hides
    if not isinstance(value, torch.Tensor):
        return value
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy(force=True)


def columns(name: str, value: object, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Of a mapping, the columns that are named, as float32; ValueError unless numbers [N]."""
    names, found = list(names), {}
    mapping(name, value, names)
    for key in names:
        column, lengths = value[key], {len(other) for other in found.values()}
        if (
            not isinstance(column, torch.Tensor)
            or odd_tensor(column)
            or column.ndim != 1
            or (len(column) == 0 or column.is_complex() or lengths and len(column) not in lengths)
        ):
            length = ", ".join(map(str, lengths)) or "N"
            raise argument_error(f"{name}[{key!r}]", f"a tensor of numbers [{length}]", column)
        found[key] = column.float()
        if not found[key].isfinite().all():
            raise ValueError(f"{name}[{key!r}] must be finite, got a NaN or an infinity")
    return found


def arrays(**given: tuple[object, str]) -> list[np.ndarray]:
    """Values as arrays of finite floats (float32 stays so), of shapes that fit each other.

    Each keyword is an argument's name, with its value and its shape: "N 2" is [N, 2]. A letter
    is any length from 1, the same wherever it stands; a leading "..." is any number of dimensions;
    before all of it, "?" lets NaN be. ValueError names the first argument that does not fit.
    """
    lengths, found = {}, []
    for name, (value, shape) in given.items():
        gaps, shape = shape.startswith("?"), shape.removeprefix("?")
        wanted = f"numbers, [{', '.join(shape.split())}]"
        try:
            array = np.asarray(_on_cpu(value))
            if array.dtype == object and any(isinstance(item, str) for item in array.flat):
                raise TypeError("texts")  # which NumPy would read as numbers
            if array.dtype not in (np.float32, np.float64):  # of those, no copy: they may be large
                array = array.astype(float, casting="unsafe" if array.dtype == "O" else "same_kind")
        except (TypeError, ValueError) as error:  # text, or rows of different lengths
            raise argument_error(name, wanted, value) from error
        dims, sides = shape.split(), array.shape
        if dims[0] == "...":
            dims, sides = dims[1:], sides[max(0, array.ndim - len(dims) + 1) :]
        if len(dims) != len(sides) or array.size == 0:
            raise argument_error(name, wanted, array)
        for dim, side in zip(dims, sides, strict=True):
            expected = int(dim) if dim.isdigit() else lengths.setdefault(dim, side)
            if side != expected:
                where = "" if dim.isdigit() else f" with {dim} = {expected}"
                raise argument_error(name, wanted + where, array)
        if not np.isfinite(array).all() and not (gaps and not np.isinf(array).any()):
            raise ValueError(f"{name} must be finite, got a NaN or an infinity")
        found.append(array)
    return found


def doubles(**given: tuple[object, str]) -> list[np.ndarray]:
    """As `arrays`, but in float64: numpy's sums over float32 lose what lies beside an offset."""
    return [array.astype(float, copy=False) for array in arrays(**given)]


def lattices(**given: object) -> list[np.ndarray]:
    """Lattices [n, n, 2] as arrays, all of one n; ValueError unless every (n - 1) / 5 is a line."""
    found = arrays(**{name: (value, "n n 2") for name, value in given.items()})
    if len(found[0]) % 5 != 1 or len(found[0]) == 1:
        raise argument_error(next(iter(given)), "[n, n, 2] with n of 6, 11, 16, ...", found[0])
    return found


def orthonormal(name: str, value: object, side: int) -> np.ndarray:
    """Axes, rows of [side, side], as an array; ValueError unless they are at right angles, unit."""
    (axes,) = arrays(**{name: (value, f"{side} {side}")})
    if not np.allclose(axes @ axes.T, np.eye(side), atol=1e-5):
        raise ValueError(
            f"{name} must have orthonormal rows, got rows with the products\n{axes @ axes.T}"
        )
    return axes


def definite(name: str, value: object, shape: str) -> np.ndarray:
    """Matrices of a shape as in `arrays`; ValueError unless symmetric and positive definite."""
    (matrices,) = arrays(**{name: (value, shape)})
    if not np.allclose(matrices, matrices.mT) or np.linalg.eigvalsh(matrices).min() <= 0:
        raise ValueError(f"{name} must be symmetric and positive definite")
    return matrices


def shaped(name: str, value: object, *sides: int | None) -> None:
    """ValueError unless floats of this shape, None for any length; free once it is compiled."""
    if (
        not isinstance(value, torch.Tensor)
        or not value.is_floating_point()
        or (value.ndim != len(sides))
        or any(side not in (None, length) for side, length in zip(sides, value.shape, strict=True))
    ):
        wanted = ", ".join(str(side or "N") for side in sides)
        raise argument_error(name, f"a tensor of floats [{wanted}]", value)


def pictures(**given: tuple[object, str]) -> list[np.ndarray]:
    """Pictures as arrays, by `arrays`; the message says which call helps, as that of `images`."""
    for name, (value, shape) in given.items():
        if help := _images_help(name, value, shape.split(), as_tensor=False):
            wanted = f"numbers, [{', '.join(shape.split())}]"
            raise ValueError(f"{argument_error(name, wanted, value)}; {help}")
    return arrays(**given)


def images(name: str, value: object, image_size: int | None = None) -> int:
    """The size of images [N, 3, image_size, image_size]; ValueError unless float32 in [0, 1].

    The message says which call makes of what came what is wanted, where one does.
    """
    side = image_size or "size"
    wanted = f"a float32 tensor in [0, 1], [N, 3, {side}, {side}]"
    if help := _images_help(name, value):
        raise ValueError(f"{argument_error(name, wanted, value)}; {help}")
    if (
        not isinstance(value, torch.Tensor)
        or odd_tensor(value)
        or value.dtype != torch.float32
        or (value.ndim != 4 or value.shape[1] != 3 or value.shape[2] != value.shape[3])
        or image_size not in (None, value.shape[3])
        or len(value) == 0
    ):
        raise argument_error(name, wanted, value)
    low, high = (float(bound) for bound in value.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also False for NaN
        help = f"; if it is 8 bits, give {name} / 255" if 1 < high <= 255 and low >= 0 else ""
        raise ValueError(f"{name} must be {wanted}, got values from {low:g} to {high:g}{help}")
    return value.shape[3]


def _images_help(
    name: str,
    value: object,
    shape: Sequence[str] = ("N", "3", "height", "width"),
    as_tensor: bool = True,
) -> str:
    """The call that makes images of what came; "" for what needs none, or where none is known.

    shape: what is wanted. as_tensor: whether a float32 tensor is, or an array will do.
    """
    if isinstance(getattr(value, "images", None), torch.Tensor):
        return f"give its .images: {name}.images"
    try:
        start, sides, pixel = _of_files(name, value) or _of_arrays(name, value)
    except OSError as error:
        return f"PIL.Image.open says: {error}"
    if not 2 <= len(sides) <= len(shape) >= 3:
        return ""
    call, channels, last = start, ([0] + sides)[-3], sides[-1]
    if channels not in (1, 3, 4) and last in (1, 3, 4):
        call, channels = f"{call}.movedim(-1, -3)", last
    elif len(sides) < len(shape) and channels != 3:
        call, channels, sides = f"{call}.unsqueeze(-3)", 1, [*sides, 1]
    if shape[-3] == "3" and channels == 1:
        call += ".repeat_interleave(3, -3)"
    call += "[None]" * (len(shape) - len(sides))
    changed = call != start or as_tensor and start != name
    if pixel in SCALES:
        call += f" / {SCALES[pixel]}"
    split = f"with c, k = ({call}).split([3, 1], -3), RGBA over white is 1 - k * (1 - c)"
    advice = (  # the first that holds
        (pixel == "mixed", "its images differ in their range: convert those of each mode alone"),
        (shape[-3] == "3" and channels not in (1, 3, 4), ""),
        (pixel == "RGBA", split),
        (
            pixel.startswith(("int", "uint")) and pixel not in SCALES,
            f"the range of {pixel} must be known: give {call} / 255 if it is 8 bits, / 65535 if 16",
        ),
        (shape[-3] == "3" and channels == 4, f"{split}, and CMYK is (1 - c) * (1 - k)"),
        (
            pixel == "uint8" and channels == 1,
            f"if it is gray, give {call}; if it has a palette's "
            'indices, read the file again with PIL.Image.open(path).convert("RGB")',
        ),
        (changed or pixel in SCALES, f"give {call}"),
    )
    return next((text for holds, text in advice if holds), "")


def _of_arrays(name: str, value: object) -> tuple[str, list[int], str]:
    """Of arrays or tensors, or a list of them: the call that makes one tensor, its shape and dtype.

    The shape is [] for anything else, and has a 0 for the length of a list.
    """
    many = isinstance(value, (list, tuple)) and len(value) > 0
    first = value[0] if many else value
    tensor = isinstance(first, torch.Tensor)
    if (
        not (tensor or isinstance(first, np.ndarray))
        or odd_tensor(first)
        or (np.ma.is_masked(first))
    ):
        return "", [], ""
    pixel = str(first.dtype).removeprefix("torch.") if tensor else first.dtype.name
    if not pixel.startswith(("bool", "int", "uint", "float", "bfloat")):
        return "", [], ""
    call = f"{'torch' if tensor else 'np'}.stack({name})" if many else name
    if pixel != "float32":
        call += ".float()" if tensor else ".astype('float32')"
    return call if tensor else f"torch.from_numpy({call})", [0] * many + list(first.shape), pixel


def _of_files(name: str, value: object) -> tuple[str, list[int], str] | None:
    """As `_of_arrays`, for paths or PIL's images or a list of either; None for anything else."""
    many = isinstance(value, (list, tuple)) and len(value) > 0
    items, item = (value, "image") if many else ([value], name)
    pixels = set()
    if all(isinstance(one, Image.Image) for one in items):
        pixels = {_pixel(one) for one in items}
    elif all(isinstance(one, (str, os.PathLike)) for one in items):
        item = f"Image.open({item})"
        for path in items:
            with Image.open(path) as image:
                pixels.add(_pixel(image))
    else:
        return None
    if pixels == {"RGB", "RGBA"}:
        pixels = {"RGBA"}
    pixel = pixels.pop() if len(pixels) == 1 else "mixed"
    convert = f'.convert("{pixel}")' if pixel.startswith("RGB") else ""
    call = f"np.asarray(ImageOps.exif_transpose({item}){convert}, 'float32')"
    call = f"np.stack([{call} for image in {name}])" if many else call
    if not convert:
        call += "[..., None]"
    return f"torch.from_numpy({call})", [0] * many + [0, 0, len(pixel) if convert else 1], pixel


def _pixel(image: Image.Image) -> str:
    """What to read an image as: a mode of 8 bits that shows what it shows, or the dtype it has."""
    if image.mode in ("I", "F"):
        return {"I": "int32", "F": "float32"}[image.mode]
    if image.mode.startswith("I;16"):
        return "uint16"
    return "RGBA" if image.has_transparency_data else "RGB"
