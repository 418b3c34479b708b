"""What makes a step fast must not change it, and must say where it cannot be had."""

import copy
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sbd_utils.training import parallel, speed
from sbd_utils.training.loop import TrainConfig, batches, new_model, new_step
from sbd_utils.worlds.circles import make_sprites

CPU = torch.device("cpu")
CONFIG = TrainConfig(precision="float32", compiled=False)
IMAGES = make_sprites(image_size=32, sizes=(8,), positions=3).images  # 27


@pytest.mark.parametrize("settings, line", [
    ({"CXX": "/bin/false"}, "training runs eagerly, slower: .*/bin/false.*"),
    ({"TORCH_COMPILE_DISABLE": "1"}, ""),
], ids=["broken compiler", "switched off"])
def test_where_nothing_compiles_training_is_eager_and_says_so_in_a_line(settings, line, tmp_path):
    code = """
from sbd_utils.worlds.circles import make_sprites
from sbd_utils.training.loop import TrainConfig, train
run = train(TrainConfig(epochs=1), make_sprites(image_size=32, sizes=(8,), positions=2).images)
print(run.config.compiled, len(run.history))
"""
    folders = {name: str(tmp_path) for name in ("SBD_RUNS", "TORCHINDUCTOR_CACHE_DIR")}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | folders | settings,
                          capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout == "False 1\n" and re.fullmatch(line, done.stderr.strip())


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="its tensors can be made here")
def test_a_device_that_torch_compile_does_not_know_is_told(caplog):
    assert [speed.pick_compiled(torch.device("mps")) for _ in range(3)] == [False] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "training runs eagerly, slower: torch.compile is not for mps"]


def square(value):
    return value**2, torch.get_num_threads()


