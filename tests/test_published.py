"""Published weights come back as they went, or not at all."""

import json
import os
from dataclasses import asdict
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from sbd_utils.settings import TRAINING
from sbd_utils.studies.publish import SHOWN
from sbd_utils.studies.sprites import FEWER
from sbd_utils.training import published
from sbd_utils.training.loop import History, TrainConfig, load_or_train, train
from sbd_utils.training.published import PublishedError
from sbd_utils.worlds.circles import make_sprites

EXACT = {"rtol": 0, "atol": 0}
EAGER = {"epochs": 1, "precision": "float32", "compiled": False}
IMAGES = make_sprites(image_size=32, sizes=(8,), positions=2).images  # 12
LATTICE = torch.linspace(-3, 3, 90).reshape(2, 3, 3, 5)
PROVENANCE = {"cpu": "8086", "threads": 1}
COMMITTED = sorted(path.stem for path in published.FOLDER.glob("*.safetensors"))


@pytest.fixture(scope="module")
def trained():
    return {name: train(TrainConfig(name, seed=4, learning_rate=1e-3, **EAGER), IMAGES)
            for name in published.DECODERS}


@pytest.fixture
def folder(tmp_path, monkeypatch, trained):
    """results/published/ with a run of each decoder."""
    monkeypatch.setattr(published, "FOLDER", tmp_path / "published")
    for name, run in trained.items():
        published.save(name, run, PROVENANCE, LATTICE if name == "sbd" else None)
    return tmp_path / "published"


def assert_same(run, other):
    assert run.config == other.config and run.history == other.history
    assert run.vae.image_size == other.vae.image_size
    assert run.vae.decoder_variance == other.vae.decoder_variance
    torch.testing.assert_close(run.vae.state_dict(), other.vae.state_dict(), **EXACT)
    assert not run.vae.training and not other.vae.training


@pytest.mark.parametrize("name", published.DECODERS)
def test_what_is_loaded_is_what_half_gives(name, folder, trained):
    whole, rounded, loaded = trained[name], published.half(trained[name]), published.load(name)
    assert_same(loaded, rounded)
    assert loaded.config == whole.config and loaded.history == whole.history
    weights, exact = loaded.vae.state_dict(), whole.vae.state_dict()
    assert all(value.dtype == torch.float32 for value in weights.values())
    # Half a unit in the last place of 11 bits, or of the smallest number that 16 bits hold.
    torch.testing.assert_close(weights, exact, rtol=2**-11, atol=2**-25)
    assert any(not torch.equal(weights[key], exact[key]) for key in exact), "16 bits are fewer"
    assert_same(published.half(loaded), loaded)


def test_a_run_of_other_settings_comes_back_with_them(folder):
    config = TrainConfig("sbd-depth2", latent_dim=3, decoder_variance=0.7, beta=2.0, **EAGER)
    run = train(config, IMAGES)
    published.save("other", run, {})
    assert_same(published.load("other"), published.half(run))


def test_the_lattice_is_no_weight_and_the_facts_are_told(folder, trained):
    tensors, facts = published.read("sbd")
    torch.testing.assert_close(tensors.pop(published.LATTICE), LATTICE.half(), **EXACT)
    assert set(tensors) == set(trained["sbd"].vae.state_dict())
    assert published.LATTICE not in published.load("sbd").vae.state_dict()
    assert facts["provenance"] == PROVENANCE and facts["image_size"] == 32
    assert facts["config"] == asdict(trained["sbd"].config)
    assert History(**facts["history"]) == trained["sbd"].history
    assert published.LATTICE not in published.read("deconv")[0]


def test_an_unknown_name_is_told_which_there_are(folder):
    with pytest.raises(PublishedError, match="^name must be one of deconv, sbd, got 'sbd-mixing'"):
        published.load("sbd-mixing")


def test_one_changed_bit_is_refused_or_changes_nothing_that_is_read(folder):
    path = folder / "sbd.safetensors"
    good, expected = path.read_bytes(), published.read("sbd")
    header = 8 + int.from_bytes(good[:8], "little")
    positions = [*range(16), *range(16, header, 7), *range(header, len(good), len(good) // 60),
                 len(good) - 1]
    assert len(positions) > 350
    refused = 0
    for count, position in enumerate(positions):
        bad = bytearray(good)
        bad[position] ^= 1 << count % 8
        path.write_bytes(bad)
        try:
            found = published.read("sbd")
        except PublishedError as error:
            assert str(path) in str(error) and "take it from git again" in str(error)
            refused += 1
        else:
            torch.testing.assert_close(found[0], expected[0], **EXACT)
            assert found[1] == expected[1]
    assert refused > 0.9 * len(positions)


@pytest.mark.parametrize("damage", [
    lambda good: b"", lambda good: good[:-1], lambda good: good[: len(good) // 2],
    lambda good: good + b"\0", lambda good: b"no weights\n" * 99,
], ids=["empty", "a byte short", "half", "a byte more", "garbage"])
def test_a_damaged_file_is_refused(damage, folder):
    path = folder / "sbd.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PublishedError, match="take it from git again"):
        published.load("sbd")


@pytest.mark.parametrize("metadata", [None, {}, {"digest": "0"}, {"config": json.dumps({})}])
def test_weights_without_their_digest_are_refused(metadata, folder, trained):
    weights = {name: value.half().contiguous()
               for name, value in trained["sbd"].vae.state_dict().items()}
    save_file(weights, folder / "bare.safetensors", metadata)
    with pytest.raises(PublishedError, match="not as it was written"):
        published.load("bare")


@pytest.mark.parametrize("preset", ["published", None])
def test_runs_are_the_published_ones_and_nothing_is_trained(preset, folder, monkeypatch):
    monkeypatch.delenv("SBD_PRESET", raising=False)
    if preset:
        monkeypatch.setenv("SBD_PRESET", preset)
    monkeypatch.setattr(published, "load_or_train", lambda *args: pytest.fail("it trained"))
    found = published.runs(IMAGES)
    assert list(found) == ["deconv", "sbd"]
    for name, run in found.items():
        assert_same(run, published.load(name))


def test_under_a_preset_that_trains_both_are_trained_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SBD_PRESET", "quick")
    monkeypatch.setitem(TRAINING, "quick", EAGER | {"learning_rate": 2e-3})
    monkeypatch.setattr(published, "load_or_train", partial(load_or_train, runs=tmp_path))
    found = published.runs(IMAGES)
    assert {name: run.config for name, run in found.items()} == {
        name: TrainConfig(name, learning_rate=2e-3, **EAGER) for name in ("deconv", "sbd")
    }
    assert len(os.listdir(tmp_path)) == 2
    for name, run in published.runs(IMAGES).items():
        assert_same(run, found[name])


def test_the_committed_runs_are_whole_and_small():
    pairs = {f"{world}-{decoder}" for world in SHOWN for decoder in published.DECODERS}
    assert set(COMMITTED) == {"deconv", "sbd", "sbd-mixing"} | pairs
    for name in COMMITTED:
        run = published.load(name)
        world, _, decoder = name.removesuffix("-mixing").rpartition("-")
        assert run.config.decoder == decoder
        assert len(run.history) == run.config.epochs == FEWER.get(
            world, TRAINING["blog"]["epochs"])
        assert {"cpu", "torch", "threads"} <= set(published.read(name)[1]["provenance"])
    size = sum(path.stat().st_size for path in published.FOLDER.glob("*.safetensors"))
    assert size < 12e6
