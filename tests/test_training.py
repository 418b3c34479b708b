"""Seeds, records, kills and resumes: the same weights, bit for bit, or a named error."""

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
from torch import nn

from sbd_utils import files
from sbd_utils.data.circles import make_sprites
from sbd_utils.models.decoders import DECODERS
from sbd_utils.models.vae import VAE
from sbd_utils.settings import ROOT
from sbd_utils.training import machine
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.loop import TrainingDivergedError, progress, train
from sbd_utils.training.records import History, RecordError, Run, load_run, run_id
from tests.conftest import COMPILES

EXACT = {"rtol": 0, "atol": 0}
IMAGES = make_sprites(image_size=32, sizes=(8,), positions=3).images  # 27: steps of 16 and 11
GRID = IMAGES[:6].unflatten(0, (2, 3))
CONFIG = TrainConfig(epochs=4, precision="float32", compiled=False)
SCRIPT = """
import os, signal, sys, time, torch
from pathlib import Path
from sbd_utils.data.circles import make_sprites
from sbd_utils.training.loop import TrainConfig, train
torch.set_num_threads(1)
images = make_sprites(image_size=32, sizes=(8,), positions=3).images
config = TrainConfig(epochs=4, precision="float32", compiled=False)
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread_of_the_cpu():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "pick_device", lambda: torch.device("cpu"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of CONFIG, the path of its record, and that of its third epoch."""
    runs = tmp_path_factory.mktemp("whole")
    path, unfinished = record(runs), runs / "unfinished"

    def keep(run):
        if len(run.history) == 3:
            unfinished.write_bytes(path.read_bytes())

    return train(CONFIG, IMAGES, runs, keep, GRID), path, unfinished


def record(runs, config=CONFIG, images=IMAGES):
    return runs / f"{run_id(config, images)}.safetensors"


def python(code, *arguments):
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )


def epochs(path):
    return len(files.read_tensors(path)[1]["history"]["kl"])


def assert_same_record(path, other):
    (tensors, facts), (others, theirs) = map(files.read_tensors, (path, other))
    torch.testing.assert_close(tensors, others, **EXACT)
    del facts["history"]["seconds"], theirs["history"]["seconds"]
    assert facts == theirs


def never(run):
    pytest.fail("it trained")


def curves(run):
    return run.history.reconstruction, run.history.kl


def assert_same(run, other):
    torch.testing.assert_close(run.vae.state_dict(), other.vae.state_dict(), **EXACT)
    assert curves(run) == curves(other)


def stop_after(epochs):
    def reporter(run):
        if len(run.history) == epochs:
            raise KeyboardInterrupt

    return reporter


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_accumulation_steps": 4},
        {"beta": 4.0},
        {"batch_size": 64},
        pytest.param({"compiled": True}, marks=COMPILES),
        pytest.param({"compiled": True, "precision": "bfloat16"}, marks=COMPILES),
    ],
    ids=str,
)
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
        for rows in torch.arange(27).split(run.config.batch_size):
            terms = torch.stack(vae.loss_terms(IMAGES[order[rows]], noise[rows]))
            optimizer.zero_grad()
            ((terms[0] + run.config.beta * terms[1]).sum() / terms.shape[1]).backward()
            optimizer.step()
            total = total + terms.detach().sum(dim=1)
        expected.append((total / 27).tolist())
    found = list(zip(*curves(run), strict=True))
    half = run.config.precision == "bfloat16"
    tolerance = 1e-2 if half else 1e-4
    torch.testing.assert_close(
        torch.tensor(found), torch.tensor(expected), rtol=tolerance, atol=tolerance / 10
    )
    # Where a gradient is all rounding, Adam still takes a whole step: four of 3e-4 at most, in few
    # places where the arithmetic is float32. In the end weights are rounded to 11 bits.
    torch.testing.assert_close(run.vae.state_dict(), vae.state_dict(), rtol=2**-11, atol=2.4e-3)
    pairs = zip(run.vae.parameters(), vae.parameters(), strict=True)
    off = max((mine - its.half()).abs().mean().item() for mine, its in pairs)
    assert off < (1e-4 if half else 2e-6)
    assert not run.vae.training and len(run.history.seconds) == 2 == len(run.history)
    assert run.config.compiled is changes.get("compiled", False)


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


