"""What makes a step fast must not change it, and must say where it cannot be had."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from sbd_utils.data.circles import make_sprites
from sbd_utils.training import machine, parallel
from sbd_utils.training.config import TrainConfig
from sbd_utils.training.loop import batches, new_model, new_step

CPU = torch.device("cpu")
CONFIG = TrainConfig(precision="float32", compiled=False)
IMAGES = make_sprites(image_size=32, sizes=(8,), positions=3).images  # 27


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"CXX": "/bin/false"}, "training runs eagerly, slower: .*/bin/false.*"),
        ({"TORCH_COMPILE_DISABLE": "1"}, ""),
    ],
    ids=["broken compiler", "switched off"],
)
def test_where_nothing_compiles_training_is_eager_and_says_so_in_a_line(settings, line, tmp_path):
    code = """
from sbd_utils.data.circles import make_sprites
from sbd_utils.training.loop import TrainConfig, train
run = train(TrainConfig(epochs=1), make_sprites(image_size=32, sizes=(8,), positions=2).images)
print(run.config.compiled, len(run.history))
"""
    folders = {name: str(tmp_path) for name in ("SBD_RUNS", "TORCHINDUCTOR_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | folders | settings,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == "False 1\n" and re.fullmatch(line, done.stderr.strip())


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


@pytest.mark.parametrize(
    "amx, bf16, cpu, expected",
    [
        (True, True, "Intel(R) Xeon(R) Processor", "bfloat16"),
        (False, True, "Intel(R) Xeon(R) Processor", "float32"),
        (False, True, "AMD EPYC", "bfloat16"),
        (False, False, "AMD EPYC", "float32"),
    ],
)
def test_precision_is_what_was_measured_to_be_faster(amx, bf16, cpu, expected, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(machine, "cpu_name", lambda: cpu)
    assert machine.pick_precision(CPU) == expected
    assert machine.pick_precision(torch.device("mps")) == "float32"


def test_a_machine_names_its_gpu_where_it_trains_on_one(monkeypatch):
    monkeypatch.setattr(machine, "pick_device", lambda: torch.device("cpu"))
    plain = machine.describe()
    assert list(plain) == ["threads", "torch", "cpu"]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "K80")
    for kind, name in (("cuda", "K80"), ("mps", "mps")):
        monkeypatch.setattr(machine, "pick_device", lambda kind=kind: torch.device(kind))
        assert machine.describe() == plain | {"device": name}


@pytest.mark.parametrize("batch_size, size", [(16, 16), (27, 27), (10**9, 27)])
def test_an_epoch_takes_each_image_once_in_batches_of_one_shape(batch_size, size):
    config = replace(CONFIG, batch_size=batch_size)
    epoch = list(batches(27, config, torch.Generator().manual_seed(0), CPU))
    assert {tuple(part.shape for part in batch) for batch in epoch} == {
        ((size,), (size, 5), (size,))
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
        (step, _), n = new_step(CONFIG, vae, optimizer, IMAGES), len(rows)
        after.append((step(rows, noise[:n], weights[:n]), vae.state_dict()))
    torch.testing.assert_close(*after, rtol=1e-4, atol=1e-5)


def test_denormals_are_flushed_inside_only_even_after_an_error():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no switch for it")
    tiny = torch.tensor([1e-40])
    with pytest.raises(KeyError), machine.flushed_denormals():
        assert (tiny * 1).item() == 0
        raise KeyError
    assert (tiny * 1).item() > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident size is from /proc")
def test_memory_kept_goes_back():
    code = """
import resource
import torch
from pathlib import Path
from sbd_utils.training import machine
def resident():
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])
machine.keep_freed_memory()
before = resident()
torch.ones(200 * 2**18)
kept = resident()
machine.release_memory()
print(kept - before, resident() - before)
"""
    kept, left = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert kept > 150 * 2**20 and left < 50 * 2**20
