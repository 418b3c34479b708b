"""Tests and notebooks run without the reader's settings of IPython, Jupyter and matplotlib.

The tests enforce the annotations of the package, shapes included; outside them nothing does.
"""

import jaxtyping
import pytest

# Before the first import of the package. The tower: an int will do where a float is annotated.
BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
jaxtyping.install_import_hook("sbd_utils", BEARTYPE)

import nbval.kernel  # noqa: E402

from tools import kernel  # noqa: E402

nbval.kernel.NbvalKernelspecManager = kernel.OwnKernel
kernel.reset_matplotlib("agg")


@pytest.fixture
def unenforced_annotations():
    """For tests of what users are told who pass the wrong type: they have no beartype."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