@pytest.mark.parametrize(
    "decoder, precision, compiled",
    [
        ("sbd", "float32", False),
        ("deconv", "bfloat16", False),
        pytest.param("sbd", "auto", "auto", marks=COMPILES),
    ],
)
def test_resumed_run_is_the_uninterrupted_one(decoder, precision, compiled, whole, tmp_path):
    config = replace(CONFIG, decoder=decoder, precision=precision, compiled=compiled)
    once = train(config, IMAGES, tmp_path / "once", grid=GRID)
    with pytest.raises(KeyboardInterrupt):
        train(config, IMAGES, str(tmp_path / "twice"), stop_after(2), GRID)
    path = record(tmp_path / "twice", config)
    assert epochs(path) == 2
    seen = []
    resumed = train(
        config, IMAGES, tmp_path / "twice", lambda run: seen.append(len(run.history)), GRID
    )
    assert seen == [3, 4]
    assert_same(resumed, once)
    assert (curves(once) == curves(whole[0])) == (config == CONFIG), "precision is heeded"
    assert resumed.config == once.config
    assert resumed.config.precision != "auto" and resumed.config.compiled is bool(compiled)
    assert_same_record(path, record(tmp_path / "once", config))


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(tmp_path, monkeypatch):
    config = replace(CONFIG, precision="auto", epochs=2)
    for precision in ("bfloat16", "float32"):
        monkeypatch.setattr(machine, "pick_precision", lambda device, here=precision: here)
        if precision == "bfloat16":
            with pytest.raises(KeyboardInterrupt):
                train(config, IMAGES, tmp_path, stop_after(1))
    assert train(config, IMAGES, tmp_path).config.precision == "bfloat16"


def test_a_finished_run_is_read_with_all_that_it_was(whole, tmp_path, monkeypatch):
    run, path, _ = whole
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    monkeypatch.setattr(files, "lock", lambda path: pytest.fail("it takes a lock"))
    monkeypatch.setattr("pathlib.Path.mkdir", lambda *args, **kw: pytest.fail("it makes a folder"))
    before = torch.get_rng_state()
    for again in (train(CONFIG, IMAGES, tmp_path, never), load_run(copy), load_run(str(copy))):
        assert_same(again, run)
        assert again.config == run.config == CONFIG and again.machines == [machine.describe()]
        assert again.history == run.history and not again.vae.training
        torch.testing.assert_close(again.history.codes, run.history.codes, **EXACT)
    assert torch.equal(torch.get_rng_state(), before)
    assert run.history.codes.shape == (4, 2, 3, 5)
    codes = run.vae.encode(GRID.flatten(0, 1))[0].unflatten(0, (2, 3)).half()
    torch.testing.assert_close(run.history.codes[-1], codes, **EXACT)
    tensors, _ = files.read_tensors(path)
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert set(tensors) == {*run.vae.state_dict(), "lattice"}


def test_weights_are_rounded_to_16_bits_in_the_end(whole):
    seen = {}
    run = train(
        CONFIG,
        IMAGES,
        reporter=lambda run: seen.update(
            {len(run.history): {k: v.clone() for k, v in run.vae.state_dict().items()}}
        ),
    )
    assert_same(run, whole[0])
    assert all(torch.equal(v, v.half().float()) for v in seen[4].values())
    assert not all(torch.equal(v, v.half().float()) for v in seen[3].values())


def test_a_grid_that_comes_late_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, IMAGES, tmp_path, stop_after(1))
    with pytest.raises(ValueError, match="^grid must be given from a run's first epoch on"):
        train(CONFIG, IMAGES, tmp_path, grid=GRID)


