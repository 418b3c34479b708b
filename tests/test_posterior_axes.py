"""What the axes of a code cost, where the decoder is known to be linear, or not quite."""

import ast
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sbd_utils.data.circles import make_sprites
from sbd_utils.metrics.posterior_axes import posterior_precision, principal_axes
from sbd_utils.models.vae import VAE


def functions_of(notebook):
    """The functions that a notebook defines, without running it."""
    path = Path(__file__).parents[1] / "notebooks" / f"{notebook}.py"
    source = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    source.body = [node for node in source.body if isinstance(node, kinds)]
    exec(compile(source, path, "exec"), names := {})
    return SimpleNamespace(**names)


nb = functions_of("10_axes")
WEIGHTS = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
PRECISION = np.eye(4) + (WEIGHTS @ WEIGHTS.T).double().numpy() / 0.5  # what Bent(0) wants
MU = np.array([[1.0, 1, 1, 1], [0, 2, 0, -2]])
TURN = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]


class Bent(VAE):
    """A decoder that is linear but for the bend."""

    def __init__(self, bend):
        super().__init__(latent_dim=4, decoder_variance=0.5, image_size=32)
        self.bend = bend

    def decode(self, z):
        return ((z + self.bend * z.square()) @ WEIGHTS).reshape(-1, 3, 2, 2)


@pytest.mark.parametrize("bend", [0, 0.3])
def test_posterior_precision_is_that_of_the_slopes_at_the_code(bend):
    log_var = np.array([[0, -2, -4, -8.0], [0] * 4])
    found = posterior_precision(Bent(bend), MU, log_var)
    slopes = (1 + 2 * bend * MU)[:, :, None] * WEIGHTS.numpy()
    expected = np.eye(4) + slopes @ slopes.transpose(0, 2, 1) / 0.5
    assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_principal_axes_make_the_mean_diagonal_and_cost_nothing_where_all_codes_want_the_same():
    same = np.stack([PRECISION, PRECISION])
    axes = principal_axes(same)
    assert_allclose(axes @ axes.T, np.eye(4), atol=1e-12)
    along = nb.precision_along(same, axes)
    assert_allclose(along[0], np.linalg.eigvalsh(PRECISION)[::-1])
    assert_allclose(nb.diagonal_posterior_gap(same, axes), 0, atol=1e-9)
    mean = principal_axes(np.stack([PRECISION, np.diag([9.0, 1, 1, 1])]))
    turned = mean @ (PRECISION + np.diag([9.0, 1, 1, 1])) @ mean.T
    assert_allclose(turned, np.diag(np.diagonal(turned)), atol=1e-9)


def test_noise_is_balanced_and_differs_from_code_to_code():
    noise = nb.balanced_noise(3, 4, seed=0)
    assert noise.shape == (8, 3, 4)
    assert_allclose(noise.mean(axis=0), 0, atol=1e-12)
    for code in range(3):
        assert_allclose(noise[:, code].T @ noise[:, code] / 8, np.eye(4), atol=1e-12)
    assert not np.allclose(noise[:, 0], noise[:, 1])


def test_loss_along_the_latents_is_the_vaes():
    vae = VAE("sbd", latent_dim=4, image_size=32).eval()
    images = make_sprites(32, positions=3).images
    noise = nb.balanced_noise(27, 4, seed=0)
    mu, log_var = (part.detach().double().numpy() for part in vae.encode(images))
    found = nb.loss_along(vae, images, mu, np.eye(4), np.exp(log_var / 2), noise)
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
    images, noise = torch.rand(2, 3, 2, 2), nb.balanced_noise(2, 4, seed=0)

    def loss(axes, widths):
        return np.sum(nb.loss_along(vae, images, MU, axes, widths, noise), axis=0)

    least = loss(axes := principal_axes(same), nb.optimal_stddevs(same, axes))
    for turn in (np.eye(4), TURN):
        widths = nb.optimal_stddevs(same, turn)
        price = nb.diagonal_posterior_gap(same, turn)
        assert_allclose(loss(turn, widths) - least, price, rtol=1e-4)
        for k in range(4):
            for factor in (0.9, 1.1):
                other = widths * np.where(np.arange(4) == k, factor, 1)
                assert (loss(turn, other) > loss(turn, widths)).all()
