"""The house style: one palette, and figures that know their file name and alt text."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

from matplotlib.figure import Figure

# Okabe and Ito's palette, which color-blind readers can tell apart.
DECODER_COLORS = {"deconv": "#D55E00", "sbd": "#0072B2"}
NAMES = {"deconv": "DeConv", "sbd": "Spatial Broadcast"}
FACTOR_COLORS = {"x": "#009E73", "y": "#CC79A7", "color": "#E69F00"}


@dataclass(frozen=True)
class Picture:
    """A figure with the file name that `make reproduce` gives it and a text for who can't see."""

    figure: Figure
    name: str
    alt: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        buffer = BytesIO()
        # Without the Software entry the file is the same under every matplotlib patch release.
        self.figure.savefig(buffer, format="png", metadata={"Software": None})
        data = {"image/png": b64encode(buffer.getvalue()).decode(), "text/plain": self.alt}
        width = round(100 * self.figure.get_figwidth())  # two dots per pixel, for sharp screens
        return data, {"image/png": {"name": self.name, "alt": self.alt, "width": width}}


def new_figure(width: float = 8, height: float = 3) -> Figure:
    """An empty figure in the house style, as wide as a GitHub page shows without shrinking."""
    return Figure(figsize=(width, height), dpi=200, layout="constrained")