def refuses(path, config=CONFIG, images=IMAGES):
    """train and load_run refuse a record by name and leave it as it was; returns the message."""
    before = path.read_bytes()
    with pytest.raises(RecordError) as caught:
        train(config, images, path.parent, never)
    assert str(path) in str(caught.value) and path.read_bytes() == before
    return str(caught.value)


@pytest.mark.parametrize("which", [1, 2], ids=["finished", "unfinished"])
def test_one_changed_bit_is_refused(which, whole, tmp_path):
    path, good = record(tmp_path), whole[which].read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    positions = [
        *range(8),
        *range(8, header, header // 60),
        *range(header, len(good), len(good) // 30),
    ]
    refused = 0
    for count, position in enumerate(positions):
        bad = bytearray(good)
        bad[position] ^= 1 << count % 8
        path.write_bytes(bad)
        try:
            tensors, facts = files.read_tensors(path)
        except files.DamagedFileError:
            refused += 1
            refuses(path)
        else:  # a bit of the header that means nothing, as a space does
            assert facts == files.read_tensors(whole[which])[1]
            torch.testing.assert_close(tensors, files.read_tensors(whole[which])[0], **EXACT)
    assert refused > 0.9 * len(positions)


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[: len(good) // 2],
        lambda good: good[:-1],
        lambda good: b"",
        lambda good: good + b"\0",
        lambda good: b"no record\n" * 99,
    ],
    ids=["half", "a byte short", "empty", "a byte more", "garbage"],
)
def test_damaged_record_is_refused(damage, whole, tmp_path):
    path = record(tmp_path)
    path.write_bytes(damage(whole[1].read_bytes()))
    assert "move it away or delete it" in refuses(path)


@pytest.mark.parametrize(
    "change, says",
    [({"format": 3}, "not a run record of format 4"), ({"run": "sbd-seed1-0"}, "belongs to")],
    ids=["format", "run"],
)
def test_a_foreign_record_is_refused(change, says, whole, tmp_path):
    tensors, facts = files.read_tensors(whole[2])
    files.write_tensors(record(tmp_path), tensors, facts | change)
    assert says in refuses(record(tmp_path))
    files.write_tensors(record(tmp_path), tensors, {"title": "of something else"})
    assert "not a run record" in refuses(record(tmp_path))


def test_weights_of_another_model_are_refused(whole, tmp_path):
    tensors, facts = files.read_tensors(whole[2])
    files.write_tensors(
        record(tmp_path), tensors | {"encoder.mu.weight": torch.zeros(4, 256)}, facts
    )
    assert "its weights do not fit: " in refuses(record(tmp_path))


@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_link_that_leads_nowhere_is_not_trained_over(target, tmp_path):
    path = record(tmp_path)
    path.symlink_to(path.name if target == "itself" else target)
    with pytest.raises((RecordError, OSError), match=re.escape(str(path))):
        train(CONFIG, IMAGES, tmp_path, never)
    assert path.is_symlink()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["os.fsync", "Path.replace"])
def test_kill_in_the_middle_of_a_save_loses_one_epoch_only(where, whole, tmp_path):
    kill = (
        SCRIPT
        + """
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
train(config, images, sys.argv[1])
"""
    )
    process = python(kill, tmp_path, where)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    seen = []
    assert epochs(record(tmp_path)) == 2
    run = train(CONFIG, IMAGES, tmp_path, lambda run: seen.append(len(run.history)))
    assert seen == [3, 4]
    assert_same(run, whole[0])


def test_second_process_waits_and_then_loads(whole, tmp_path):
    process = python(
        SCRIPT
        + """
def reporter(run):
    print(len(run.history), flush=True)
    time.sleep(0.3)
train(config, images, sys.argv[1], reporter)
""",
        tmp_path,
    )
    assert process.stdout.readline() == "1\n"
    assert_same(train(CONFIG, IMAGES, tmp_path, never), whole[0])
    assert process.communicate()[0] == "2\n3\n4\n"


def test_a_full_disk_leaves_the_last_record_whole(whole, tmp_path, monkeypatch):
    calls, real = [], os.fsync

    def full(file):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left .* was not written; the file of before is as"):
        train(CONFIG, IMAGES, tmp_path)
    monkeypatch.undo()
    assert epochs(record(tmp_path)) == 2
    assert_same(train(CONFIG, IMAGES, tmp_path), whole[0])


