"""What several test files share."""

import shutil

import pytest
import torch

from sbd_utils.training import machine

COMPILES = (
    pytest.mark.slow,
    pytest.mark.compiles,
    pytest.mark.skipif(
        not machine.may_compile(torch.device("cpu")) or not shutil.which("g++"),
        reason="torch.compile has no compiler",
    ),
)


@pytest.fixture(autouse=True)
def _without_annotations_to_compile(request):
    """torch.compile cannot trace the wrappers that enforce annotations."""
    if request.node.get_closest_marker("compiles"):
        request.getfixturevalue("unenforced_annotations")
