"""What the axes of a code cost, where the decoder is known to be linear, or not quite."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sbd_utils.data.circles import make_sprites
from sbd_utils.metrics.axes import (
    balanced_noise,
    diagonal_posterior_gap,
    loss_along,
    optimal_stddevs,
    precision_along,
    turned_axes,
    wanted_precision,
)
from sbd_utils.models.vae import VAE

WEIGHTS = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
PRECISION = np.eye(4) + (WEIGHTS @ WEIGHTS.T).double().numpy() / 0.5  # what Bent(0) wants
MU = np.array([[1.0, 1, 1, 1], [0, 2, 0, -2]])
TURN = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]


class Bent(torch.nn.Module):
    """A decoder that is linear but for the bend."""

    latent_dim, image_size, decoder_variance = 4, 2, 0.5

    def __init__(self, bend):
        super().__init__()
        self.bend, self.weight = bend, torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        raise AssertionError("nothing here encodes")

    def decode(self, z):
        return ((z + self.bend * z.square()) @ WEIGHTS).reshape(-1, 3, 2, 2)


@pytest.mark.parametrize("bend", [0, 0.3])
def test_wanted_precision_is_that_of_the_slopes_at_the_code(bend):
    log_var = np.array([[0, -2, -4, -8.0], [0] * 4])
    found = wanted_precision(Bent(bend), MU, log_var)
    slopes = (1 + 2 * bend * MU)[:, :, None] * WEIGHTS.numpy()
    expected = np.eye(4) + slopes @ slopes.transpose(0, 2, 1) / 0.5
    assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_turned_axes_make_the_mean_diagonal_and_cost_nothing_where_all_codes_want_the_same():
    same = np.stack([PRECISION, PRECISION])
    axes = turned_axes(same)
    assert_allclose(axes @ axes.T, np.eye(4), atol=1e-12)
    along = precision_along(same, axes)
    assert_allclose(along[0], np.linalg.eigvalsh(PRECISION)[::-1])
    assert_allclose(diagonal_posterior_gap(same, axes), 0, atol=1e-9)
    mean = turned_axes(np.stack([PRECISION, np.diag([9.0, 1, 1, 1])]))
    turned = mean @ (PRECISION + np.diag([9.0, 1, 1, 1])) @ mean.T
    assert_allclose(turned, np.diag(np.diagonal(turned)), atol=1e-9)


def test_noise_is_balanced_and_differs_from_code_to_code():
    noise = balanced_noise(3, 4, seed=0)
    assert noise.shape == (8, 3, 4)
    assert_allclose(noise.mean(axis=0), 0, atol=1e-12)
    for code in range(3):
        assert_allclose(noise[:, code].T @ noise[:, code] / 8, np.eye(4), atol=1e-12)
    assert not np.allclose(noise[:, 0], noise[:, 1])


def test_loss_along_the_latents_is_the_vaes():
    vae = VAE("sbd", latent_dim=4, image_size=32).eval()
    images = make_sprites(32, positions=3).images
    noise = balanced_noise(27, 4, seed=0)
    mu, log_var = (part.detach().double().numpy() for part in vae.encode(images))
    found = loss_along(vae, images, mu, np.eye(4), np.exp(log_var / 2), noise)
    expected = [
        torch.stack(draws).mean(dim=0)
        for draws in zip(
            *(vae.loss_terms(images, n) for n in torch.tensor(noise).float()), strict=True
        )
    ]
    for term, its in zip(found, expected, strict=True):
        assert_allclose(term, its.detach(), rtol=1e-4)


def test_of_a_linear_decoder_the_price_is_what_the_loss_has_too_much_and_no_widths_are_better():
    vae, same = Bent(0), np.stack([PRECISION, PRECISION])
    images, noise = torch.rand(2, 3, 2, 2), balanced_noise(2, 4, seed=0)

    def loss(axes, widths):
        return np.sum(loss_along(vae, images, MU, axes, widths, noise), axis=0)

    least = loss(axes := turned_axes(same), optimal_stddevs(same, axes))
    for turn in (np.eye(4), TURN):
        widths = optimal_stddevs(same, turn)
        assert_allclose(loss(turn, widths) - least, diagonal_posterior_gap(same, turn), rtol=1e-4)
        for k in range(4):
            for factor in (0.9, 1.1):
                other = widths * np.where(np.arange(4) == k, factor, 1)
                assert (loss(turn, other) > loss(turn, widths)).all()
