"""Checks of what users pass, with one form of message: name, what it must be, what came."""

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from numbers import Integral, Real

import numpy as np
import torch
from PIL import Image

SCALES = {"uint8": " / 255", "uint16": " / 65535"}  # to [0, 1]


def argument_error(name: str, wanted: str, got: object) -> ValueError:
    """The error to raise, with a short description of what came."""
    return ValueError(f"{name} must be {wanted}, got {describe(got)}")


def describe(value: object) -> str:
    """Describe a value: arrays by their shape, short ones by their repr, others by their type."""
    if odd := odd_tensor(value):
        return f"a {odd} tensor"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype}, shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def odd_tensor(value: object) -> str:
    """Why NumPy cannot read a tensor, such as "sparse"; "" where it can, or for no tensor."""
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
        raise argument_error(name, f"{'an' if what[0] in 'AEIOUaeiou' else 'a'} {what}", value)


def mapping(name: str, value: object, keys: Iterable = (), of: type = object) -> None:
    """ValueError unless a mapping to values of a class, not empty, with an entry for each key."""
    keys = list(keys)
    if not isinstance(value, Mapping) or not value or not set(keys) <= set(value):
        wanted = f"a mapping of {', '.join(map(str, keys))}" if keys else "a mapping, not empty"
        raise argument_error(name, wanted, list(value) if isinstance(value, Mapping) else value)
    for key, item in value.items():
        check_type(f"{name}[{key!r}]", item, of)


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


def check_array(name: str, value: object, ndim: int) -> np.ndarray:
    """The value as an array [...] of finite float64 numbers; ValueError for anything else."""
    wanted = f"numbers of {ndim} dimension{'s' * (ndim > 1)}"
    try:
        array = np.asarray(_on_cpu(value))
        if array.dtype.kind not in "biuf":
            raise TypeError("no numbers")
    except (TypeError, ValueError) as error:  # also rows of different lengths
        raise argument_error(name, wanted, value) from error
    if array.ndim != ndim or array.size == 0:
        raise argument_error(name, wanted, array)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got a NaN or an infinity")
    return array.astype(float)


def _on_cpu(value: object) -> object:
    """A tensor as an array, wherever it is; else as it is. TypeError where it is masked or odd."""
    if np.ma.is_masked(value) or odd_tensor(value):
        raise TypeError("masked or odd")  # an array would show what the mask hides
    if not isinstance(value, torch.Tensor):
        return value
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy(force=True)


def images(name: str, value: object, image_size: int | None = None) -> int:
    """Check images [N, 3, image_size, image_size], float32 in [0, 1].

    Args:
        name: Of the argument, for the message.
        value: What came.
        image_size: Their height and width in pixels; None for any.

    Returns:
        Their height and width in pixels.

    Raises:
        ValueError: For anything else; where one call helps, the message says which.
    """
    wanted = "a float32 tensor in [0, 1], [N, 3, {0}, {0}]".format(image_size or "size")
    advice = _image_advice(name, value)
    if (
        advice
        or not isinstance(value, torch.Tensor)
        or odd_tensor(value)
        or value.dtype != torch.float32
        or (value.ndim != 4 or value.shape[1] != 3 or value.shape[2] != value.shape[3])
        or image_size not in (None, value.shape[3])
        or len(value) == 0
    ):
        raise ValueError(f"{argument_error(name, wanted, value)}{advice and f'; {advice}'}")
    low, high = (float(bound) for bound in value.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also False for NaN
        advice = f"; if it is 8 bits, give {name} / 255" if 1 < high <= 255 and low >= 0 else ""
        raise ValueError(f"{name} must be {wanted}, got values from {low:g} to {high:g}{advice}")
    return value.shape[3]


def _image_advice(name: str, value: object) -> str:
    """The next call on the way to images [N, 3, size, size], "" if none is needed or known."""
    if isinstance(getattr(value, "images", None), torch.Tensor):
        return f"give its .images: {name}.images"
    many = isinstance(value, (list, tuple)) and len(value) > 0
    first = value[0] if many else value
    if isinstance(first, (str, os.PathLike, Image.Image)):
        return _file_advice(name, value if many else [value], many)
    tensor = isinstance(first, torch.Tensor)
    if not (tensor or isinstance(first, np.ndarray)) or odd_tensor(first) or np.ma.is_masked(first):
        return ""
    dtype = str(first.dtype).removeprefix("torch.") if tensor else first.dtype.name
    if not dtype.startswith(("bool", "int", "uint", "float", "bfloat")):
        return ""
    if many or not tensor or dtype != "float32":
        call = f"{'torch' if tensor else 'np'}.stack({name})" if many else name
        call += "[:, None]" if many and first.ndim == 2 else ""  # gray, also if there are three
        call = f"{call}.float()" if tensor else f"torch.from_numpy({call}.astype('float32'))"
        return f"give {call}{SCALES.get(dtype, '')}"
    shape = first.shape
    if len(shape) not in (2, 3, 4):
        return ""
    channels = shape[-3] if len(shape) > 2 else 0
    for holds, advice in (
        (len(shape) == 2, f"give {name}[None, None]"),
        (len(shape) == 3 and (channels == 3 or shape[-1] in (3, 4)), f"give {name}[None]"),
        (len(shape) == 3 and channels != 4, f"give {name}[:, None]"),  # 4: RGBA or four gray ones
        (len(shape) != 4, ""),
        (channels not in (1, 3, 4) and shape[-1] in (1, 3, 4), f"give {name}.movedim(-1, 1)"),
        (channels == 1, f"if it is gray, no palette's, give {name}.expand(-1, 3, -1, -1)"),
        (channels == 4, f"if it is RGBA, give 1 - {name}[:, 3:] * (1 - {name}[:, :3])"),
    ):
        if holds:
            return advice
    return ""


def _file_advice(name: str, files: Sequence, many: bool) -> str:
    """The call that reads files or Pillow's images as they are shown, over white."""
    for file in files:
        try:
            with nullcontext(file) if isinstance(file, Image.Image) else Image.open(file) as image:
                mode = image.mode
        except (OSError, AttributeError) as error:
            return f"PIL.Image.open says: {error}"
        if mode[0] in "IF":  # 16 bits or more
            return f"the range of pixels of mode {mode} must be known: scale them to [0, 1]"
    opened = "file" if isinstance(files[0], Image.Image) else "Image.open(file)"
    shown = "Image.alpha_composite(Image.new('RGBA', i.size, 'white'), i).convert('RGB')"
    return (
        f"give torch.from_numpy(np.stack([np.asarray({shown}, 'float32') for i in ["
        f"ImageOps.exif_transpose({opened}).convert('RGBA') for file in "
        f"{name if many else f'[{name}]'}]])).movedim(-1, 1) / 255"
    )
