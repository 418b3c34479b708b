"""What can be seen in pictures: blobs, what moves them, and patterns that repeat."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from PIL import ImageColor
from scipy import ndimage

from sbd_utils.data.circles import Sprites
from sbd_utils.metrics.codes import decode, traverse
from sbd_utils.models.vae import VAE

VISIBLE = 0.2  # brightness of a pixel that belongs to a blob; Pillow's green is 0.5 at full
MIN_AREA = 20  # pixels of a blob that the eye would count; the post's circle has 221
MIN_MOVE = 0.1  # share of its full range that a sweep must move a factor by to count

Pictures = Real[np.ndarray, "N channels height width"]


@dataclass(frozen=True)
class Blobs:
    """What can be seen in N pictures.

    Attributes:
        count: Blobs of at least MIN_AREA pixels brighter than VISIBLE.
        centroid: x and y in pixels, weighted by brightness; NaN where nothing is visible.
        color: Shares of red, green and blue, which sum to 1; NaN where nothing is visible.
    """

    count: Int[np.ndarray, " N"]
    centroid: Float[np.ndarray, "N 2"]
    color: Float[np.ndarray, "N 3"]


def find_blobs(images: Real[np.ndarray, "N 3 height width"]) -> Blobs:
    """Count the blobs in images and locate what is visible of them."""
    images = np.clip(images, 0, 1)
    brightness = images.max(axis=1)
    mask = brightness > VISIBLE
    weight = np.where(mask, brightness, 0)  # [N, height, width]
    total = weight.sum(axis=(1, 2))
    total = np.where(total > 0, total, np.nan)[:, None]
    rows, columns = np.indices(mask.shape[1:])
    centroid = np.stack([(weight * c).sum(axis=(1, 2)) for c in (columns, rows)], axis=1) / total
    color = (images * mask[:, None]).sum(axis=(2, 3))
    color = color / np.where(np.isnan(total), np.nan, color.sum(axis=1, keepdims=True))
    count = []
    for picture in mask:
        labels, _ = ndimage.label(picture)
        count.append((np.bincount(labels.ravel())[1:] >= MIN_AREA).sum())
    return Blobs(np.array(count), centroid, color)


def fixed_pattern(images: Pictures, period: int) -> float:
    """Share of the images' variance in a pattern that all of them repeat every period pixels.

    The variance of the means over all pixels of one phase (row mod period, column mod period), over
    the variance of all pixels, each within its channel; 0 where no pixel varies. The period divides
    height and width.
    """
    _, channels, height, width = images.shape
    mean = images.mean(axis=0, dtype=float)  # [channels, height, width]
    phases = mean.reshape(channels, height // period, period, width // period, period)
    # Not images.var, whose copy in double precision would be twice as large as the images.
    squares = np.einsum("nchw,nchw->c", images, images, dtype=float) / (len(images) * mean[0].size)
    variance = (squares - mean.mean(axis=(1, 2)) ** 2).mean()
    return float(phases.mean(axis=(1, 3)).var(axis=(1, 2)).mean() / variance) if variance else 0.0


def gray_levels(images: Pictures, period: int) -> float:
    """Standard deviation of the fixed pattern in gray levels, where black is 0 and white 255.

    The images have black 0 and white 1. The least that a screen shows is a board of two neighboring
    levels, which has 0.5.
    """
    share = fixed_pattern(images, period)
    return float(255 * (share * np.var(images, axis=(0, 2, 3), dtype=float).mean()) ** 0.5)


def local_pattern(
    pictures: Pictures, truth: Pictures, side: int = 8, period: int = 2
) -> dict[str, Float[np.ndarray, " _"]]:
    """Gray levels of a pattern inside single pictures, where a mean over pictures may cancel it.

    Args:
        pictures: From 0 to 1, like truth.
        side: Of the windows that both are cut into; it divides the pictures.
        period: Of the pattern; it divides side.

    Returns:
        Gray levels, as in `gray_levels`, of each window in which the truth is one flat color: those
        of the "background", where the truth is 0, and those "inside" a sprite.
    """
    known, drawn = _windows(truth, side), _windows(pictures, side)
    flat = (np.ptp(known, axis=(2, 3)) == 0).all(axis=1)
    dark = known.max(axis=(1, 2, 3)) == 0
    phases = drawn.reshape(*drawn.shape[:2], side // period, period, side // period, period)
    levels = 255 * np.sqrt(phases.mean(axis=(2, 4)).var(axis=(2, 3)).mean(axis=1))
    return {"background": levels[flat & dark], "inside": levels[flat & ~dark]}


def _windows(images: Pictures, side: int) -> Real[np.ndarray, "windows channels {side} {side}"]:
    count, channels, height, width = images.shape
    parts = images.reshape(count, channels, height // side, side, width // side, side)
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels, side, side)


def strength(images: Pictures) -> Float[np.ndarray, "height width"]:
    """How far each pixel strays from the images' mean color, relative to all pixels.

    The root mean square over images and channels, about the channel's mean over all pixels.
    """
    square = np.square(images - images.mean(axis=(0, 2, 3), keepdims=True)).mean(axis=(0, 1))
    return np.sqrt(square / square.mean())


def spectrum(images: Pictures) -> Float[np.ndarray, "height width"]:
    """Power of the images' mean at each frequency, down and across, the mean over the channels.

    The powers sum to the mean image's variance; the constant part, which is no variance, has none.
    """
    mean = images.mean(axis=0, dtype=float)
    power = np.square(np.abs(np.fft.fft2(mean, norm="forward"))).mean(axis=0)
    power[0, 0] = 0
    return power


def quadrant(power: Float[np.ndarray, "side side"]) -> Float[np.ndarray, "half half"]:
    """The frequencies of a spectrum that differ, up to half its side.

    Waves that run down to the right and those that run up to the right are averaged.
    """
    half = len(power) // 2 + 1
    return ((power + np.roll(power[::-1], 1, axis=0)) / 2)[:half, :half]


def peak_height(power: Float[np.ndarray, "side side"], period: int) -> float:
    """How far a spectrum's peaks of a period, and of no shorter one, stand out of it.

    Each peak over the median of the 24 frequencies around it; of these ratios the median.

    Args:
        power: As from `spectrum`; its side is a multiple of the period, 5 at least.
        period: In pixels, even.
    """
    if period % 2 or len(power) % period or len(power) < 5:
        raise ValueError(f"period must be even and a divisor of {len(power)}, got {period}")
    step, ratios = len(power) // period, []
    for row, column in product(range(0, len(power), step), repeat=2):
        if row % (2 * step) or column % (2 * step):
            near = np.roll(power, (2 - row, 2 - column), axis=(0, 1))[:5, :5].ravel()
            ratios.append(near[12] / np.median(np.delete(near, 12)))
    return float(np.median(ratios))


def explained(sprites: Sprites, pictures: Float[np.ndarray, "N 3 size size"]) -> float:
    """Share of the images' variance that is in the pictures of them."""
    truth = sprites.images.numpy()
    missed = np.square(pictures - truth).mean()
    return float(1 - missed / np.square(truth - truth.mean(axis=0)).mean())


