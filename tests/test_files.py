"""A file is whole or as it was before, and says itself whether it is what was written."""

import errno
import os
from pathlib import Path

import pytest
import torch

from sbd_utils import files

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 255], dtype=torch.uint8)}
FACTS = {"text": "ö", "numbers": [0.1, 2]}


def test_what_is_read_is_what_was_written_whatever_its_layout(tmp_path):
    path = tmp_path / "new" / "file.safetensors"
    files.write_tensors(path, TENSORS | {"turned": TENSORS["a"].T.requires_grad_()}, FACTS)
    tensors, facts = files.read_tensors(path)
    torch.testing.assert_close(tensors, TENSORS | {"turned": TENSORS["a"].T}, rtol=0, atol=0)
    assert facts == FACTS and os.listdir(path.parent) == [path.name]
    files.write(path, b"other")
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize("where", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(
    where, old, tmp_path, monkeypatch
):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    monkeypatch.setattr(where, full)
    with pytest.raises(OSError, match="No space left .*: .*file was not written") as caught:
        files.write(path, b"new")
    assert caught.value.errno == errno.ENOSPC
    assert ("the file of before is as it was" in str(caught.value)) == bool(old)
    assert [item.read_bytes() for item in tmp_path.iterdir()] == ([old] if old else [])


def test_a_file_system_without_locks_is_told_and_gets_no_file_in_their_place(tmp_path, monkeypatch):
    def none(*given):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", none)
    with (
        pytest.raises(OSError, match="not implemented: .* cannot be written; set SBD_RUNS"),
        files.lock(tmp_path / "lock"),
    ):
        pytest.fail("it has the lock")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory: .*file/more was not written|exists"):
        files.write(tmp_path / "file" / "more", b"")


def test_a_file_without_a_digest_or_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(files.safetensors.save(TENSORS, {"text": "1"}))
    with pytest.raises(files.DamagedFileError, match="not as it was written"):
        files.read_tensors(path)
    for other in (tmp_path / "none", tmp_path):
        with pytest.raises((files.DamagedFileError, OSError), match=str(Path(other))):
            files.read_tensors(other)
