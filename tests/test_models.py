"""The networks against counts made by hand and against torch.distributions."""

import math

import jaxtyping
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from sbd_utils.metrics.cost import count_parameters, multiply_adds, step_bytes
from sbd_utils.models.decoders import builder
from sbd_utils.models.layers import (
    AppendCoordinates,
    Broadcast,
    BroadcastConv2d,
    NearestUpsample,
    TransposedConv2d,
    coordinate_grid,
)
from sbd_utils.models.vae import VAE, Encoder
from sbd_utils.training.loop import TrainConfig

both = pytest.mark.parametrize("decoder", ["deconv", "sbd"])


@pytest.mark.parametrize(
    "decoder, parameters, alone, whole",
    [
        # Linear, then four doublings of 64 channels from 2x2, then one to 3 channels.
        (
            "deconv",
            267_011,
            5 * 256 + 16 * 64 * 64 * (2**2 + 4**2 + 8**2 + 16**2) + 16 * 64 * 3 * 32**2,
            50.86e6,
        ),
        ("sbd", 42_755, 64**2 * 9 * (7 * 64 + 64 * 64 + 64 * 3), 200.02e6),
    ],
)
def test_parameters_and_multiply_adds(decoder, parameters, alone, whole):
    vae = VAE(decoder)
    assert count_parameters(vae.decoder) == parameters
    assert count_parameters(vae) == parameters + 464_906
    assert multiply_adds(vae.decode, torch.zeros(1, 5)) == alone
    reconstruct = multiply_adds(vae.reconstruct, torch.zeros(1, 3, 64, 64))
    assert reconstruct == pytest.approx(whole, abs=5e3)


@both
@pytest.mark.parametrize("image_size, latent_dim", [(64, 5), (32, 1), (128, 9)])
def test_shapes(decoder, image_size, latent_dim):
    vae = VAE(decoder, latent_dim=latent_dim, image_size=image_size)
    x = torch.rand(2, 3, image_size, image_size)
    mu, log_var = vae.encode(x)
    assert mu.shape == log_var.shape == (2, latent_dim)
    assert vae.decode(mu).shape == x.shape
    # What a reader would pull the geometry of the picture back with.
    assert torch.func.jvp(vae.decode, (mu,), (mu,))[1].shape == x.shape
    reconstruction, kl = vae.loss_terms(x, torch.randn(2, latent_dim))
    assert reconstruction.shape == kl.shape == (2,)


def test_broadcast_tiles_z_and_appends_the_fixed_x_and_y():
    layer, z = BroadcastConv2d(5, 7, kernel=1, side=32), torch.randn(4, 5)
    with torch.no_grad():  # a convolution that changes nothing, but for the ReLU
        layer.weight.copy_(torch.eye(7)[:, :, None, None]), layer.bias.zero_()
        out = layer(z)
    steps = torch.linspace(-1, 1, 32)
    assert out.shape == (4, 7, 32, 32)
    assert torch.equal(out[:, :5].flatten(2), z.relu()[:, :, None].repeat(1, 1, 32 * 32))
    assert torch.equal(out[:, 5], steps.relu().repeat(4, 32, 1)), "x grows along the width"
    assert torch.equal(out[:, 6], steps.relu()[:, None].repeat(4, 1, 32)), "y along the height"
    assert torch.equal(AppendCoordinates()(Broadcast(32)(z)).relu(), out)


def test_the_grid_moves_with_the_decoder_and_is_in_no_file():
    decoder = builder("sbd")(5, 64)
    assert [name for name, _ in decoder.named_buffers()] == ["0.grid"]
    assert decoder.double()[0].grid.dtype == torch.float64
    assert set(decoder.state_dict()) == {name for name, _ in decoder.named_parameters()}


