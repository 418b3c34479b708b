"""The kernel of `make notebooks` and of nbval, which no setting of the reader's machine changes.

Run as a script, it is the kernel: an IPython kernel without profiles, startup files and
matplotlibrc, all of which change outputs.
"""

import sys

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager


class OwnKernel(KernelSpecManager):
    """Finds this kernel under every name, run by this Python, whatever kernelspecs there are."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        # -P: a file of the notebooks' folder must not take the place of a package.
        argv = [sys.executable, "-P", __file__, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


def reset_matplotlib(backend: str) -> None:
    """Give matplotlib a backend and else its own defaults, whatever matplotlibrc it has read."""
    # With its fonts: a notice that they take long to list must not become an output.
    import matplotlib.font_manager

    matplotlib.rcParams.update(matplotlib.rcParamsDefault | {"backend": backend})


if __name__ == "__main__":
    from ipykernel.kernelapp import IPKernelApp

    class PlainApp(IPKernelApp):
        """Reads neither the reader's profile nor what /etc and the environment have for all."""

        def load_config_file(self):
            pass

        def _run_startup_files(self):  # PYTHONSTARTUP among them
            pass

    reset_matplotlib("module://matplotlib_inline.backend_inline")
    PlainApp.launch_instance()
