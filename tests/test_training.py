"""Seeds, checkpoints, kills and resumes: the same weights, bit for bit, or a named error."""

import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sbd_utils import training
from sbd_utils.data import make_sprites
from sbd_utils.models import VAE
from sbd_utils.training import (
    FORMAT,
    CheckpointError,
    History,
    TrainConfig,
    TrainingDivergedError,
    load_or_train,
    progress,
    run_name,
    train,
)

EXACT = {"rtol": 0, "atol": 0}
IMAGES = make_sprites(image_size=32, sizes=(8,), positions=3).images  # 27: steps of 16 and 11
CONFIG = TrainConfig(epochs=4, precision="float32")
SCRIPT = """
import io, os, signal, sys, time, torch
from pathlib import Path
from sbd_utils.data import make_sprites
from sbd_utils.training import TrainConfig, load_or_train, train
torch.set_num_threads(1)
images = make_sprites(image_size=32, sizes=(8,), positions=3).images
config, folder = TrainConfig(epochs=4, precision="float32"), Path(sys.argv[1])
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(one_thread, tmp_path_factory):
    """An uninterrupted run of CONFIG and its checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.pt"
    return train(CONFIG, IMAGES, path), path


def python(code, *arguments, **options):
    root = Path(training.__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], text=True,
        env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, **options,
    )


def contents(path):
    """A checkpoint without its timings."""
    state = torch.load(path, weights_only=True)
    del state["history"]["seconds"], state["config"]
    return state


def stop_after(epochs):
    def reporter(config, history):
        if len(history) == epochs:
            raise KeyboardInterrupt
    return reporter


def curves(run):
    return run.history.reconstruction, run.history.kl


def assert_same(run, other):
    torch.testing.assert_close(run.vae.state_dict(), other.vae.state_dict(), **EXACT)
    assert curves(run) == curves(other)


def test_training_is_the_plain_loop():
    """Adam on the mean of reconstruction + KL; the curves are means over images, not batches."""
    config = replace(CONFIG, epochs=2, seed=3)
    run = train(config, IMAGES)
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
            (terms.sum() / terms.shape[1]).backward()
            optimizer.step()
            total = total + terms.detach().sum(dim=1)
        expected.append((total / 27).tolist())
    found = list(zip(*curves(run), strict=True))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.vae.state_dict(), vae.state_dict(), rtol=0, atol=1e-4)
    assert not run.vae.training and len(run.history.seconds) == 2 == len(run.history)


@pytest.mark.parametrize("decoder", ["sbd", "deconv"])
def test_seed_alone_decides(decoder):
    config = replace(CONFIG, decoder=decoder, epochs=2)
    torch.manual_seed(1)
    first = train(config, IMAGES)
    torch.manual_seed(2)
    assert_same(train(config, IMAGES), first)
    other = train(replace(config, seed=1), IMAGES)
    assert not torch.equal(other.vae.encoder.mu.weight, first.vae.encoder.mu.weight)
    assert curves(other) != curves(first)


