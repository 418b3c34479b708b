"""One palette, and figures with a file name and a text alternative."""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from itertools import cycle

from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette, which color-blind readers can tell apart.
DECODER_COLORS = {"deconv": "#D55E00", "sbd": "#0072B2"}
# What is compared in the same two colors: how a decoder starts, and the networks for Not-so-Clevr.
KNOWN_COLORS = DECODER_COLORS | dict.fromkeys(("linear", "plain"), DECODER_COLORS["deconv"])
KNOWN_COLORS |= dict.fromkeys(("broadcast", "coordconv"), DECODER_COLORS["sbd"])
NAMES = {
    "deconv": "DeConv",
    "sbd": "Spatial Broadcast",
    "sbd-mixing": "Spatial Broadcast, a run that mixes",
    "sbd-width22": "Spatial Broadcast, 22 channels",
    "resize": "resize and convolve",
    "broadcast8-deconv": "broadcast to 8×8, then DeConv",
    "linear": "linear start",
    "broadcast": "broadcast start",
}
FACTOR_COLORS = {"x": "#009E73", "y": "#CC79A7", "color": "#E69F00"}
OTHER_COLORS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def colors_and_labels(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The color and the label of each name.

    A name such as "sbd-width22" takes the color of what is before the hyphen, once; names without a
    known color get a free one.
    """
    taken, free, found = set(), cycle(OTHER_COLORS), {}
    for name in dict.fromkeys(names):
        color = KNOWN_COLORS.get(name) or KNOWN_COLORS.get(name.partition("-")[0])
        color = color if color and color not in taken else next(free)
        taken.add(color)
        found[name] = color, NAMES.get(name, name)
    return found


@dataclass(frozen=True)
class Picture:
    """A figure with a file name and a text alternative; `make notebooks` saves it by that name.

    Attributes:
        chart: it consists of lines, so 256 colors suffice and take a third of the bytes.
    """

    figure: Figure
    name: str
    alt: str
    chart: bool = False

    def __post_init__(self):
        _check_name(self.name, self.alt)

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        buffer = BytesIO()
        # Without the Software entry the file is the same under every matplotlib patch release.
        self.figure.savefig(buffer, format="png", metadata={"Software": None})
        if self.chart:
            with Image.open(BytesIO(buffer.getvalue())) as image:
                few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            few.save(buffer := BytesIO(), format="png", optimize=True)
        data = {"image/png": b64encode(buffer.getvalue()).decode(), "text/plain": self.alt}
        width = round(100 * self.figure.get_figwidth())  # two dots per pixel, for sharp screens
        return data, {"image/png": {"name": self.name, "alt": self.alt, "width": width}}


@dataclass(frozen=True)
class Movie:
    """An animated WebP with a file name and a text alternative.

    It is shown as HTML, since notebook viewers know no other way to show what moves.
    """

    webp: bytes
    name: str
    alt: str
    width: int

    def __post_init__(self):
        _check_name(self.name, self.alt)

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        source = f"data:image/webp;base64,{b64encode(self.webp).decode()}"
        html = f'<img src="{source}" alt="{escape(self.alt)}" width="{self.width}">'
        return {"text/html": html, "text/plain": self.alt}, {"text/html": {"name": self.name}}


def _check_name(name: str, alt: str) -> None:
    if not name.replace("_", "").isalnum():
        raise ValueError(
            f"name must be of letters, digits and _, for it names a file, got {name!r}"
        )
    if not alt.strip():
        raise ValueError("alt must be a text that says what is seen")


def new_figure(width: float = 8, height: float = 3) -> Figure:
    """An empty figure in the house style, as wide as a GitHub page shows without shrinking."""
    return Figure(figsize=(width, height), dpi=200, layout="constrained")
