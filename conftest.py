"""Tests and notebooks run without the reader's settings of IPython, Jupyter and matplotlib."""

import nbval.kernel

from sbd_utils import kernel

nbval.kernel.NbvalKernelspecManager = kernel.OwnKernel
kernel.reset_matplotlib("agg")