@pytest.mark.parametrize("cores, processes", [(2, True), (2, False), (1, True)])
def test_jobs_side_by_side_have_a_thread_each_and_keep_their_order(
    cores, processes, monkeypatch, caplog
):
    def lock(self):
        raise PermissionError(13, "Permission denied", "/dev/shm")

    monkeypatch.setattr(parallel, "pick_device", lambda: CPU)
    monkeypatch.setattr(parallel, "cpu_count", lambda: cores)
    if not processes:
        monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", lock)
    jobs = [{"value": value} for value in range(3)]
    assert list(parallel.side_by_side(square, jobs)) == [(0, 1), (1, 1), (4, 1)]
    told = [record.getMessage() for record in caplog.records]
    assert processes == (not told) and all("one training after another" in line for line in told)


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Have pick_precision measure a gain that is given, on a machine that has a bfloat16 flag.

    It returns the precision, and whether it was measured.
    """
    monkeypatch.setattr(speed, "RUNS", tmp_path / "runs")
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)

    def pick(gain):
        calls = []
        monkeypatch.setattr(speed, "bfloat16_gain", lambda: calls.append(1) or gain)
        return speed.pick_precision(CPU), bool(calls)

    return pick


@pytest.mark.parametrize("gain, expected", [
    (0.55, "float32"), (1.0, "float32"), (speed.LEAST_GAIN - 0.01, "float32"),
    (speed.LEAST_GAIN, "bfloat16"), (8.0, "bfloat16"),
])
def test_bfloat16_must_gain_and_is_measured_once(gain, expected, measure, tmp_path):
    assert measure(gain) == (expected, True)
    assert measure(9 - gain) == (expected, False)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["bfloat16.json"]


def test_a_gain_next_to_the_least_is_judged_the_same_from_the_file(measure):
    """The file holds two digits: rounded after the judgement, it would turn round the next."""
    near = speed.LEAST_GAIN - 0.001
    assert measure(near)[0] == measure(near)[0]


@pytest.mark.parametrize("other", ["cpu_name", "torch"])
def test_another_processor_or_torch_is_measured_anew_and_both_are_kept(
    other, measure, monkeypatch
):
    assert measure(2.0) == ("bfloat16", True)
    with monkeypatch.context() as patch:
        if other == "torch":
            patch.setattr("torch.__version__", "1.0")
        else:
            patch.setattr(speed, "cpu_name", lambda: "8086")
        assert [measure(gain) for gain in (0.5, 2.0)] == [("float32", True), ("float32", False)]
    assert measure(0.5) == ("bfloat16", False)


def test_a_machine_names_its_gpu_where_it_trains_on_one(monkeypatch):
    monkeypatch.setattr(speed, "pick_device", lambda: torch.device("cpu"))
    plain = speed.machine()
    assert list(plain) == ["threads", "torch", "cpu"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "K80")
    for kind, name in (("cuda", "K80"), ("mps", "mps")):
        monkeypatch.setattr(speed, "pick_device", lambda kind=kind: torch.device(kind))
        assert speed.machine() == plain | {"device": name}


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"[1]", b"7", b"null", b'"a"', b"\xff\xfe", b'{"a": 1.5}',
    *(b'{"machine": %s}' % bad for bad in (b"null", b'"2.0"', b"NaN", b"Infinity", b"-2.0", b"{}")),
])
def test_a_damaged_gain_is_measured_anew_and_replaced(content, measure, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "cpu_name", lambda: "x")
    content = content.replace(b"machine", f"x, torch {torch.__version__}".encode())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "bfloat16.json").write_bytes(content)
    assert [measure(gain) for gain in (2.0, 0.5)] == [("bfloat16", True), ("bfloat16", False)]
    kept = json.loads((tmp_path / "runs" / "bfloat16.json").read_bytes())
    assert kept[f"x, torch {torch.__version__}"] == 2.0


@pytest.mark.parametrize("in_the_way", ["runs", "runs/bfloat16.json/"])
def test_with_nowhere_to_keep_the_gain_it_is_measured_every_time(in_the_way, measure, tmp_path):
    if in_the_way.endswith("/"):  # a folder where the file should be
        (tmp_path / in_the_way).mkdir(parents=True)
    else:  # a file where the folder should be
        (tmp_path / in_the_way).touch()
    assert [measure(gain) for gain in (2.0, 0.5)] == [("bfloat16", True), ("float32", True)]


def test_without_a_flag_nothing_is_measured(measure, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert measure(2.0) == ("float32", False) and not (tmp_path / "runs").exists()
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: True)
    assert measure(2.0) == ("bfloat16", True), "either flag will do"
    assert speed.pick_precision(torch.device("mps")) == "float32"


def test_the_gain_is_a_ratio_of_times_and_threads_come_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    assert 0 < speed.bfloat16_gain() < math.inf
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


@pytest.mark.parametrize("batch_size", [16, 27, 64])
def test_an_epoch_takes_each_image_once_in_batches_of_one_shape(batch_size):
    config = replace(CONFIG, batch_size=batch_size)
    epoch = list(batches(27, config, torch.Generator().manual_seed(0), CPU))
    assert {tuple(part.shape for part in batch) for batch in epoch} == {
        ((batch_size,), (batch_size, 5), (batch_size,))
    }
    rows, _, weights = (torch.cat(parts) for parts in zip(*epoch, strict=True))
    assert sorted(rows[weights == 1].tolist()) == list(range(27))
    assert set(weights.tolist()) <= {0.0, 1.0}


def test_images_that_fill_a_batch_pull_at_nothing():
    """A step on 11 images is the step on the same 11 with 5 more of weight 0."""
    weights, after = torch.tensor([1.0] * 11 + [0.0] * 5), []
    noise = torch.randn(16, 5, generator=torch.Generator().manual_seed(0))
    for rows in (torch.arange(11), torch.arange(16)):
        vae, optimizer = new_model(CONFIG, 32, CPU)
        step, n = new_step(CONFIG, vae, optimizer, IMAGES), len(rows)
        after.append((step(rows, noise[:n], weights[:n]), vae.state_dict()))
    torch.testing.assert_close(*after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", [False, True])
def test_undone_steps_leave_weights_and_moments_in_place(trained):
    """What a CUDA capture relies on: it runs steps first, on memory that it must find again."""
    vae, optimizer = new_model(CONFIG, 32, CPU)
    step = new_step(CONFIG, vae, optimizer, IMAGES)
    batch = next(batches(27, CONFIG, torch.Generator().manual_seed(0), CPU))
    if trained:
        step(*batch)
    before = copy.deepcopy((vae.state_dict(), optimizer.state_dict()["state"]))
    memory = [parameter.data_ptr() for parameter in vae.parameters()]
    with speed.undone(vae, optimizer):
        step(*batch)
        assert not torch.equal(vae.encoder.mu.weight, before[0]["encoder.mu.weight"])
    torch.testing.assert_close(vae.state_dict(), before[0], rtol=0, atol=0)
    if trained:
        torch.testing.assert_close(optimizer.state_dict()["state"], before[1], rtol=0, atol=0)
    else:
        assert all((value == 0).all() for state in optimizer.state.values()
                   for value in state.values())
    assert memory == [parameter.data_ptr() for parameter in vae.parameters()]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
@pytest.mark.parametrize("decoder", ["sbd", "deconv"])
@pytest.mark.parametrize("changes", [{}, {"precision": "bfloat16", "compiled": True}], ids=str)
def test_captured_step_is_the_step(decoder, changes):
    device, config = torch.device("cuda"), replace(CONFIG, decoder=decoder, **changes)
    images, after = IMAGES.to(device), []
    for capture in (False, True):
        vae, optimizer = new_model(config, 32, device)
        step = new_step(config, vae, optimizer, images, capture)
        sums = [step(*batch)
                for batch in batches(27, config, torch.Generator().manual_seed(0), device)]
        after.append((sums, vae.state_dict()))
    (plain, weights), (captured, same) = after
    torch.testing.assert_close(captured, plain, rtol=1e-3, atol=1e-4)
    # Where a gradient is all rounding, Adam still takes a whole step, here two of them.
    torch.testing.assert_close(same, weights, rtol=1e-3, atol=4 * config.learning_rate)


def test_denormals_are_flushed_inside_only_even_after_an_error():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no switch for it")
    tiny = torch.tensor([1e-40])
    with pytest.raises(KeyError), speed.flushed_denormals():
        assert (tiny * 1).item() == 0
        raise KeyError
    assert (tiny * 1).item() > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident size is from /proc")
def test_memory_kept_goes_back():
    code = """
import resource
import torch
from pathlib import Path
from sbd_utils.training import speed
def resident():
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])
speed.keep_freed_memory()
before = resident()
torch.ones(200 * 2**18)
kept = resident()
speed.hand_back_memory()
print(kept - before, resident() - before)
"""
    kept, left = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert kept > 150 * 2**20 and left < 50 * 2**20