def test_a_folder_that_cannot_be_written_is_told_with_the_setting_that_helps(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/locks cannot be written; set SBD_RUNS to a folder"):
        train(CONFIG, IMAGES, tmp_path / "file", never)


def test_a_run_tells_all_machines_that_it_was_trained_on(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, IMAGES, tmp_path, stop_after(1))
    here = machine.describe()
    monkeypatch.setattr(machine, "cpu_name", lambda: "8086")
    for _ in range(2):
        assert train(CONFIG, IMAGES, tmp_path).machines == [here, here | {"cpu": "8086"}]


def test_what_does_not_compile_is_trained_eagerly(monkeypatch, caplog, whole):
    def broken(loss_terms, **options):
        def compiled(x, noise):
            raise RuntimeError("no compiler\nand thousands of lines")

        return compiled

    monkeypatch.setattr(torch, "compile", broken)
    run = train(replace(CONFIG, compiled="auto"), IMAGES)
    assert_same(run, whole[0])
    assert run.config.compiled is False
    [line] = caplog.records
    assert line.getMessage() == "training runs eagerly, slower: RuntimeError: no compiler"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"learning_rate": 1e30}, "epoch 1, step 2; nothing is kept .*learning_rate than 1e.30"),
        # The loss of the only step is finite, the weights are not: 1e39 is inf as float32.
        ({"learning_rate": 1e39, "batch_size": 27}, "epoch 1 left weights that are not finite"),
    ],
    ids=["loss", "weights"],
)
def test_divergence_is_named_and_nothing_bad_is_saved(changes, message, tmp_path):
    with pytest.raises(TrainingDivergedError, match=message):
        train(replace(CONFIG, **changes), IMAGES, tmp_path)
    assert os.listdir(tmp_path) == ["locks"]


def test_divergence_keeps_the_last_good_record(whole, tmp_path, monkeypatch):
    calls, terms = [], VAE.loss_terms

    def poisoned(vae, x, noise):
        reconstruction, kl = terms(vae, x, noise)
        calls.append(1)
        return reconstruction, kl * float("nan") if len(calls) == 6 else kl  # two steps an epoch

    monkeypatch.setattr(VAE, "loss_terms", poisoned)
    with pytest.raises(TrainingDivergedError, match="3, step 2; the record of epoch 2"):
        train(CONFIG, IMAGES, tmp_path)
    monkeypatch.undo()
    assert epochs(record(tmp_path)) == 2
    assert_same(train(CONFIG, IMAGES, tmp_path), whole[0])


class Mine(nn.Sequential):
    """A reader's decoder, with buffers that training changes."""

    def __init__(self, latent_dim, image_size):
        super().__init__(
            nn.Linear(latent_dim, 8),
            nn.BatchNorm1d(8),
            nn.Linear(8, 3 * image_size**2),
            nn.Unflatten(1, (3, image_size, -1)),
        )


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=COMPILES)])
def test_a_decoder_of_the_readers_own_is_trained_stopped_and_loaded(
    compiled, tmp_path, monkeypatch
):
    with pytest.raises(ValueError, match="^decoder must be one of"):
        TrainConfig("mine")
    monkeypatch.setitem(DECODERS, "mine", Mine)
    config = replace(CONFIG, decoder="mine", compiled=compiled)
    once = train(config, IMAGES)
    with pytest.raises(KeyboardInterrupt):
        train(config, IMAGES, tmp_path, stop_after(2))
    resumed = train(config, IMAGES, tmp_path)
    assert_same(resumed, once)
    assert once.config.compiled is compiled
    assert once.vae.decoder[1].num_batches_tracked == 8 and isinstance(once.vae.decoder, Mine)
    assert once.history.kl[-1] != once.history.kl[0]
    assert_same(load_run(record(tmp_path, config)), once)


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize(
    "name, value",
    [
        ("decoder", "conv"),
        ("decoder", None),
        ("precision", "float16"),
        ("seed", -1),
        ("seed", 0.5),
        ("epochs", 0),
        ("epochs", "3"),
        ("batch_size", 0),
        ("batch_size", 16.0),
        ("latent_dim", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "3e-4"),
        ("gradient_accumulation_steps", 0),
        ("gradient_accumulation_steps", 3),
        ("compiled", "yes"),
        ("decoder_variance", 0.0),
        ("decoder_variance", float("inf")),
        ("decoder_variance", None),
        ("beta", 0.0),
        ("epochs", True),
        ("beta", True),
        ("compiled", 1),
    ],
)
def test_config_names_the_bad_argument(name, value):
    with pytest.raises(ValueError, match=f"^{name} must"):
        TrainConfig(**{name: value})


