"""What several test files share."""

import shutil

import pytest
import torch

from sbd_utils.training import machine

COMPILES = (
    pytest.mark.slow,
    pytest.mark.skipif(
        not machine.may_compile(torch.device("cpu")) or not shutil.which("g++"),
        reason="torch.compile has no compiler",
    ),
)
