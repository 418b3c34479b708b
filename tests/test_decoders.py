"""The composed decoders against counts by hand, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from sbd_utils.experiments import circles
from sbd_utils.metrics.cost import count_parameters, multiply_adds
from sbd_utils.models.decoders import DECODERS, DECONV, SBD, ComposedDecoder, DecoderConfig, builder
from sbd_utils.models.layers import AppendCoordinates
from sbd_utils.models.vae import VAE
from sbd_utils.training.loop import TrainConfig, new_model

STUDIED = dict.fromkeys((*circles.VARIANTS, *circles.PLACES, *circles.APART))


@pytest.mark.parametrize("name", [name for name in STUDIED if name.startswith("sbd")])
def test_a_broadcast_decoder_follows_the_image_size(name):
    small, large = (builder(name)(5, size) for size in (64, 128))
    assert count_parameters(small) == count_parameters(large)
    with torch.no_grad():
        assert small(torch.zeros(1, 5)).shape == (1, 3, 64, 64)
        assert large(torch.zeros(1, 5)).shape == (1, 3, 128, 128)


@pytest.mark.parametrize("name", STUDIED)
def test_every_variant_draws_and_learns(name):
    vae, _ = new_model(TrainConfig(name, compiled=False), 64, torch.device("cpu"))
    reconstruction, kl = vae.loss_terms(torch.rand(2, 3, 64, 64), torch.randn(2, 5))
    (reconstruction + kl).sum().backward()
    assert all(weights.grad.abs().sum() > 0 for weights in vae.parameters())


@pytest.mark.parametrize(
    "name, parameters, work",
    [
        (
            "resize",
            64 * 64 * 9 * 4 + 4 * 64 + 64 * 27 + 3 + 256 * 6,
            5 * 256 + 64 * 64 * 9 * (4**2 + 8**2 + 16**2 + 32**2) + 64 * 27 * 64**2,
        ),
        ("sbd-depth2", 7 * 64 * 9 + 64 + 64 * 27 + 3, (7 * 64 + 64 * 3) * 9 * 64**2),
        ("sbd-no-xy", 42_755 - 2 * 64 * 9, (5 * 64 + 64 * 64 + 64 * 3) * 9 * 64**2),
        (
            "sbd-kernel5",
            (7 * 64 + 64 * 64 + 64 * 3) * 25 + 131,
            (7 * 64 + 64**2 + 192) * 25 * 64**2,
        ),
        ("sbd-unpadded", 42_755, 9 * (7 * 64 * 68**2 + 64 * 64 * 66**2 + 64 * 3 * 64**2)),
        (
            "broadcast8-deconv",
            16 * (7 * 64 + 64 * 64 + 64 * 3) + 131,
            16 * (7 * 64 * 8**2 + 64 * 64 * 16**2 + 64 * 3 * 32**2),
        ),
        ("broadcast16-deconv", 16 * (7 * 64 + 64 * 3) + 67, 16 * (7 * 64 * 16**2 + 64 * 3 * 32**2)),
        (
            "linear16-deconv",
            6 * 64 * 16**2 + 16 * (66 * 64 + 64 * 3) + 67,
            5 * 64 * 16**2 + 16 * (66 * 64 * 16**2 + 64 * 3 * 32**2),
        ),
        (
            "broadcast8-resize",
            9 * (7 * 64 + 64 * 64 + 64 * 3) + 131,
            9 * (7 * 64 * 16**2 + 64 * 64 * 32**2 + 64 * 3 * 64**2),
        ),
        (
            "linear64-width22",
            6 * 22 * 64**2 + 9 * (24 * 22 + 22 * 22 + 22 * 3) + 47,
            5 * 22 * 64**2 + 9 * (24 * 22 + 22 * 22 + 22 * 3) * 64**2,
        ),
        (
            "deconv-kernel5",
            6 * 256 + 25 * (4 * 64 * 64 + 64 * 3) + 259,
            5 * 256 + 25 * (64 * 64 * (2**2 + 4**2 + 8**2 + 16**2) + 64 * 3 * 32**2),
        ),
    ],
)
def test_parameters_and_multiply_adds_by_hand(name, parameters, work):
    decoder = ComposedDecoder(5, 64, DECODERS[name])
    assert count_parameters(decoder) == parameters
    assert multiply_adds(decoder, torch.zeros(1, 5)) == work


def test_matched_variants_match():
    def cost(name):
        decoder = ComposedDecoder(5, 64, DECODERS[name])
        return count_parameters(decoder), multiply_adds(decoder, torch.zeros(1, 5))

    assert cost("deconv-width25")[0] == pytest.approx(cost("sbd")[0], rel=0.03)
    assert cost("sbd-width22")[1] == pytest.approx(cost("deconv")[1], rel=0.03)


def test_coordinates_are_appended_where_the_config_says():
    first, every = (
        [
            layer.in_channels
            for layer in ComposedDecoder(5, 64, replace(SBD, coordinates=where))
            if isinstance(layer, torch.nn.Conv2d)
        ]
        for where in ("first", "every")
    )
    assert first == [7, 64, 64]
    assert every == [7, 66, 66]
    seen = AppendCoordinates()(torch.zeros(2, 1, 64, 64))
    assert seen.shape == (2, 3, 64, 64)
    grid = torch.linspace(-1, 1, 64)
    assert torch.equal(seen[1, 1, 7], grid)
    assert torch.equal(seen[1, 2, :, 7], grid)


def test_an_unpadded_sb_decoder_sees_no_border():
    decoder = ComposedDecoder(5, 64, replace(SBD, padded=False, coordinates="none"))
    picture = decoder(torch.randn(1, 5))
    torch.testing.assert_close(picture, picture[:, :, :1, :1].expand_as(picture))
    padded = ComposedDecoder(5, 64, replace(SBD, coordinates="none"))(torch.randn(1, 5))
    assert not torch.allclose(padded[..., 0], padded[..., 32]), "zero padding tells of the border"


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"start": "tile"}, "start must be one of linear, broadcast, got 'tile'"),
        ({"upsampling": "pixelshuffle"}, "upsampling must be one of deconv, resize, got 'pixel"),
        ({"coordinates": True}, "coordinates must be one of none, first, every, got True"),
        ({"padded": 1}, "padded must be one of True, False, got 1"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"channels": 6.4}, "channels must be a whole number, got 6.4"),
        ({"kernel": 65}, "kernel must fit into 64 pixels, got 65"),
        ({"base_size": 3}, "base_size must lead to 64 by doublings, got 3"),
        ({"base_size": 128}, "base_size must lead to 64 by doublings, got 128"),
        ({"upsampling": "resize"}, "a padded kernel must be odd to keep the size, got 4"),
        ({"base_size": 64}, "a padded kernel must be odd to keep the size, got 4"),
        ({"padded": False}, "padded must be True where 5 doublings set the size"),
    ],
)
def test_impossible_configs_are_refused(wrong, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        ComposedDecoder(5, 64, DecoderConfig(**wrong))


def test_unknown_names_and_what_draws_no_picture_raise():
    for door in (TrainConfig, VAE, builder):
        with pytest.raises(ValueError, match="^decoder must be one of deconv, .*, got 'sbd-wid'"):
            door("sbd-wid")
    with pytest.raises(ValueError, match=r"^what decoder draws must be .* \[2, 3, 64, 64\], got"):
        VAE(lambda latent_dim, image_size: torch.nn.Identity())


def test_defaults_are_the_posts_deconv():
    assert DecoderConfig() == DECONV
    assert DECODERS["deconv"] == DECONV and DECODERS["sbd"] == SBD
