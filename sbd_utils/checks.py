"""What is checked at the doors, and the one way to refuse it: name, what it must be, what came."""

import math
from collections.abc import Collection
from numbers import Integral, Real

import numpy as np
import torch


def refused(name: str, wanted: str, got: object) -> ValueError:
    """The error to raise; of what came, it tells the value, or what kind of thing it is."""
    return ValueError(f"{name} must be {wanted}, got {told(got)}")


def told(value: object) -> str:
    """A value in a few words: of an array its shape, of what is long its type."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of {value.dtype}, shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"


def whole(name: str, value: object, least: int = 1, most: int = 2**63 - 1) -> int:
    """The value as an int; ValueError unless it is a whole number in [least, most]."""
    if isinstance(value, (bool, np.bool)) or not isinstance(value, Integral):
        raise refused(name, "a whole number", value)
    if not least <= value <= most:
        span = f"of at least {least}" if most == 2**63 - 1 else f"from {least} to {most}"
        raise refused(name, f"a whole number {span}", value)
    return int(value)


def positive(name: str, value: object, most: float = math.inf) -> float:
    """The value as a float; ValueError unless it is a finite number above 0 and at most `most`."""
    span = "" if most == math.inf else f" and at most {most:g}"
    if isinstance(value, (bool, np.bool)) or not isinstance(value, Real):
        raise refused(name, "a number", value)
    if not 0 < value <= most or value == math.inf:
        raise refused(name, f"a number above 0{span}", value)
    return float(value)


def one_of(name: str, value: object, allowed: Collection) -> None:
    """ValueError unless the value is one of the allowed ones, and of its type."""
    if not any(type(value) is type(item) and value == item for item in allowed):
        raise refused(name, f"one of {', '.join(map(str, allowed))}", value)


def arrays(**given: tuple[object, str]) -> list[np.ndarray]:
    """Values as arrays of finite floats (float32 stays so), of shapes that fit each other.

    Each keyword is an argument's name, with its value and its shape: "N 2" is [N, 2]. A letter
    is any length from 1, the same wherever it stands; a leading "..." is any number of dimensions.
    ValueError names the first argument that does not fit.
    """
    lengths, found = {}, []
    for name, (value, shape) in given.items():
        wanted = f"numbers, [{', '.join(shape.split())}]"
        try:
            value = value.numpy(force=True) if isinstance(value, torch.Tensor) else value
            array = np.asarray(value)
            if array.dtype not in (np.float32, np.float64):  # of those, no copy: they may be large
                array = array.astype(float, casting="unsafe" if array.dtype == "O" else "same_kind")
        except (TypeError, ValueError) as error:  # text, or rows of different lengths
            raise refused(name, wanted, value) from error
        dims, sides = shape.split(), array.shape
        if dims[0] == "...":
            dims, sides = dims[1:], sides[max(0, array.ndim - len(dims) + 1):]
        if len(dims) != len(sides) or array.size == 0:
            raise refused(name, wanted, array)
        for dim, side in zip(dims, sides, strict=True):
            expected = int(dim) if dim.isdigit() else lengths.setdefault(dim, side)
            if side != expected:
                where = "" if dim.isdigit() else f" with {dim} = {expected}"
                raise refused(name, wanted + where, array)
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got a NaN or an infinity")
        found.append(array)
    return found


def images(name: str, value: object, image_size: int | None = None) -> int:
    """The size of images [N, 3, image_size, image_size]; ValueError unless float32 in [0, 1].

    The message says which call makes of what came what is wanted, where one does.
    """
    side = image_size or "size"
    wanted = f"a float32 tensor in [0, 1], [N, 3, {side}, {side}]"
    help = _images_help(name, value)
    if help:
        raise ValueError(f"{refused(name, wanted, value)}; {help}")
    if value.ndim != 4 or value.shape[1] != 3 or value.shape[2] != value.shape[3] or (
        image_size not in (None, value.shape[3])
    ) or len(value) == 0:
        raise refused(name, wanted, value)
    low, high = (float(bound) for bound in value.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also False for NaN
        scale = f"; give {name} / 255" if 1 < high <= 255 and low >= 0 else ""
        raise ValueError(f"{name} must be {wanted}, got values from {low:g} to {high:g}{scale}")
    return value.shape[3]


def _images_help(name: str, value: object) -> str:
    """The call that helps, if one does; "" for a float32 tensor whose channels come first."""
    if isinstance(getattr(value, "images", None), torch.Tensor):
        return f"give its .images: {name}.images"
    if isinstance(value, np.ndarray):
        return f"give torch.from_numpy({name})"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
        return f"give torch.stack({name})"
    if not isinstance(value, torch.Tensor):
        return "read pictures with PIL.Image.open and give torch.stack of them, scaled to [0, 1]"
    if value.dtype == torch.uint8:
        return f"give {name}.float() / 255"
    if value.dtype != torch.float32:
        return f"give {name}.float()"
    if value.ndim == 4 and value.shape[1] != 3 and value.shape[3] == 3:
        return f"the channels come last: give {name}.permute(0, 3, 1, 2)"
    if value.ndim == 3 and value.shape[0] == 3:
        return f"it is one image: give {name}[None]"
    return ""
