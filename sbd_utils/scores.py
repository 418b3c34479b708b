"""A trained VAE in, its numbers out: what notebooks 03 to 05 and the study of seeds share."""

from dataclasses import dataclass

import numpy as np
import torch

from sbd_utils import metrics
from sbd_utils.data import Sprites, draw_sprite
from sbd_utils.models import VAE
from sbd_utils.training import Run

TRAVERSAL = np.linspace(-2, 2, 7)  # the post's seven values
LINES = np.linspace(0.2, 0.8, 31)  # the post's window and points a line; every sixth is a line
COLORS = ("red", "green", "blue")
MOVES = 0.1  # share of its full range that a sweep must move a factor by to count


@torch.inference_mode()
def encode(vae: VAE, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """mu and log_var of images [N, 3, size, size] as float64 arrays [N, latent_dim]."""
    device = next(vae.parameters()).device
    pairs = [vae.encode(batch.to(device)) for batch in images.split(256)]
    mu, log_var = (torch.cat(parts).cpu().double().numpy() for parts in zip(*pairs, strict=True))
    return mu, log_var


@torch.inference_mode()
def decode(vae: VAE, codes: np.ndarray, clamp: bool = True) -> np.ndarray:
    """Pictures of codes [..., latent_dim], clamped to [0, 1] or not, [..., 3, size, size]."""
    if np.ndim(codes) == 0 or np.shape(codes)[-1] != vae.latent_dim:
        raise ValueError(f"codes must be [..., {vae.latent_dim}], got {list(np.shape(codes))}")
    device = next(vae.parameters()).device
    z = torch.as_tensor(np.asarray(codes), dtype=torch.float32).reshape(-1, vae.latent_dim)
    pictures = torch.cat([vae.decode(batch.to(device)).cpu() for batch in z.split(128)])
    pictures = pictures.clamp(0, 1) if clamp else pictures
    return pictures.numpy().reshape(*np.shape(codes)[:-1], *pictures.shape[1:])


def traverse(
    codes: np.ndarray, values: np.ndarray = TRAVERSAL, axes: np.ndarray | None = None
) -> np.ndarray:
    """Set each latent in turn to each value: [..., L] to [..., L, len(values), L].

    axes: orthonormal rows [L, L]; where given, the coordinate along each of them is set instead.
    """
    latent_dim = codes.shape[-1]
    axes = np.eye(latent_dim) if axes is None else axes
    sweeps = np.empty((*codes.shape[:-1], latent_dim, len(values), latent_dim))
    sweeps[:] = (codes @ axes.T)[..., None, None, :]
    for axis in range(latent_dim):
        sweeps[..., axis, :, axis] = values
    return sweeps @ axes


@dataclass(frozen=True)
class Moves:
    """What a sweep of each latent does to the picture, in the median over many codes.

    x, y: how far the blob's centroid goes, as a share of the way that is free, [latent_dim].
    color: how far its color goes, as a share of the way from red to green, [latent_dim].
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
    vae: VAE, mu: np.ndarray, every: int = 101, axes: np.ndarray | None = None
) -> Moves:
    """Sweep the latents of every 101st code of mu [N, L]: places and colors of all kinds.

    axes: what to sweep along instead of the latents, as in traverse.
    """
    codes = traverse(mu[::every], axes=axes)  # [bases, latent, value, latent]
    bases, latents, values, _ = codes.shape
    blobs = metrics.find_blobs(decode(vae, codes).reshape(-1, 3, vae.image_size, vae.image_size))
    centroid = blobs.centroid.reshape(bases, latents, values, 2)
    color = blobs.color.reshape(bases, latents, values, 3)
    free = vae.image_size - 2 - 16
    apart = np.linalg.norm(color[:, :, :, None] - color[:, :, None], axis=-1) / np.sqrt(2)
    # A black picture has no place and no color; unlike nanmax, fmax passes over it silently.
    way = np.fmax.reduce(centroid, axis=2) - np.fmin.reduce(centroid, axis=2)
    x, y = _median_of_seen(way).T / free  # way: [bases, latent, 2]
    return Moves(
        x, y,
        color=_median_of_seen(np.fmax.reduce(apart, axis=(2, 3))),
        one_blob=(blobs.count.reshape(bases, latents, values) == 1).mean(axis=(0, 2)),
    )


def _median_of_seen(values: np.ndarray) -> np.ndarray:
    """The median over the codes that show anything; 0 where none does."""
    return np.nanmedian(np.where(np.isnan(values).all(axis=0), 0, values), axis=0)


def wanted_precision(vae: VAE, mu: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """How precisely the loss wants the codes mu [N, L] known, [N, L, L]: I + J^T J / variance.

    J is how the picture changes with the code, by central differences over a tenth of the encoder's
    standard deviation; the variance is the decoder's. With the decoder taken as linear at mu, the
    negative ELBO (beta 1) wants its inverse as the posterior's covariance or, of a posterior that
    is diagonal in some axes, the inverses of its diagonal there (Rolinek et al. 2019).
    """
    latent_dim = mu.shape[1]
    steps = np.exp(log_var / 2)[:, :, None] / 10  # [N, L, 1]
    found = []
    for code, step in zip(mu, steps, strict=True):
        up, down = (decode(vae, code + sign * step * np.eye(latent_dim), clamp=False)
                    for sign in (1, -1))
        slopes = (up - down).reshape(latent_dim, -1) / (2 * step)  # [L, pixels]
        found.append(np.eye(latent_dim) + slopes @ slopes.T / vae.decoder_variance)
    return np.stack(found)


def loss_along(
    vae: VAE, images: torch.Tensor, mu: torch.Tensor, axes: torch.Tensor, widths: torch.Tensor,
    noise: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both loss terms, in nats, [N] each, where q is diagonal along these axes: VAE.loss_terms.

    images [N, 3, size, size] and their codes mu [N, L]; axes: orthonormal rows [L, L]; widths: the
    standard deviation along each, [L] or [N, L]; noise: draws from N(0, I), [samples, N, L].
    """
    z = mu + (noise * widths) @ axes  # [samples, N, L]
    drawn = vae.decode(z.flatten(0, 1)).unflatten(0, z.shape[:2])
    squared_error = (drawn - images).square().sum(dim=(2, 3, 4)).mean(dim=0)
    kl = ((mu @ axes.T).square() + widths.square() - 1 - 2 * widths.log()).sum(dim=1) / 2
    return squared_error / (2 * vae.decoder_variance), kl


def best_widths(
    vae: VAE, images: torch.Tensor, mu: torch.Tensor, axes: torch.Tensor, start: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """One width an axis for all codes, [L], from start [L] to where the mean loss is least.

    The rest is as in loss_along, and so is the loss. It takes 12 iterations of L-BFGS.
    """
    log_widths = start.log().requires_grad_()
    optimizer = torch.optim.LBFGS([log_widths], max_iter=12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        terms = loss_along(vae, images, mu, axes, log_widths.exp(), noise)
        mean = sum(term.mean() for term in terms)
        [log_widths.grad] = torch.autograd.grad(mean, [log_widths])
        return mean

    optimizer.step(loss)
    return log_widths.detach().exp()


@dataclass(frozen=True)
class Geometry:
    """The plane of the two latents with the lowest mean log-variance, for one color.

    points: [31, 31, 2], the code of a sprite at (LINES[i], LINES[j]) at index [j, i].
    folded: of the 25 cells between the six drawn lines a side, how many are turned over.
    """

    points: np.ndarray
    fit: metrics.AffineFit
    folded: int


def measure_geometry(vae: VAE, latents: np.ndarray, color: str) -> Geometry:
    """Encode a lattice of sprites over [0.2, 0.8]^2 and compare it with the true one.

    Raises ValueError unless latents are two different indices below latent_dim.
    """
    if len(latents) != 2 or latents[0] == latents[1] or not all(
        0 <= k < vae.latent_dim for k in latents
    ):
        raise ValueError(
            f"latents must be two different indices below {vae.latent_dim}, got {list(latents)}"
        )
    x, y = np.meshgrid(LINES, LINES)
    places = np.column_stack([x.ravel(), y.ravel()])  # [961, 2]
    images = [draw_sprite(*place, color=color, image_size=vae.image_size) for place in places]
    codes = encode(vae, torch.stack(images))[0][:, latents]
    points = codes.reshape(*x.shape, 2)
    folded = metrics.folded_cells(points[::6, ::6])
    return Geometry(points, metrics.affine_fit(places, codes), folded)


def score(run: Run, sprites: Sprites) -> dict[str, float]:
    """Every number of one run that a claim or a figure of the seeds needs."""
    vae, images, factors = run.vae, sprites.images, sprites.factors
    mu, log_var = encode(vae, images)
    order = metrics.informative_latents(log_var)
    places = np.column_stack([factors["x"], factors["y"]])
    moves = measure_moves(vae, mu)
    drawn = decode(vae, mu, clamp=False)
    pictures = np.clip(drawn, 0, 1)
    numbers = {
        "reconstruction": run.history.reconstruction[-1],
        "kl": run.history.kl[-1],
        "explained": explained(sprites, pictures),
        "right_blob": right_blobs(sprites, pictures).mean(),
        "mixing": moves.mixing,
        "factors_moved": moves.factors.sum() / max(1, moves.factors.any(axis=1).sum()),
        "one_blob": moves.one_blob.mean(),
        "readout": metrics.affine_fit(mu[:, order[:2]], places).r2,
        "additive": metrics.additive_r2(mu, places, factors["color"]),
        "mig": metrics.mig(mu, factors),
        "pattern": metrics.fixed_pattern(drawn - images.numpy(), period=2),
        "seconds": run.history.undisturbed_seconds,
    }
    for color in COLORS:
        geometry = measure_geometry(vae, order[:2], color)
        numbers |= {
            f"r2_{color}": geometry.fit.r2,
            f"singular_ratio_{color}": geometry.fit.singular_ratio,
            f"angle_{color}": geometry.fit.angle,
            f"folded_{color}": geometry.folded,
        }
    return {name: float(value) for name, value in numbers.items()}


def explained(sprites: Sprites, pictures: np.ndarray) -> float:
    """The share of the images' variance that is in the pictures [N, 3, size, size] of them."""
    truth = sprites.images.numpy()
    return 1 - np.square(pictures - truth).mean() / np.square(truth - truth.mean(axis=0)).mean()


def right_blobs(sprites: Sprites, pictures: np.ndarray) -> np.ndarray:
    """Which pictures show one blob, within a pixel of its place and of the right color, [N]."""
    truth, seen = metrics.find_blobs(sprites.images.numpy()), metrics.find_blobs(pictures)
    with np.errstate(invalid="ignore"):
        close = np.linalg.norm(truth.centroid - seen.centroid, axis=1) <= 1
    return (seen.count == 1) & close & (truth.color.argmax(axis=1) == seen.color.argmax(axis=1))
