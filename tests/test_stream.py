"""Training on a stream: new images every epoch, and the same ones after a stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sbd_utils.data import dsprites
from sbd_utils.data.sprites import WORLDS
from sbd_utils.experiments.sprites import STUDIED
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.loop import train
from sbd_utils.training.records import run_id
from sbd_utils.training.stream import Stream

WORLD = replace(WORLDS["large"], image_size=32)
STREAM = Stream(WORLD, 20)
CONFIG = TrainConfig("deconv", epochs=3, precision="float32", compiled=False)


class StopTrainingError(Exception):
    pass


def test_every_seed_and_epoch_has_its_own_images_and_always_the_same():
    drawn = {(seed, epoch): STREAM.draw(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert all(images.shape == (20, 3, 32, 32) for images in drawn.values())
    assert all(torch.equal(images, STREAM.draw(*key)) for key, images in drawn.items())
    every = torch.cat(list(drawn.values())).flatten(1)
    assert len(every.unique(dim=0)) == len(every) == 80


def test_an_epoch_is_trained_on_its_own_images(monkeypatch):
    """What training sees is seen through the mean brightness of what each step is given."""
    seen, draw = [], Stream.draw

    def noted(stream, seed, epoch):
        seen.append(epoch)
        return draw(stream, seed, epoch)

    monkeypatch.setattr(Stream, "draw", noted)
    streamed = train(CONFIG, STREAM)
    assert seen == [0, 0, 1, 2]  # the first for its size
    fixed = train(CONFIG, STREAM.draw(0, 0))
    one, other = (run.history.reconstruction for run in (streamed, fixed))
    assert one[0] == other[0] and one[1] != other[1] and one[2] != other[2]


def test_a_stopped_run_goes_on_with_the_images_that_it_would_have_seen(tmp_path):
    whole = train(CONFIG, STREAM)

    def stop(run):
        if len(run.history) == 2:
            raise StopTrainingError

    with pytest.raises(StopTrainingError):
        train(CONFIG, STREAM, tmp_path, stop)
    resumed = train(CONFIG, STREAM, tmp_path)
    assert resumed.history.kl == whole.history.kl
    pairs = zip(resumed.vae.parameters(), whole.vae.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_run_is_named_by_its_world_and_the_length_of_its_epochs():
    worlds = [WORLDS["large"], *(replace(WORLDS[name], image_size=32) for name in STUDIED)]
    streams = [Stream(WORLD, 21), *(Stream(world, 20) for world in worlds)]
    names = {run_id(CONFIG, stream) for stream in streams}
    assert len(names) == len(streams) and run_id(CONFIG, STREAM) in names


def test_the_real_dsprites_stream_as_well_and_are_named_by_their_pixels():
    packed = np.random.default_rng(0).integers(0, 256, (6, 512), dtype=np.uint8)
    factors = {name: np.zeros(6) for name in dsprites.NAMES}
    stream = Stream(dsprites.DSprites(packed, factors), 8)
    assert len(train(replace(CONFIG, epochs=1), stream).history) == 1
    other = Stream(dsprites.DSprites(packed ^ np.uint8(1), factors), 8)
    assert len({run_id(CONFIG, some) for some in (stream, stream, other)}) == 2


@pytest.mark.usefixtures("unenforced_annotations")
def test_equal_streams_have_one_name_and_large_seeds_are_refused():
    assert run_id(CONFIG, Stream(WORLD, np.int64(20))) == run_id(CONFIG, STREAM)
    with pytest.raises(ValueError, match="^a seed of a stream must be a whole number from 0"):
        STREAM.draw(2**32, 0)


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize("wrong", [("large", 20), (WORLD, 0), (WORLD, 2.0)])
def test_what_is_no_world_and_no_number_of_images_is_refused(wrong):
    with pytest.raises(ValueError, match="^(world|count) must be"):
        Stream(*wrong)
