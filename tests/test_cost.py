"""Counts against counts made by hand."""

import pytest
import torch

from sbd_utils.data.circles import make_sprites
from sbd_utils.metrics import cost
from sbd_utils.models.vae import VAE
from sbd_utils.training.loop import TrainConfig


def test_counts_of_one_layer():
    layer = torch.nn.Conv2d(7, 64, kernel_size=3, padding=1)
    assert cost.count_parameters(layer) == 64 * 7 * 9 + 64
    x = torch.zeros(2, 7, 16, 16)
    assert cost.multiply_adds(layer, x) == 2 * 16 * 16 * 64 * 7 * 9


def test_peak_is_what_is_held_at_one_time():
    def allocate():
        first = torch.empty(1000, dtype=torch.uint8)
        second = torch.empty(2000, dtype=torch.uint8)
        del first
        third = torch.empty(500, dtype=torch.uint8)
        return second, third

    assert cost.peak_bytes(allocate) == 3000
    assert cost.peak_bytes(lambda: None) == 0


@pytest.mark.parametrize("decoder", ["sbd", "deconv"])
def test_accumulation_needs_less_memory(decoder):
    images = make_sprites(image_size=32, sizes=(8,), positions=3).images
    resident = cost.resident_bytes(VAE(decoder, image_size=32))
    whole, pieces = (
        cost.step_bytes(
            TrainConfig(
                decoder, precision="float32", compiled=False, gradient_accumulation_steps=n
            ),
            images,
        )
        - resident
        for n in (1, 4)
    )
    assert pieces < 0.7 * whole
