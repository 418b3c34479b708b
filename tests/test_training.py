"""Seeds, checkpoints, kills and resumes: the same weights, bit for bit, or a named error."""

import errno
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from sbd_utils import files
from sbd_utils.models.recipes import RECIPES
from sbd_utils.models.vae import VAE
from sbd_utils.settings import ROOT
from sbd_utils.training import checkpoints, speed
from sbd_utils.training.checkpoints import CheckpointError
from sbd_utils.training.loop import (
    History,
    Run,
    TrainConfig,
    TrainingDivergedError,
    load_or_train,
    progress,
    run_name,
    train,
)
from sbd_utils.worlds.circles import make_sprites

EXACT = {"rtol": 0, "atol": 0}
COMPILES = pytest.mark.skipif(
    not speed.pick_compiled(torch.device("cpu")), reason="torch.compile has no compiler"
)
IMAGES = make_sprites(image_size=32, sizes=(8,), positions=3).images  # 27: steps of 16 and 11
CONFIG = TrainConfig(epochs=4, precision="float32", compiled=False)
SCRIPT = """
import os, signal, sys, time, torch
from pathlib import Path
from sbd_utils.worlds.circles import make_sprites
from sbd_utils.training.loop import TrainConfig, load_or_train, train
torch.set_num_threads(1)
images = make_sprites(image_size=32, sizes=(8,), positions=3).images
config = TrainConfig(epochs=4, precision="float32", compiled=False)
folder = Path(sys.argv[1])
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread_of_the_cpu():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "pick_device", lambda: torch.device("cpu"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of CONFIG and its checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.safetensors"
    return train(CONFIG, IMAGES, path), path


def python(code, *arguments):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, encoding="utf-8", stdout=subprocess.PIPE,
                            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})


def contents(path):
    """A checkpoint without its timings, its name and its machines."""
    tensors, facts = files.read_tensors(path)
    del facts["history"]["seconds"], facts["run"], facts["machines"]
    return tensors | facts


def never(run):
    pytest.fail("it trained")


def curves(run):
    return run.history.reconstruction, run.history.kl


def assert_same(run, other):
    torch.testing.assert_close(run.vae.state_dict(), other.vae.state_dict(), **EXACT)
    assert curves(run) == curves(other)


@pytest.mark.parametrize("changes", [
    {}, {"accumulate": 4}, {"beta": 4.0}, pytest.param({"compiled": True}, marks=COMPILES),
    pytest.param({"compiled": True, "precision": "bfloat16"}, marks=COMPILES),
], ids=str)
def test_training_is_the_plain_loop(changes):
    """Adam on the mean of reconstruction + beta KL; curves are means over images, not batches."""
    run = train(replace(CONFIG, epochs=2, seed=3, **changes), IMAGES)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vae = VAE("sbd", 5, 0.3, 32)
    optimizer = torch.optim.Adam(vae.parameters(), lr=3e-4)
    generator = torch.Generator().manual_seed(3)
    expected = []
    for _ in range(2):
        order = torch.randperm(27, generator=generator)
        noise = torch.randn(27, 5, generator=generator)
        total = 0
        for step in (slice(0, 16), slice(16, 27)):
            terms = torch.stack(vae.loss_terms(IMAGES[order[step]], noise[step]))
            optimizer.zero_grad()
            ((terms[0] + run.config.beta * terms[1]).sum() / terms.shape[1]).backward()
            optimizer.step()
            total = total + terms.detach().sum(dim=1)
        expected.append((total / 27).tolist())
    found = list(zip(*curves(run), strict=True))
    tolerance = 1e-2 if run.config.precision == "bfloat16" else 1e-4
    torch.testing.assert_close(
        torch.tensor(found), torch.tensor(expected), rtol=tolerance, atol=tolerance / 10
    )
    # Where a gradient is all rounding, Adam still takes a whole step: four of 3e-4 at most, in few
    # places where the arithmetic is float32.
    torch.testing.assert_close(run.vae.state_dict(), vae.state_dict(), rtol=0, atol=2.4e-3)
    pairs = zip(run.vae.parameters(), vae.parameters(), strict=True)
    off = max((mine - its).abs().mean().item() for mine, its in pairs)
    assert off < (1e-4 if run.config.precision == "bfloat16" else 1e-6)
    assert not run.vae.training and len(run.history.seconds) == 2 == len(run.history)


@pytest.mark.parametrize("decoder", ["sbd", "deconv"])
def test_seed_alone_decides_and_the_global_random_state_is_untouched(decoder):
    config = replace(CONFIG, decoder=decoder, epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train(config, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert_same(train(config, IMAGES), first)
    other = train(replace(config, seed=1), IMAGES)
    assert not torch.equal(other.vae.encoder.mu.weight, first.vae.encoder.mu.weight)
    assert curves(other) != curves(first)


@pytest.mark.parametrize("precision, compiled", [
    ("float32", False), ("bfloat16", False), pytest.param("bfloat16", True, marks=COMPILES),
])
@pytest.mark.parametrize("decoder", ["sbd", "deconv"])
def test_resumed_run_is_the_uninterrupted_one(decoder, precision, compiled, whole, tmp_path):
    config = replace(CONFIG, decoder=decoder, precision=precision, compiled=compiled)
    once = train(config, IMAGES, tmp_path / "once")
    twice = tmp_path / "twice"
    seen = []

    def stop_after_two(run):
        if len(run.history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, IMAGES, str(twice), stop_after_two)
    assert len(contents(twice)["history"]["kl"]) == 2
    resumed = train(config, IMAGES, twice, lambda run: seen.append(len(run.history)))
    assert seen == [3, 4]
    assert_same(resumed, once)
    assert (curves(once) == curves(whole[0])) == (config == CONFIG), "precision is heeded"
    torch.testing.assert_close(contents(twice), contents(tmp_path / "once"), **EXACT)


def test_finished_run_is_loaded_without_training(tmp_path):
    config = replace(CONFIG, epochs=2)
    seen = []
    first = load_or_train(config, IMAGES, str(tmp_path), seen.append)
    [folder] = tmp_path.iterdir()
    assert folder.name == run_name(config, IMAGES)
    assert len(seen) == 2 and seen[0].config == config
    assert seen[1].vae is first.vae and seen[1].history is first.history, "the run so far"
    assert (folder / "progress.txt").read_bytes() == b"sbd seed 0: epoch 2/2, 0:00 left"
    written = (folder / "checkpoint.safetensors").read_bytes()
    before = torch.get_rng_state()
    again = load_or_train(config, IMAGES, tmp_path, never)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(again, first)
    assert again.history == first.history and not again.vae.training
    assert (folder / "checkpoint.safetensors").read_bytes() == written


def refuses(path, config=CONFIG, images=IMAGES):
    """train raises CheckpointError, names the file and leaves it as it was; returns the message."""
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        train(config, images, path, never)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
    return str(caught.value)


def change(path, good, part, value):
    """Write a checkpoint of which one part is another; its digest is right."""
    tensors, facts = files.read_tensors(good)
    where = tensors if isinstance(value, torch.Tensor) or part in tensors else facts
    where.pop(part, None)
    where |= {} if value is None else {part: value}
    files.write_tensors(path, tensors, facts)


GOOD = {"reconstruction": [1.0] * 4, "kl": [1.0] * 4, "seconds": [1.0] * 4}
WEIGHT = "encoder.mu.weight"  # [5, 256]


@pytest.mark.parametrize("part, value, says", [
    ("format", checkpoints.FORMAT + 1, "format"), ("run", "sbd-seed1-00000000", "belongs to"),
    ("one more", 0, "format"), ("history", None, "format"), ("step", 9, "4 epochs are 8 steps"),
    ("history", {}, "curves"), ("history", dict.fromkeys(GOOD, []), "curves"),
    *(("history", GOOD | {"kl": curve}, "curves") for curve in (
        [1.0] * 3, [1.0] * 5, [1.0] * 3 + [float("nan")], [1.0] * 3 + [-1.0], ["1"] * 4, "1111",
    )),
    ("history", {name: [1.0] * 5 for name in GOOD}, "curves"),
    *(("machines", wrong, "what machines") for wrong in ({}, ["8086"])),
    (f"model/{WEIGHT}", None, "does not fit"), ("model/more", torch.zeros(1), "does not fit"),
    (f"model/{WEIGHT}", torch.full((5, 256), float("nan")), "never leaves"),
    (f"model/{WEIGHT}", torch.zeros(5, 256).half(), "does not fit"),
    (f"exp_avg/{WEIGHT}", torch.zeros(5, 255), "does not fit"),
    (f"exp_avg/{WEIGHT}", None, "does not fit"),
    (f"exp_avg_sq/{WEIGHT}", torch.full((5, 256), -1.0), "never leaves"),
], ids=lambda value: "tensor" if isinstance(value, torch.Tensor) else str(value))
def test_a_checkpoint_that_training_could_not_leave_is_refused(part, value, says, whole, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    change(path, whole[1], part, value)
    assert says in refuses(path)


def test_one_changed_bit_is_refused(whole, tmp_path):
    path, good = tmp_path / "checkpoint.safetensors", whole[1].read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    for count, position in enumerate([*range(8), *range(header, len(good), len(good) // 40)]):
        bad = bytearray(good)
        bad[position] ^= 1 << count % 8
        path.write_bytes(bad)
        refuses(path)


@pytest.mark.parametrize("damage", [
    lambda good: good[: len(good) // 2], lambda good: good[:-1], lambda good: b"",
    lambda good: b"no checkpoint\n" * 99,
], ids=["half", "a byte short", "empty", "garbage"])
def test_damaged_checkpoint_is_refused(damage, whole, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage(whole[1].read_bytes()))
    refuses(path)


@pytest.mark.parametrize("target", ["nowhere", "checkpoint.safetensors"])
def test_a_link_that_leads_nowhere_is_not_trained_over(target, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.symlink_to(target)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        train(CONFIG, IMAGES, path, never)
    assert path.is_symlink()


@pytest.mark.parametrize("config, images", [
    (replace(CONFIG, epochs=5), IMAGES), (CONFIG, IMAGES.flip(0)),
], ids=["config", "images"])
def test_checkpoint_of_another_run_is_refused_by_its_name(config, images, whole):
    message = refuses(whole[1], config, images)
    assert run_name(CONFIG, IMAGES) in message and run_name(config, images) in message


@pytest.mark.parametrize("where", ["os.fsync", "Path.replace"])
def test_kill_in_the_middle_of_a_save_loses_one_epoch_only(where, whole, tmp_path):
    kill = SCRIPT + """