@pytest.mark.usefixtures("unenforced_annotations")
def test_config_defaults_are_the_posts_and_numpy_numbers_are_the_same_config():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate) == (150, 16, 3e-4)
    assert (config.latent_dim, config.decoder_variance) == (5, 0.3)
    config = replace(CONFIG, seed=np.int64(0), learning_rate=np.float64(3e-4))
    assert type(config.seed) is int and type(config.learning_rate) is float
    assert run_id(config, IMAGES) == run_id(CONFIG, IMAGES)


@pytest.mark.usefixtures("unenforced_annotations")
@pytest.mark.parametrize(
    "bad, named",
    [
        (IMAGES[0], "images"),
        (IMAGES[:0], "images"),
        (IMAGES * 255, "images"),
        (torch.tensor(0.5), "images"),
        (IMAGES.numpy(), "images"),
        (None, "images"),
        (torch.zeros(1, 3, 48, 48), "image"),
    ],
    ids=["rank", "empty", "255", "scalar", "array", "None", "48 pixels"],
)
def test_bad_images_are_refused_and_leave_nothing(bad, named, tmp_path):
    with pytest.raises(ValueError, match=f"^{named}.* must"):
        train(CONFIG, bad, tmp_path / "here")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "seconds, expected",
    [
        ([100.0] * 5 + [2.0] * 10, "sbd seed 7: epoch 15/150, 4:30 left"),
        ([0.4], "sbd seed 7: epoch 1/150, 1:00 left"),
    ],
)
def test_progress_uses_the_last_ten_epochs(seconds, expected):
    history = History([0.0] * len(seconds), [0.0] * len(seconds), seconds)
    assert progress(Run(TrainConfig(seed=7), VAE(image_size=32), history)) == expected


def test_run_id_changes_with_every_setting_the_decoder_and_the_images(monkeypatch):
    changes = {
        "decoder": "deconv",
        "seed": 1,
        "epochs": 5,
        "batch_size": 18,
        "learning_rate": 3.1e-4,
        "latent_dim": 6,
        "decoder_variance": 0.31,
        "gradient_accumulation_steps": 2,
        "precision": "bfloat16",
        "compiled": True,
        "beta": 2.0,
    }
    assert set(changes) == {field.name for field in fields(TrainConfig)}
    pixel = IMAGES.clone()
    pixel[26, 2, 31, 31] = 1 / 255
    names = [run_id(CONFIG, other) for other in (IMAGES, pixel, IMAGES.flip(0))]
    names += [run_id(replace(CONFIG, **{name: value}), IMAGES) for name, value in changes.items()]
    assert len({name.split("-")[-1] for name in names}) == 14
    assert run_id(CONFIG, IMAGES.clone()) == names[0] and names[0].startswith("sbd-seed0-")
    monkeypatch.setitem(DECODERS, "sbd", replace(DECODERS["sbd"], depth=4))
    assert run_id(CONFIG, IMAGES) not in names


def test_an_id_is_the_same_in_every_version():
    """Where this fails, an old run would be taken for another: raise records.FORMAT."""
    assert run_id(TrainConfig(), torch.zeros(1, 3, 32, 32)) == "sbd-seed0-5b879cd93b"