def right_blobs(
    sprites: Sprites, pictures: Float[np.ndarray, "N 3 size size"]
) -> Bool[np.ndarray, " N"]:
    """Which pictures show one blob, within a pixel of its place and of the right color.

    The color is right if the largest of red, green and blue is the same, which tells apart the
    colors of `make_sprites` and not all that there are.

    Raises:
        ValueError: Where a sprite itself is no blob: too small or too dark.
    """
    truth, seen = _seen(sprites.images.numpy()), find_blobs(pictures)
    with np.errstate(invalid="ignore"):
        close = np.linalg.norm(truth.centroid - seen.centroid, axis=1) <= 1
    return (seen.count == 1) & close & (truth.color.argmax(axis=1) == seen.color.argmax(axis=1))


def _seen(images: Pictures) -> Blobs:
    """The blobs of images of sprites; ValueError unless each is one."""
    blobs = find_blobs(images)
    if (blobs.count != 1).any():
        raise ValueError(
            f"sprites must each be a blob of {MIN_AREA} pixels at least, brighter "
            f"than {VISIBLE}, got {(blobs.count != 1).sum()} that are not"
        )
    return blobs


@dataclass(frozen=True)
class Moves:
    """What a sweep of each latent does to the picture, in the median over many codes.

    Attributes:
        x: How far the blob's centroid goes, as a share of the way that is free; y likewise.
        color: How far its color goes, as a share of the way between the two that differ most, such
            as red and green.
        one_blob: Share of the sweep's pictures that hold exactly one blob (a mean).
    """

    x: Float[np.ndarray, " L"]
    y: Float[np.ndarray, " L"]
    color: Float[np.ndarray, " L"]
    one_blob: Float[np.ndarray, " L"]

    @property
    def factors(self) -> Bool[np.ndarray, "L 3"]:
        """Which of x, y and color each latent moves."""
        return np.stack([self.x, self.y, self.color], axis=1) > MIN_MOVE

    @property
    def mixing(self) -> float:
        """Share of latents that move both position and color among those that move anything."""
        x, y, color = self.factors.T
        return float(((x | y) & color).sum() / max(1, (x | y | color).sum()))