module, name = sys.argv[2].split(".")
calls, real = [], getattr(globals()[module], name)
def torn(source, *target):
    calls.append(1)
    if len(calls) == 3:
        if name == "fsync":
            os.truncate(source, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(source, *target)
setattr(globals()[module], name, torn)
train(config, images, folder / "checkpoint.safetensors")
"""
    process = python(kill, tmp_path, where)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    path, seen = tmp_path / "checkpoint.safetensors", []
    assert len(contents(path)["history"]["kl"]) == 2
    run = train(CONFIG, IMAGES, path, lambda run: seen.append(len(run.history)))
    assert seen == [3, 4]
    assert_same(run, whole[0])
    torch.testing.assert_close(contents(path), contents(whole[1]), **EXACT)


def test_second_process_waits_and_then_loads(whole, tmp_path):
    process = python(SCRIPT + """
def reporter(run):
    print(len(run.history), flush=True)
    time.sleep(0.3)
load_or_train(config, images, folder, reporter)
""", tmp_path)
    assert process.stdout.readline() == "1\n"
    assert_same(load_or_train(CONFIG, IMAGES, tmp_path, never), whole[0])
    assert process.communicate()[0] == "2\n3\n4\n"


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint_whole(whole, tmp_path, monkeypatch):
    path, calls, real = tmp_path / "checkpoint.safetensors", [], os.fsync

    def full(file):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left .* was not written; the file of before is as"):
        train(CONFIG, IMAGES, path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [path.name] and len(contents(path)["history"]["kl"]) == 2
    assert_same(train(CONFIG, IMAGES, path), whole[0])


def test_a_finished_run_is_read_where_nothing_can_be_written(whole, tmp_path, monkeypatch):
    folder = tmp_path / run_name(CONFIG, IMAGES)
    folder.mkdir()
    (folder / "checkpoint.safetensors").write_bytes(whole[1].read_bytes())
    monkeypatch.setattr(files, "lock", lambda path: pytest.fail("it takes a lock"))
    monkeypatch.setattr("pathlib.Path.mkdir", lambda *args, **kw: pytest.fail("it makes a folder"))
    assert_same(load_or_train(CONFIG, IMAGES, tmp_path, never), whole[0])


@pytest.mark.parametrize("told", [True, False])
def test_a_run_says_on_what_machines_it_was_trained(told, whole, tmp_path, monkeypatch):
    config, path = replace(CONFIG, epochs=1), tmp_path / "checkpoint.safetensors"
    first = train(config, IMAGES, path)
    assert first.machines == [speed.machine()]
    tensors, facts = files.read_tensors(path)
    if not told:  # as in a checkpoint of an earlier version
        del facts["machines"]
    longer = replace(config, epochs=3)
    files.write_tensors(path, tensors, facts | {"run": run_name(longer, IMAGES)})
    here = speed.machine()
    monkeypatch.setattr(speed, "cpu_name", lambda: "8086")
    seen = []
    train(longer, IMAGES, path, lambda run: seen.append(list(run.machines)))
    wanted = [here, here | {"cpu": "8086"}] if told else []
    assert seen == [wanted] * 2 and train(longer, IMAGES, path, never).machines == wanted


def test_the_same_run_in_another_precision_is_told_of(tmp_path, caplog):
    config = replace(CONFIG, epochs=1)
    load_or_train(config, IMAGES, tmp_path)
    assert not caplog.records
    load_or_train(replace(config, precision="bfloat16"), IMAGES, tmp_path)
    [record] = caplog.records
    assert run_name(config, IMAGES) in record.getMessage()
    assert "1 epochs of this run with precision='float32', compiled=False" in record.getMessage()
    load_or_train(replace(config, precision="bfloat16"), IMAGES, tmp_path, never)
    load_or_train(replace(config, seed=1), IMAGES, tmp_path)
    assert len(caplog.records) == 1, "neither the run itself nor another one"


def test_what_does_not_compile_is_trained_eagerly(monkeypatch, caplog, whole):
    def broken(loss_terms, **options):
        def compiled(x, noise):
            raise RuntimeError("no compiler\nand thousands of lines")
        return compiled

    monkeypatch.setattr(torch, "compile", broken)
    assert_same(train(replace(CONFIG, compiled=True), IMAGES), whole[0])
    [record] = caplog.records
    assert record.getMessage() == "training runs eagerly, slower: RuntimeError: no compiler"


@pytest.mark.parametrize("changes, message", [
    ({"learning_rate": 1e30}, "epoch 1, step 2; no epoch was whole .*learning_rate than 1e.30"),
    # The only step's loss is finite, the weights that it leaves are not: 1e39 is inf as float32.
    ({"learning_rate": 1e39, "batch_size": 27}, "epoch 1 left weights that are not finite"),
], ids=["loss", "weights"])
def test_divergence_is_named_and_nothing_bad_is_saved(changes, message, tmp_path):
    with pytest.raises(TrainingDivergedError, match=message):
        train(replace(CONFIG, **changes), IMAGES, tmp_path / "checkpoint.safetensors")
    assert os.listdir(tmp_path) == []


def test_divergence_keeps_the_last_good_checkpoint(whole, tmp_path, monkeypatch):
    path, calls, terms = tmp_path / "checkpoint.safetensors", [], VAE.loss_terms

    def poisoned(vae, x, noise):
        reconstruction, kl = terms(vae, x, noise)
        calls.append(1)
        return reconstruction, kl * float("nan") if len(calls) == 6 else kl  # two steps an epoch

    monkeypatch.setattr(VAE, "loss_terms", poisoned)
    with pytest.raises(TrainingDivergedError, match="3, step 2; the checkpoint of epoch 2"):
        train(CONFIG, IMAGES, path)
    monkeypatch.undo()
    assert len(contents(path)["history"]["kl"]) == 2
    assert_same(train(CONFIG, IMAGES, path), whole[0])


@pytest.mark.parametrize("name, value", [
    ("decoder", "conv"), ("decoder", None), ("precision", "float16"), ("seed", -1), ("seed", 0.5),
    ("epochs", 0), ("epochs", "3"), ("batch_size", 0), ("batch_size", 16.0), ("latent_dim", 0),
    ("learning_rate", 0), ("learning_rate", float("nan")), ("learning_rate", "3e-4"),
    ("accumulate", 0), ("accumulate", 3), ("compiled", "yes"),
    ("decoder_variance", 0.0), ("decoder_variance", float("inf")), ("decoder_variance", None),
    ("beta", 0.0), ("epochs", True), ("beta", True), ("compiled", 1),
])
def test_config_names_the_bad_argument(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        TrainConfig(**{name: value})


def test_config_defaults_are_the_posts_and_numpy_numbers_are_the_same_config():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (150, 16, 3e-4)
    assert (config.latent_dim, config.decoder_variance) == (5, 0.3)
    config = replace(CONFIG, seed=np.int64(0), learning_rate=np.float64(3e-4))
    assert type(config.seed) is int and type(config.learning_rate) is float
    assert run_name(config, IMAGES) == run_name(CONFIG, IMAGES)


@pytest.mark.parametrize("door", [train, load_or_train])
@pytest.mark.parametrize("bad, named", [
    (IMAGES[0], "images"), (IMAGES[:0], "images"), (IMAGES * 255, "images"),
    (torch.tensor(0.5), "images"), (IMAGES.numpy(), "images"), (None, "images"),
    (torch.zeros(1, 3, 48, 48), "image_size"),
], ids=["rank", "empty", "255", "scalar", "array", "None", "48 pixels"])
def test_bad_images_are_refused(door, bad, named, tmp_path):
    with pytest.raises(ValueError, match=f"^{named} must"):
        door(CONFIG, bad, tmp_path / "here")
    assert not list(tmp_path.rglob("*.safetensors*")) and not (tmp_path / "here").is_file()


@pytest.mark.parametrize("seconds, expected", [
    ([100.0] * 5 + [2.0] * 10, "sbd seed 7: epoch 15/150, 4:30 left"),
    ([0.4], "sbd seed 7: epoch 1/150, 1:00 left"),
])
def test_progress_uses_the_last_ten_epochs(seconds, expected):
    history = History([0.0] * len(seconds), [0.0] * len(seconds), seconds)
    assert progress(Run(TrainConfig(seed=7), None, history)) == expected


def test_run_name_changes_with_every_setting_the_recipe_and_the_images(monkeypatch):
    changes = {
        "decoder": "deconv", "seed": 1, "epochs": 5, "batch_size": 18, "learning_rate": 3.1e-4,
        "latent_dim": 6, "decoder_variance": 0.31, "accumulate": 2, "precision": "bfloat16",
        "compiled": True, "beta": 2.0,
    }
    assert set(changes) == {field.name for field in fields(TrainConfig)}
    pixel = IMAGES.clone()
    pixel[26, 2, 31, 31] = 1 / 255
    names = [run_name(CONFIG, other) for other in (IMAGES, pixel, IMAGES.flip(0))]
    names += [run_name(replace(CONFIG, **{name: value}), IMAGES) for name, value in changes.items()]
    assert len({name.split("-")[-1] for name in names}) == 14
    assert run_name(CONFIG, IMAGES.clone()) == names[0] and names[0].startswith("sbd-seed0-")
    monkeypatch.setitem(RECIPES, "sbd", replace(RECIPES["sbd"], depth=4))
    assert run_name(CONFIG, IMAGES) not in names
