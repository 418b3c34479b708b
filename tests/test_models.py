"""The networks against counts made by hand and against torch.distributions."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.utils.flop_counter import FlopCounterMode

from sbd_utils.models import VAE, SpatialBroadcastDecoder

both = pytest.mark.parametrize("decoder", ["deconv", "sbd"])


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def multiply_adds(function, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function(*inputs)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("decoder, count", [("deconv", 267_011), ("sbd", 42_755)])
def test_parameters(decoder, count):
    vae = VAE(decoder)
    assert parameters(vae.decoder) == count
    assert parameters(vae.encoder) == 464_906
    assert parameters(vae) == count + 464_906


@pytest.mark.parametrize("decoder, alone, whole", [
    # Linear, then four doublings of 64 channels from 2x2, then one to 3 channels.
    ("deconv", 5 * 256 + 16 * 64 * 64 * (2**2 + 4**2 + 8**2 + 16**2) + 16 * 64 * 3 * 32**2, 50.86),
    ("sbd", 64**2 * 9 * (7 * 64 + 64 * 64 + 64 * 3), 200.02),
])
def test_multiply_adds(decoder, alone, whole):
    vae = VAE(decoder)
    assert round(alone / 1e6, 2) == {"deconv": 25.43, "sbd": 174.59}[decoder]
    assert multiply_adds(vae.decode, torch.zeros(1, 5)) == alone
    assert round(multiply_adds(vae.reconstruct, torch.zeros(1, 3, 64, 64)) / 1e6, 2) == whole


@both
@pytest.mark.parametrize("image_size, latent_dim", [(64, 5), (32, 1), (128, 9)])
def test_shapes(decoder, image_size, latent_dim):
    vae = VAE(decoder, latent_dim=latent_dim, image_size=image_size)
    x = torch.rand(2, 3, image_size, image_size)
    mu, log_var = vae.encode(x)
    assert mu.shape == log_var.shape == (2, latent_dim)
    assert vae.decode(mu).shape == vae.reconstruct(x).shape == x.shape
    reconstruction, kl = vae.loss_terms(x, torch.randn(2, latent_dim))
    assert reconstruction.shape == kl.shape == (2,)


def test_broadcast_tiles_z_and_appends_x_then_y():
    z = torch.randn(4, 5)
    out = SpatialBroadcastDecoder(5, image_size=32).broadcast(z)
    steps = torch.linspace(-1, 1, 32)
    assert out.shape == (4, 7, 32, 32)
    for image, code in zip(out, z, strict=True):
        for k in range(5):
            assert torch.equal(image[k], torch.full((32, 32), code[k].item()))
        for i in range(32):
            assert torch.equal(image[5, i], steps), "x grows along the width"
            assert torch.equal(image[6, :, i], steps), "y grows along the height"
    assert torch.equal(out[:, 5], out[:, 6].transpose(1, 2))


def test_grid_is_a_buffer():
    decoder = SpatialBroadcastDecoder(5)
    assert [name for name, _ in decoder.named_buffers()] == ["grid"]
    assert "grid" not in dict(decoder.named_parameters()) and not decoder.grid.requires_grad
    assert decoder.double().grid.dtype == torch.float64


@both
@pytest.mark.parametrize("variance", [0.3, 1.7])
def test_loss_terms_are_those_of_torch_distributions(decoder, variance):
    torch.manual_seed(0)
    vae = VAE(decoder, decoder_variance=variance, image_size=32)
    with torch.no_grad():  # away from the fresh network's q(z|x) = N(0, I), where KL is 0
        vae.encoder.mu.bias.copy_(torch.tensor([-2.0, 0.5, 0.0, 1.0, 3.0]))
        vae.encoder.log_var.bias.copy_(torch.tensor([-3.0, 1.0, -0.5, 0.2, -6.0]))
    x, noise = torch.rand(3, 3, 32, 32), torch.randn(3, 5)
    with torch.no_grad():
        reconstruction, kl = vae.loss_terms(x, noise)
        mu, log_var = vae.encode(x)
        q = Normal(mu.double(), log_var.double().exp().sqrt())
        mean = vae.decode((q.mean + q.stddev * noise).float()).double()
    expected_kl = kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)
    constant = 0.5 * math.log(2 * math.pi * variance) * 3 * 32 * 32
    expected = -Normal(mean, variance**0.5).log_prob(x.double()).sum(dim=(1, 2, 3)) - constant
    assert expected_kl.min() > 5 and expected.min() > 100
    torch.testing.assert_close(kl.double(), expected_kl, rtol=1e-5, atol=0)
    torch.testing.assert_close(reconstruction.double(), expected, rtol=1e-5, atol=0)


@both
def test_loss_terms_stay_float32_under_bfloat16(decoder):
    vae = VAE(decoder, image_size=32)
    with torch.autocast("cpu", torch.bfloat16):
        terms = vae.loss_terms(torch.rand(1, 3, 32, 32), torch.zeros(1, 5))
    assert [term.dtype for term in terms] == [torch.float32] * 2


@both
def test_reconstruct_decodes_mu_and_draws_nothing(decoder):
    vae, x = VAE(decoder, image_size=32), torch.rand(2, 3, 32, 32)
    before = torch.get_rng_state()
    first = vae.reconstruct(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, vae.reconstruct(x))
    assert torch.equal(first, vae.decode(vae.encode(x)[0]))


@pytest.mark.parametrize("name, value", [
    ("decoder", "conv"), ("decoder", None), ("latent_dim", 0), ("latent_dim", 2.5),
    ("latent_dim", "5"), ("decoder_variance", 0), ("decoder_variance", -1.0),
    ("decoder_variance", float("nan")), ("decoder_variance", float("inf")),
    ("decoder_variance", "0.3"), ("image_size", 48), ("image_size", 16), ("image_size", 0),
    ("image_size", 64.0),
])
def test_vae_names_the_bad_argument(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        VAE(**{name: value})


images = torch.full((2, 3, 32, 32), 0.5)
BAD_IMAGES = {
    "rank": images[0], "scalar": torch.tensor(0.5), "channels": images[:, :1],
    "height": images[:, :, :16], "size": torch.zeros(1, 3, 64, 64), "empty": images[:0],
    "uint8": images.to(torch.uint8), "float64": images.double(), "NaN": images * float("nan"),
    "negative": images - 0.6, "above 1": images * 2.1, "array": images.numpy(),
    "list": images.tolist(), "None": None,
}


@pytest.mark.parametrize("door", ["encode", "reconstruct"])
@pytest.mark.parametrize("bad", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_images_are_checked_at_every_door(door, bad):
    with pytest.raises(ValueError, match="^x must"):
        getattr(VAE(image_size=32), door)(bad)


def test_one_bad_value_among_good_images_is_found():
    x = images.clone()
    x[1, 2, 31, 31] = float("nan")
    with pytest.raises(ValueError, match="^x must"):
        VAE(image_size=32).encode(x)


@pytest.mark.parametrize("bad", [
    torch.zeros(5), torch.zeros(2, 4), torch.zeros(2, 5, 1), torch.zeros(0, 5),
    torch.zeros(2, 5).double(), torch.zeros(2, 5, dtype=torch.long),
    torch.tensor([[0, 0, 0, 0, float("nan")]]), torch.tensor([[0, 0, 0, 0, -float("inf")]]),
    np.zeros((2, 5), np.float32), [[0.0] * 5], None,
], ids=["rank 1", "width", "rank 3", "empty", "float64", "long", "NaN", "infinity", "array",
        "list", "None"])
def test_decode_checks_z(bad):
    with pytest.raises(ValueError, match="^z must"):
        VAE(image_size=32).decode(bad)