def measure_moves(
    vae: VAE,
    mu: Real[np.ndarray, "N L"],
    sprites: Sprites,
    every: int = 101,
    axes: Float[np.ndarray, "L L"] | None = None,
) -> Moves:
    """Sweep the latents of some codes and measure how the blob moves.

    Args:
        mu: Codes.
        sprites: What the VAE was trained on; of one size and shape, in different places.
        every: Which codes to take: by default every 101st, which has places and colors of all
            kinds.
        axes: What to sweep along instead of the latents, as in `traverse`.
    """
    codes = traverse(mu[::every], axes=axes)
    bases, latents, values, _ = codes.shape  # [bases, latent, value, latent]
    free, hues = _ways(sprites)
    drawn = decode(vae, codes)
    if drawn.shape[-1] != sprites.images.shape[-1]:
        raise ValueError(f"sprites must be of {drawn.shape[-1]} pixels a side, as the VAE's are")
    blobs = find_blobs(drawn.reshape(-1, *drawn.shape[-3:]))
    centroid = blobs.centroid.reshape(bases, latents, values, 2)
    color = blobs.color.reshape(bases, latents, values, 3)
    apart = np.linalg.norm(color[:, :, :, None] - color[:, :, None], axis=-1) / hues
    # A black picture has no place and no color; unlike nanmax, fmax passes over it silently.
    way = np.fmax.reduce(centroid, axis=2) - np.fmin.reduce(centroid, axis=2)
    x, y = _median_of_seen(way).T / free[:, None]  # way: [bases, latent, 2]
    return Moves(
        x,
        y,
        color=_median_of_seen(np.fmax.reduce(apart, axis=(2, 3))),
        one_blob=(blobs.count.reshape(bases, latents, values) == 1).mean(axis=(0, 2)),
    )


def _ways(sprites: Sprites) -> tuple[Float[np.ndarray, "2"], float]:
    """How far the sprites' centers go in x and y, in pixels, and their colors, in shares.

    Where all have one color, it is the way between two pure ones.
    """
    names, first = np.unique(sprites.factors["color"], return_index=True)
    _seen(sprites.images[first].numpy())
    sprites.only("shape")
    free = sprites.images.shape[-1] - 2 - sprites.only("size")
    ends = np.array([sprites.span("x"), sprites.span("y")])
    colors = np.array([ImageColor.getrgb(name) for name in names], dtype=float)
    colors /= colors.sum(axis=1, keepdims=True)
    apart = np.linalg.norm(colors[:, None] - colors, axis=-1).max()
    return free * np.ptp(ends, axis=1), apart or np.sqrt(2)


def _median_of_seen(values: Float[np.ndarray, " codes *any"]) -> Float[np.ndarray, "*any"]:
    """The median over the codes that show anything; 0 where none does."""
    return np.nanmedian(np.where(np.isnan(values).all(axis=0), 0, values), axis=0)
