"""What can be seen in pictures: blobs, what moves them, and patterns that repeat."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from PIL import ImageColor
from scipy import ndimage

from sbd_utils import checks
from sbd_utils.data.circles import Sprites
from sbd_utils.metrics.codes import decode, traverse
from sbd_utils.models.vae import VAE

VISIBLE = 0.2  # brightness of a pixel that belongs to a blob; Pillow's green is 0.5 at full
LEAST_AREA = 20  # pixels of a blob that the eye would count; the post's circle has 221
MANY = "N channels height width"
MOVES = 0.1  # share of its full range that a sweep must move a factor by to count


@dataclass(frozen=True)
class Blobs:
    """What can be seen in N pictures.

    count: blobs of at least LEAST_AREA pixels brighter than VISIBLE, [N].
    centroid: x and y in pixels, weighted by brightness, [N, 2]; NaN where nothing is visible.
    color: shares of red, green and blue, [N, 3], which sum to 1; NaN where nothing is visible.
    """

    count: np.ndarray
    centroid: np.ndarray
    color: np.ndarray


def find_blobs(images: np.ndarray) -> Blobs:
    """Count the blobs in images [N, 3, height, width] and locate what is visible of them."""
    (images,) = checks.pictures(images=(images, "N 3 height width"))
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
        count.append((np.bincount(labels.ravel())[1:] >= LEAST_AREA).sum())
    return Blobs(np.array(count), centroid, color)


def fixed_pattern(images: np.ndarray, period: int) -> float:
    """How much of the images' variance is a pattern that all of them repeat every period pixels.

    images: [N, channels, height, width]. The variance of the means over all pixels of one phase
    (row mod period, column mod period), over the variance of all pixels, each within its channel; 0
    where no pixel varies. ValueError unless period divides height and width.
    """
    (images,) = checks.pictures(images=(images, MANY))
    _, channels, height, width = images.shape
    if height % checks.check_int("period", period, 2) or width % period:
        raise checks.argument_error("period", f"a divisor of {height} and {width}", period)
    mean = images.mean(axis=0, dtype=float)  # [channels, height, width]
    phases = mean.reshape(channels, height // period, period, width // period, period)
    # Not images.var, whose copy in double precision would be twice as large as the images.
    squares = np.einsum("nchw,nchw->c", images, images, dtype=float) / (len(images) * mean[0].size)
    variance = (squares - mean.mean(axis=(1, 2)) ** 2).mean()
    return float(phases.mean(axis=(1, 3)).var(axis=(1, 2)).mean() / variance) if variance else 0.0


def gray_levels(images: np.ndarray, period: int) -> float:
    """The standard deviation of the fixed pattern, on a screen's scale from 0 to 255.

    images [N, channels, height, width] with black 0 and white 1, as in fixed_pattern. The least
    that a screen shows is a board of two neighboring levels, which has 0.5.
    """
    (images,) = checks.pictures(images=(images, MANY))
    share = fixed_pattern(images, period)
    return float(255 * (share * np.var(images, axis=(0, 2, 3), dtype=float).mean()) ** 0.5)


def local_pattern(
    pictures: np.ndarray, truth: np.ndarray, side: int = 8, period: int = 2
) -> dict[str, np.ndarray]:
    """How strong a pattern is inside single pictures, where a mean over pictures may cancel it.

    pictures and truth: [N, channels, height, width], 0 to 1. Both are cut into windows of side ×
    side pixels, and each window in which the truth is one flat color gets the gray levels of its
    own pattern, as in gray_levels. Returns those of the "background", where the truth is 0, and
    those "inside" a sprite. ValueError unless period divides side, and side the pictures.
    """
    pictures, truth = checks.pictures(pictures=(pictures, MANY), truth=(truth, MANY))
    if any(length % checks.check_int("side", side) for length in pictures.shape[2:]):
        raise checks.argument_error("side", f"a divisor of {pictures.shape[2:]}", side)
    if side % checks.check_int("period", period, 2):
        raise checks.argument_error("period", f"a divisor of {side}", period)
    known, drawn = _windows(truth, side), _windows(pictures, side)
    flat = (np.ptp(known, axis=(2, 3)) == 0).all(axis=1)
    dark = known.max(axis=(1, 2, 3)) == 0
    phases = drawn.reshape(*drawn.shape[:2], side // period, period, side // period, period)
    levels = 255 * np.sqrt(phases.mean(axis=(2, 4)).var(axis=(2, 3)).mean(axis=1))
    return {"background": levels[flat & dark], "inside": levels[flat & ~dark]}


def _windows(images: np.ndarray, side: int) -> np.ndarray:
    """[N, channels, height, width] to [windows, channels, side, side]."""
    count, channels, height, width = images.shape
    parts = images.reshape(count, channels, height // side, side, width // side, side)
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(-1, channels, side, side)


def strength(images: np.ndarray) -> np.ndarray:
    """How far each pixel strays from the images' mean color, [height, width].

    images: [N, channels, height, width]. The root mean square over images and channels, about the
    channel's mean over all pixels, relative to that of all pixels.
    """
    (images,) = checks.pictures(images=(images, MANY))
    square = np.square(images - images.mean(axis=(0, 2, 3), keepdims=True)).mean(axis=(0, 1))
    if not square.any():
        raise checks.argument_error("images", "of more than one flat color", images)
    return np.sqrt(square / square.mean())


def spectrum(images: np.ndarray) -> np.ndarray:
    """The power of the images' mean at each frequency, [height, width], cycles down and across.

    images: [N, channels, height, width]. The mean over the channels. The powers sum to the mean
    image's variance; the constant part, which is no variance, has none.
    """
    (images,) = checks.pictures(images=(images, MANY))
    mean = images.mean(axis=0, dtype=float)
    power = np.square(np.abs(np.fft.fft2(mean, norm="forward"))).mean(axis=0)
    power[0, 0] = 0
    return power


def quadrant(power: np.ndarray) -> np.ndarray:
    """The frequencies of a spectrum [side, side] that differ, [side // 2 + 1, side // 2 + 1].

    Waves that run down to the right and those that run up to the right are averaged.
    """
    (power,) = checks.arrays(power=(power, "?side side"))
    half = len(power) // 2 + 1
    return ((power + np.roll(power[::-1], 1, axis=0)) / 2)[:half, :half]


def peak_height(power: np.ndarray, period: int) -> float:
    """How far a spectrum's peaks of a period, and of no shorter one, stand out of it.

    power: [side, side], side 5 or more and a multiple of the period, which is even. Each peak over
    the median of the 24 frequencies around it; of these ratios the median, since there are several
    peaks. ValueError where such a median is 0.
    """
    (power,) = checks.arrays(power=(power, "side side"))
    if checks.check_int("period", period, 2) % 2 or len(power) % period or len(power) < 5:
        raise checks.argument_error(
            "period", f"even and a divisor of {len(power)}, 5 at least", period
        )
    step, ratios = len(power) // period, []
    for row, column in product(range(0, len(power), step), repeat=2):
        if row % (2 * step) or column % (2 * step):
            near = np.roll(power, (2 - row, 2 - column), axis=(0, 1))[:5, :5].ravel()
            around = np.median(np.delete(near, 12))
            if not around > 0:
                raise ValueError(f"power must be above 0 around its peaks, got {around:g}")
            ratios.append(near[12] / around)
    return float(np.median(ratios))


def explained(sprites: Sprites, pictures: np.ndarray) -> float:
    """The share of the images' variance that is in the pictures [N, 3, size, size] of them."""
    truth, pictures = _pairs(sprites, pictures)
    if not np.ptp(truth, axis=0).any():
        raise ValueError("sprites must be of different images, got one, or the same")
    return 1 - np.square(pictures - truth).mean() / np.square(truth - truth.mean(axis=0)).mean()


def right_blobs(sprites: Sprites, pictures: np.ndarray) -> np.ndarray:
    """Which pictures show one blob, within a pixel of its place and of the right color, [N].

    The color is right if the largest of red, green and blue is the same, which tells apart the
    colors of `make_sprites` and not all that there are.
    ValueError where a sprite itself is no blob: too small or too dark.
    """
    truth, pictures = _pairs(sprites, pictures)
    truth, seen = _seen(truth), find_blobs(pictures)
    with np.errstate(invalid="ignore"):
        close = np.linalg.norm(truth.centroid - seen.centroid, axis=1) <= 1
    return (seen.count == 1) & close & (truth.color.argmax(axis=1) == seen.color.argmax(axis=1))


def _pairs(sprites: Sprites, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images and their pictures, of the same shape."""
    checks.check_type("sprites", sprites, Sprites)
    shape = " ".join(map(str, sprites.images.shape))
    return sprites.images.numpy(), checks.pictures(pictures=(pictures, shape))[0]


def _seen(images: np.ndarray) -> Blobs:
    """The blobs of images of sprites, each of which is to be one."""
    blobs = find_blobs(images)
    if (blobs.count != 1).any():
        raise ValueError(
            f"sprites must each be a blob of {LEAST_AREA} pixels at least, brighter "
            f"than {VISIBLE}, got {(blobs.count != 1).sum()} that are not"
        )
    return blobs


@dataclass(frozen=True)
class Moves:
    """What a sweep of each latent does to the picture, in the median over many codes.

    x, y: how far the blob's centroid goes, as a share of the way that is free, [latent_dim].
    color: how far its color goes, as a share of the way between the two that differ most, such as
        red and green, [latent_dim].
    one_blob: share of the sweep's pictures that hold exactly one blob, [latent_dim] (a mean).
    """

    x: np.ndarray
    y: np.ndarray
    color: np.ndarray
    one_blob: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """Which of x, y and color each latent moves, [latent_dim, 3] of bool."""
        return np.stack([self.x, self.y, self.color], axis=1) > MOVES

    @property
    def mixing(self) -> float:
        """Of the latents that move anything, the share that moves position and color both."""
        x, y, color = self.factors.T
        return float(((x | y) & color).sum() / max(1, (x | y | color).sum()))


def measure_moves(
    vae: VAE, mu: np.ndarray, sprites: Sprites, every: int = 101, axes: np.ndarray | None = None
) -> Moves:
    """Sweep the latents of every 101st code of mu [N, L]: places and colors of all kinds.

    sprites: what the VAE was trained on; of one size and shape, in different places. axes: what to
    sweep along instead of the latents, as in traverse.
    """
    checks.check_type("sprites", sprites, Sprites)
    (mu,) = checks.arrays(mu=(mu, "N L"))
    codes = traverse(mu[:: checks.check_int("every", every)], axes=axes)
    bases, latents, values, _ = codes.shape  # [bases, latent, value, latent]
    free, hues = _ways(sprites)
    drawn = decode(vae, codes)
    if drawn.shape[-1] != sprites.images.shape[-1]:
        raise checks.argument_error(
            "sprites", f"of {drawn.shape[-1]} pixels per side", sprites.images
        )
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


def _ways(sprites: Sprites) -> tuple[np.ndarray, float]:
    """How far the sprites' centers go in x and y, in pixels, and their colors as shares.

    Where all have one color, the way between two pure ones takes its place.
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


def _median_of_seen(values: np.ndarray) -> np.ndarray:
    """The median over the codes that show anything; 0 where none does."""
    return np.nanmedian(np.where(np.isnan(values).all(axis=0), 0, values), axis=0)
