"""Compiles the kernels on first use and launches them on torch's current stream."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

import torch
from foreshock.errors import ReducerError

try:
    import cupy
except ImportError:  # said by CupyLauncher, with what to install
    cupy = None

KERNELS = ("foreshock_segments", "foreshock_rows")
THREADS = 256
OPTIONS = ("-std=c++17",)


class Launcher(Protocol):
    """The seam between the host code and whatever executes the kernels."""

    device: torch.device

    def launch(self, kernel: str, num_blocks: int, addresses: Sequence[int]) -> None:
        """Run one of KERNELS over `num_blocks` blocks of 256 threads, in stream order.

        Every argument is an address on the device.
        """
        ...


def kernel_source() -> str:
    """moments.cu with the statistics header of the client put in place of its include."""
    header = files("foreshock.reducers").joinpath("stats.h").read_text(encoding="utf-8")
    kernels = files("foreshock_gpu").joinpath("moments.cu").read_text(encoding="utf-8")
    include = '#include "stats.h"'
    if kernels.count(include) != 1:
        raise ReducerError("moments.cu is damaged: reinstall foreshock-gpu")
    return kernels.replace(include, header)


class CupyLauncher:
    """Launches through CuPy; raises ReducerError where CuPy, a driver or a GPU is missing."""

    def __init__(self) -> None:
        if cupy is None:
            raise ReducerError(
                "CuPy is not installed: pip install foreshock-gpu[cuda12] or foreshock-gpu[cuda13],"
                " the one that matches your torch"
            )
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise ReducerError(
                f"CuPy {cupy.__version__} found no usable NVIDIA driver ({error}): install one"
                " that is as new as its CUDA version, or use the other CuPy wheel"
            ) from error
        if count == 0 or not torch.cuda.is_available():
            raise ReducerError(
                f"CuPy sees {count} GPUs and torch.cuda.is_available() is"
                f" {torch.cuda.is_available()}: install a torch built for CUDA and check"
                " CUDA_VISIBLE_DEVICES"
            )
        self.device = torch.device("cuda", torch.cuda.current_device())

    @functools.cached_property
    def _kernels(self) -> dict[str, Any]:
        module = cupy.RawModule(code=kernel_source(), options=OPTIONS)
        return {name: module.get_function(name) for name in KERNELS}

    def launch(self, kernel: str, num_blocks: int, addresses: Sequence[int]) -> None:
        """Run a kernel on the stream that torch uses now."""
        with cupy.cuda.Device(self.device.index):
            stream = _as_cupy_stream(torch.cuda.current_stream(self.device))
            arguments = tuple(cupy.uint64(address) for address in addresses)
            self._kernels[kernel]((num_blocks,), (THREADS,), arguments, stream=stream)


def _as_cupy_stream(stream: torch.cuda.Stream) -> Any:
    """The same stream for CuPy; `from_external` replaced ExternalStream in CuPy 14."""
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(stream)
    return cupy.cuda.ExternalStream(stream.cuda_stream, stream.device.index)