@pytest.mark.parametrize("image_size", [32, 64])
def test_the_sb_decoder_is_the_plain_stack_of_layers(image_size):
    """Bit for bit, picture and gradients: what a reader would write down from the paper."""
    torch.manual_seed(0)
    ours, pull = builder("sbd")(5, image_size), torch.randn(3, 3, image_size, image_size)
    plain = nn.Sequential(
        Broadcast(image_size),
        AppendCoordinates(),
        nn.Conv2d(7, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 3, 3, padding=1),
    )
    for its, weights in zip(plain.parameters(), ours.parameters(), strict=True):
        its.data.copy_(weights)
    z, results = torch.randn(3, 5, requires_grad=True), []
    for decoder in (ours, plain):
        pictures = decoder(z)
        results.append([pictures, *torch.autograd.grad(pictures, (z, *decoder.parameters()), pull)])
    for mine, expected in zip(*results, strict=True):
        assert torch.equal(mine, expected)


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
    assert torch.equal(vae.reconstruct(x), vae.decode(vae.encode(x)[0]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize(
    "name, value",
    [
        ("decoder", "conv"),
        ("decoder", None),
        ("latent_dim", 0),
        ("latent_dim", True),
        ("decoder_variance", 0),
        ("decoder_variance", float("inf")),
        ("image_size", 48),
        ("image_size", 16),
        ("image_size", 64.0),
    ],
)
def test_vae_names_the_bad_argument(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        VAE(**{name: value})


class Own(nn.Module):
    """A decoder with what a draw could change: statistics of both norms, and noise."""

    def __init__(self, latent_dim: int, image_size: int):
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(latent_dim, 48), nn.BatchNorm1d(48), nn.Dropout())
        self.norm = nn.BatchNorm2d(3).eval()  # frozen, while the others are in training mode
        self.image_size = image_size

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.linear(z).view(-1, 3, 4, 4))
        return F.interpolate(x + 0.1 * torch.randn_like(x), self.image_size)


def test_a_module_is_taken_as_it_is_and_stays_so():
    torch.manual_seed(0)
    decoder = Own(4, 32)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    torch.manual_seed(1)
    vae = VAE(decoder, latent_dim=4, image_size=32)
    after, state = vae.decoder.state_dict(), torch.get_rng_state()
    assert vae.decoder is decoder and before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [module.training for module in decoder.modules()] == [True] * 5 + [False]
    torch.manual_seed(1)
    Encoder(4, 32)
    assert torch.equal(torch.get_rng_state(), state), "only the encoder's weights were drawn"
    assert vae.decode(torch.zeros(2, 4)).shape == (2, 3, 32, 32)
    assert isinstance(VAE(Own, latent_dim=4, image_size=32).decoder, Own)


def test_a_module_that_cannot_draw_keeps_its_modes():
    decoder = Own(4, 32)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        VAE(decoder, latent_dim=5, image_size=32)
    with pytest.raises(ValueError, match=r"^what decoder draws must be .* \[2, 3, 64, 64\], got"):
        VAE(decoder, latent_dim=4)
    assert [module.training for module in decoder.modules()] == [True] * 5 + [False]


@pytest.mark.parametrize("size", [16, 33, 48, 96])
def test_images_of_a_size_that_no_vae_has_are_refused_before_training(size):
    config = TrainConfig(epochs=1, precision="float32", compiled=False)
    with pytest.raises(ValueError, match=f"^image_size must be .*, got {size}$"):
        step_bytes(config, torch.rand(2, 3, size, size))


IMAGES = torch.full((2, 3, 32, 32), 0.5)
NAN = IMAGES.clone()
NAN[1, 2, 31, 31] = float("nan")


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize("door", ["encode", "reconstruct"])
@pytest.mark.parametrize(
    "bad",
    [IMAGES[:, :1], torch.zeros(1, 3, 64, 64), IMAGES.double(), NAN, IMAGES * 2.1, IMAGES.numpy()],
)
def test_images_of_another_kind_are_refused(door, bad):
    with pytest.raises(ValueError, match="^x must"):
        getattr(VAE(image_size=32), door)(bad)


def test_annotated_shapes_are_enforced_here():
    for bad in (torch.zeros(2), torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5).numpy()):
        with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'z'"):
            VAE(image_size=32).decode(bad)


def test_coordinate_grid_of_an_oblong_picture():
    x, y = coordinate_grid(2, 3)
    assert x.tolist() == [[-1, 0, 1], [-1, 0, 1]] and y.tolist() == [[-1, -1, -1], [1, 1, 1]]


def test_transposed_convolution_is_torchs():
    torch.manual_seed(0)
    mine, x = TransposedConv2d(4, 6, 4, stride=2, padding=1), torch.randn(2, 4, 8, 8)
    theirs = torch.nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1)
    theirs.load_state_dict(mine.state_dict())
    torch.testing.assert_close(mine(x), theirs(x))


def test_nearest_upsampling_is_torchs():
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    mine, theirs = NearestUpsample()(x), nn.Upsample(scale_factor=2)(x)
    assert torch.equal(mine, theirs)
    pull = torch.randn_like(mine)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, pull)[0] for y in (mine, theirs)))
