"""The composed decoders against the two of the post, against counts by hand, and at the door."""

from dataclasses import replace

import pytest
import torch

from sbd_utils import variants
from sbd_utils.cost import count_parameters, multiply_adds
from sbd_utils.models import DECODERS, VAE
from sbd_utils.training import TrainConfig, new_model
from sbd_utils.variants import DECONV, RECIPES, SBD, ComposedDecoder, Recipe

GRID = torch.linspace(-1, 1, 64)


@pytest.mark.parametrize("name", ["deconv", "sbd"])
def test_the_recipes_of_the_two_decoders_are_the_two_decoders(name):
    torch.manual_seed(0)
    ours = ComposedDecoder(5, 64, RECIPES[name])
    torch.manual_seed(0)
    theirs = DECODERS[name](5, 64)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its)
    z = torch.randn(3, 5)
    assert torch.equal(ours(z), theirs(z))
    assert variants.builder(name) is DECODERS[name]


@pytest.mark.parametrize("name", RECIPES)
def test_every_variant_draws_and_learns(name):
    vae, _ = new_model(TrainConfig(name, compiled=False), 64, torch.device("cpu"))
    reconstruction, kl = vae.loss_terms(torch.rand(2, 3, 64, 64), torch.randn(2, 5))
    (reconstruction + kl).sum().backward()
    assert all(weights.grad.abs().sum() > 0 for weights in vae.parameters())


@pytest.mark.parametrize("name, parameters, work", [
    ("resize", 64 * 64 * 9 * 4 + 4 * 64 + 64 * 27 + 3 + 256 * 6,
     5 * 256 + 64 * 64 * 9 * (4**2 + 8**2 + 16**2 + 32**2) + 64 * 27 * 64**2),
    ("sbd-depth2", 7 * 64 * 9 + 64 + 64 * 27 + 3, (7 * 64 + 64 * 3) * 9 * 64**2),
    ("sbd-no-xy", 42_755 - 2 * 64 * 9, (5 * 64 + 64 * 64 + 64 * 3) * 9 * 64**2),
    ("sbd-kernel5", (7 * 64 + 64 * 64 + 64 * 3) * 25 + 131, (7 * 64 + 64**2 + 192) * 25 * 64**2),
    ("sbd-unpadded", 42_755, 9 * (7 * 64 * 68**2 + 64 * 64 * 66**2 + 64 * 3 * 64**2)),
    ("broadcast8-deconv", 16 * (7 * 64 + 64 * 64 + 64 * 3) + 131,
     16 * (7 * 64 * 8**2 + 64 * 64 * 16**2 + 64 * 3 * 32**2)),
    ("broadcast16-deconv", 16 * (7 * 64 + 64 * 3) + 67, 16 * (7 * 64 * 16**2 + 64 * 3 * 32**2)),
    ("linear16-deconv", 6 * 64 * 16**2 + 16 * (66 * 64 + 64 * 3) + 67,
     5 * 64 * 16**2 + 16 * (66 * 64 * 16**2 + 64 * 3 * 32**2)),
])
def test_parameters_and_multiply_adds_by_hand(name, parameters, work):
    decoder = ComposedDecoder(5, 64, RECIPES[name])
    assert count_parameters(decoder) == parameters
    assert multiply_adds(decoder, torch.zeros(1, 5)) == work


def test_matched_variants_match():
    def cost(name):
        decoder = ComposedDecoder(5, 64, RECIPES[name])
        return count_parameters(decoder), multiply_adds(decoder, torch.zeros(1, 5))

    assert cost("deconv-width25")[0] == pytest.approx(cost("sbd")[0], rel=0.03)
    assert cost("sbd-width22")[1] == pytest.approx(cost("deconv")[1], rel=0.03)


def test_coordinates_are_appended_where_the_recipe_says():
    first, every = (
        [layer.in_channels for layer in ComposedDecoder(5, 64, replace(SBD, coordinates=where))
         if isinstance(layer, torch.nn.Conv2d)] for where in ("first", "every"))
    assert first == [7, 64, 64]
    assert every == [7, 66, 66]
    seen = variants.AppendCoordinates()(torch.zeros(2, 1, 64, 64))
    assert seen.shape == (2, 3, 64, 64)
    assert torch.equal(seen[1, 1, 7], GRID)
    assert torch.equal(seen[1, 2, :, 7], GRID)


def test_an_unpadded_sb_decoder_sees_no_border():
    decoder = ComposedDecoder(5, 64, replace(SBD, padded=False, coordinates="none"))
    picture = decoder(torch.randn(1, 5))
    torch.testing.assert_close(picture, picture[:, :, :1, :1].expand_as(picture))
    padded = ComposedDecoder(5, 64, replace(SBD, coordinates="none"))(torch.randn(1, 5))
    assert not torch.allclose(padded[..., 0], padded[..., 32]), "zero padding tells of the border"


@pytest.mark.parametrize("wrong, says", [
    ({"start": "tile"}, "^start must be one of linear, broadcast, got 'tile'"),
    ({"up": "pixelshuffle"}, "^up must be one of deconv, resize, got 'pixelshuffle'"),
    ({"coordinates": True}, "^coordinates must be one of none, first, every, got True"),
    ({"depth": 0}, "^depth must be a whole number of at least 1, got 0"),
    ({"width": 6.4}, "^width must be a whole number of at least 1, got 6.4"),
    ({"kernel": 65}, "^kernel must fit into 64 pixels, got 65"),
    ({"side": 3}, "^side must lead to 64 by doublings, got 3"),
    ({"side": 128}, "^side must lead to 64 by doublings, got 128"),
    ({"up": "resize"}, "^a padded kernel must be odd to keep the size, got 4"),
    ({"padded": False}, "^padded must be True where 5 doublings set the size"),
    ({"side": 64}, "^a padded kernel must be odd to keep the size, got 4"),
])
def test_wrong_recipes_raise(wrong, says):
    with pytest.raises(ValueError, match=says):
        ComposedDecoder(5, 64, Recipe(**wrong))


def test_unknown_variants_raise():
    with pytest.raises(ValueError, match="^decoder must be one of deconv, .*, got 'sbd-width17'"):
        TrainConfig("sbd-width17")
    with pytest.raises(ValueError, match="^decoder must be one of sbd, deconv, got 'resize'"):
        VAE("resize")
    with pytest.raises(ValueError, match=r"^decoder must draw \[batch, 3, 64, 64\], got"):
        VAE(lambda latent_dim, image_size: torch.nn.Identity())


def test_defaults_are_the_posts_deconv():
    assert Recipe() == DECONV
