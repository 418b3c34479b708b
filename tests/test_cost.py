"""Counts against counts made by hand."""

import pytest
import torch

from sbd_utils import cost
from sbd_utils.data import make_sprites
from sbd_utils.training import TrainConfig, batches, new_model, new_step


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
    peaks = []
    for accumulate in (1, 4):
        config = TrainConfig(decoder, precision="float32", compiled=False, accumulate=accumulate)
        vae, optimizer = new_model(config, 32, torch.device("cpu"))
        step = new_step(config, vae, optimizer, images)
        batch = next(batches(27, config, torch.Generator(), torch.device("cpu")))
        step(*batch)
        optimizer.zero_grad()
        peaks.append(cost.peak_bytes(step, *batch))
    assert peaks[1] < 0.7 * peaks[0]