def test_global_random_state_is_untouched(tmp_path):
    config = replace(CONFIG, epochs=1)
    before = torch.get_rng_state()
    train(config, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    load_or_train(config, IMAGES, tmp_path)
    load_or_train(config, IMAGES, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("decoder", ["sbd", "deconv"])
def test_resumed_run_is_the_uninterrupted_one(decoder, precision, tmp_path):
    config = replace(CONFIG, decoder=decoder, precision=precision)
    once = train(config, IMAGES, tmp_path / "once.pt")
    twice = tmp_path / "twice.pt"
    with pytest.raises(KeyboardInterrupt):
        train(config, IMAGES, twice, stop_after(2))
    assert len(contents(twice)["history"]["kl"]) == 2
    seen = []
    resumed = train(config, IMAGES, twice, lambda config, history: seen.append(len(history)))
    assert seen == [3, 4]
    assert_same(resumed, once)
    assert len(contents(twice)["optimizer"]["state"]) == len(list(once.vae.parameters()))
    torch.testing.assert_close(contents(twice), contents(tmp_path / "once.pt"), **EXACT)


def test_precision_is_heeded(whole):
    assert curves(train(replace(CONFIG, precision="bfloat16"), IMAGES)) != curves(whole[0])


def test_finished_run_is_loaded_without_training(tmp_path):
    config = replace(CONFIG, epochs=2)
    seen = []
    first = load_or_train(config, IMAGES, tmp_path, lambda *args: seen.append(args))
    [folder] = tmp_path.iterdir()
    assert len(seen) == 2 and seen[0][0] == config and folder.name == run_name(config, IMAGES)
    assert (folder / "progress.txt").read_text() == "sbd seed 0: epoch 2/2, 0:00 left"
    written = (folder / "checkpoint.pt").read_bytes()
    again = load_or_train(config, IMAGES, tmp_path, lambda *args: pytest.fail("it trained again"))
    assert_same(again, first)
    assert again.history == first.history and not again.vae.training
    assert (folder / "checkpoint.pt").read_bytes() == written


class Code:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("damage", [
    lambda state: {**state, "format": FORMAT + 1},
    lambda state: {**state, "config": {**state["config"], "seed": 1}},
    lambda state: {**state, "model": dict(list(state["model"].items())[1:])},
    lambda state: {**state, "generator": torch.zeros(3, dtype=torch.uint8)},
    lambda state: {**state, "optimizer": {"state": {}, "param_groups": []}},
    lambda state: {**state, "history": {**state["history"], "kl": []}},
    lambda state: {**state, "history": dict.fromkeys(state["history"], [1.0] * 5)},
    lambda state: {name: part for name, part in state.items() if name != "optimizer"},
    lambda state: {"weight": torch.ones(3)}, lambda state: {"format": torch.ones(3)},
    lambda state: [1, 2], lambda state: torch.ones(3),
], ids=["format", "config", "model", "generator", "optimizer", "history", "too many epochs",
        "a part missing", "foreign dict", "foreign format", "foreign list",
        "foreign tensor"])
def test_foreign_checkpoint_is_refused(damage, whole, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save(damage(torch.load(whole[1], weights_only=True)), path)
    refuses(path)


@pytest.mark.parametrize("damage", [
    lambda good: good[: len(good) // 2], lambda good: good[:-1], lambda good: b"",
    lambda good: b"no checkpoint\n" * 99, lambda good: good[1000:], lambda good: b"\x80\x02.",
], ids=["half", "a byte short", "empty", "garbage", "no head", "bare pickle"])
def test_damaged_checkpoint_is_refused(damage, whole, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage(whole[1].read_bytes()))
    refuses(path)


def test_checkpoint_with_code_is_refused_and_not_run(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": FORMAT, "model": Code(tmp_path / "ran")}, path)
    refuses(path)
    assert not (tmp_path / "ran").exists()


def refuses(path):
    """train raises CheckpointError, names the file and leaves it as it was."""
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        train(CONFIG, IMAGES, path, lambda *args: pytest.fail("it trained"))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_checkpoint_of_another_config_is_refused(whole):
    with pytest.raises(CheckpointError, match="another run"):
        train(replace(CONFIG, epochs=5), IMAGES, whole[1], stop_after(5))


@pytest.mark.parametrize("where", ["torch.save", "os.replace"])
def test_kill_in_the_middle_of_a_save_loses_one_epoch_only(where, whole, tmp_path):
    kill = SCRIPT + """
calls, save, swap = [], torch.save, os.replace
def die(): os.kill(os.getpid(), signal.SIGKILL)
def torn_save(state, file):
    calls.append(file)
    if len(calls) < 3:
        return save(state, file)
    save(state, buffer := io.BytesIO())
    file.write(buffer.getvalue()[: buffer.tell() // 2])
    file.flush()
    die()
def torn_swap(source, target):
    calls.append(target)
    die() if len(calls) == 3 else swap(source, target)
if sys.argv[2] == "torch.save":
    torch.save = torn_save
else:
    os.replace = torn_swap
train(config, images, folder / "checkpoint.pt")
"""
    process = python(kill, tmp_path, where)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    path, seen = tmp_path / "checkpoint.pt", []
    assert len(contents(path)["history"]["kl"]) == 2
    run = train(CONFIG, IMAGES, path, lambda config, history: seen.append(len(history)))
    assert seen == [3, 4]
    assert_same(run, whole[0])
    torch.testing.assert_close(contents(path), contents(whole[1]), **EXACT)


def test_two_processes_train_a_run_once(whole, tmp_path):
    code = SCRIPT + """
calls = []
def reporter(config, history):
    calls.append(len(history))
    time.sleep(0.2)  # long enough for the other one to come by
print("ready", flush=True)
input()
run = load_or_train(config, images, folder / "runs", reporter)
torch.save([run.vae.state_dict(), run.history.kl], folder / sys.argv[2])
print(len(calls))
"""
    pair = [python(code, tmp_path, name, stdin=subprocess.PIPE) for name in ("a.pt", "b.pt")]
    assert [process.stdout.readline() for process in pair] == ["ready\n"] * 2
    for process in pair:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.communicate(timeout=60)[0] for process in pair) == ["0\n", "4\n"]
    expected = [whole[0].vae.state_dict(), whole[0].history.kl]
    for name in ("a.pt", "b.pt"):
        torch.testing.assert_close(torch.load(tmp_path / name), expected, **EXACT)


def test_divergence_is_named_and_nothing_bad_is_saved(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(TrainingDivergedError, match="epoch 1, step 2;.*learning_rate than 1e.30"):
        train(replace(CONFIG, learning_rate=1e30), IMAGES, path)
    assert os.listdir(tmp_path) == []


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    """The only step's loss is finite, the weights that it leaves are not."""
    config = replace(CONFIG, epochs=1, batch_size=27, learning_rate=1e39)  # inf as float32
    with pytest.raises(TrainingDivergedError, match="epoch 1"):
        train(config, IMAGES, tmp_path / "checkpoint.pt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_keeps_the_last_good_checkpoint(bad, whole, tmp_path, monkeypatch):
    path, calls, terms = tmp_path / "checkpoint.pt", [], VAE.loss_terms

    def poisoned(vae, x, noise):
        reconstruction, kl = terms(vae, x, noise)
        calls.append(1)
        return reconstruction, kl * bad if len(calls) == 6 else kl  # two steps an epoch

    with monkeypatch.context() as patch, pytest.raises(TrainingDivergedError, match=r"3, step 2\b"):
        patch.setattr(VAE, "loss_terms", poisoned)
        train(CONFIG, IMAGES, path)
    assert len(contents(path)["history"]["kl"]) == 2
    assert_same(train(CONFIG, IMAGES, path), whole[0])


@pytest.mark.parametrize("name, value", [
    ("decoder", "conv"), ("decoder", None), ("precision", "float16"), ("precision", None),
    ("seed", -1), ("seed", 0.5), ("seed", None), ("epochs", 0), ("epochs", "3"), ("epochs", 2.0),
    ("batch_size", 0), ("batch_size", 16.0), ("latent_dim", 0), ("latent_dim", 5.0),
    ("learning_rate", 0), ("learning_rate", -1e-3), ("learning_rate", float("nan")),
    ("learning_rate", float("inf")), ("learning_rate", "3e-4"), ("decoder_variance", 0.0),
    ("decoder_variance", float("nan")), ("decoder_variance", float("inf")),
    ("decoder_variance", None),
])
def test_config_names_the_bad_argument(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("name, value", [
    ("seed", np.int64(1)), ("learning_rate", np.float64(1e-3)), ("learning_rate", np.float32(1e-3)),
])
def test_numpy_numbers_are_refused_at_once_or_work_to_the_end(name, value, tmp_path):
    try:
        config = replace(CONFIG, epochs=1, **{name: value})
    except ValueError as error:
        assert str(error).startswith(f"{name} must")
    else:
        first = load_or_train(config, IMAGES, tmp_path)
        assert_same(load_or_train(config, IMAGES, tmp_path), first)


def test_config_defaults_are_the_posts():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (150, 16, 3e-4)
    assert (config.latent_dim, config.decoder_variance) == (5, 0.3)


@pytest.mark.parametrize("door", [train, load_or_train])
@pytest.mark.parametrize("bad", [
    IMAGES[0], IMAGES[:0], IMAGES[:, :1], IMAGES[:, :, :16], IMAGES.double(), IMAGES * 255,
    IMAGES - 1, IMAGES * float("nan"), torch.tensor(0.5), IMAGES.numpy(), IMAGES.tolist(), None,
], ids=["rank", "empty", "channels", "height", "float64", "255", "negative", "NaN", "scalar",
        "array", "list", "None"])
def test_bad_images_are_refused(door, bad, tmp_path):
    with pytest.raises(ValueError, match="^images must"):
        door(CONFIG, bad, tmp_path / "here")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("door", [train, load_or_train])
def test_images_of_48_pixels_are_refused(door, tmp_path):
    with pytest.raises(ValueError, match="^image_size must"):
        door(CONFIG, torch.zeros(1, 3, 48, 48), tmp_path / "here")


@pytest.mark.parametrize("epochs, seconds, expected", [
    (150, [100.0] * 5 + [2.0] * 10, "deconv seed 7: epoch 15/150, 4:30 left"),
    (2, [59.7], "deconv seed 7: epoch 1/2, 1:00 left"),
    (10, [5.0] * 9, "deconv seed 7: epoch 9/10, 0:05 left"),
    (1, [3.0], "deconv seed 7: epoch 1/1, 0:00 left"),
])
def test_progress_uses_the_last_ten_epochs(epochs, seconds, expected):
    history = History([0.0] * len(seconds), [0.0] * len(seconds), seconds)
    assert progress(TrainConfig(decoder="deconv", seed=7, epochs=epochs), history) == expected


def test_run_name_changes_with_every_setting_and_with_the_images():
    changes = {
        "decoder": "deconv", "seed": 1, "epochs": 5, "batch_size": 17, "learning_rate": 3.1e-4,
        "latent_dim": 6, "decoder_variance": 0.31, "precision": "bfloat16",
    }
    assert set(changes) == {field.name for field in fields(TrainConfig)}
    configs = [CONFIG] + [replace(CONFIG, **{name: value}) for name, value in changes.items()]
    pixel = IMAGES.clone()
    pixel[26, 2, 31, 31] = 1 / 255
    hashes = {run_name(config, IMAGES).split("-")[-1] for config in configs}
    hashes |= {run_name(CONFIG, other).split("-")[-1] for other in (pixel, IMAGES.flip(0))}
    assert len(hashes) == 11
    assert run_name(CONFIG, IMAGES.clone()) == run_name(CONFIG, IMAGES)
    assert run_name(CONFIG, IMAGES).startswith("sbd-seed0-")


def test_training_imports_no_plotting():
    code = "import sys, sbd_utils.training; print([n in sys.modules for n in sys.argv[1:]])"
    process = python(code, "sbd_utils.training", "matplotlib", "livelossplot")
    assert process.communicate()[0] == "[True, False, False]\n" and process.returncode == 0
