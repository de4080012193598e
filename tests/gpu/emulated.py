"""Runs the CUDA kernels' own source on the CPU, so that the reducer's whole host path is tested."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from foreshock_gpu.launcher import kernel_source

SHIM = Path(__file__).parent / "shim"
SANITISE = ("-fsanitize=undefined", "-fno-sanitize-recover=all")


def build_shim(folder: Path, *flags: str) -> ctypes.CDLL:
    """Compile the kernels behind the shim into `folder` and load them."""
    (folder / "kernels.cu").write_text(kernel_source(), encoding="utf-8")
    library = folder / "libshim.so"
    command = ["g++", "-std=c++17", "-O2", "-fPIC", "-shared", "-Wno-unknown-pragmas"]
    sources = ["-I", str(folder), "-I", str(SHIM), str(SHIM / "cuda_shim.cpp"), "-o", str(library)]
    subprocess.run([*command, *flags, *sources], check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(library))


class EmulatedLauncher:
    """A Launcher whose device is the CPU; it counts its launches."""

    device = torch.device("cpu")

    def __init__(self, library: ctypes.CDLL, *, seed: int = 1) -> None:
        self._library = library
        self._seed = seed
        self.launches: list[str] = []

    def launch(self, kernel: str, num_blocks: int, addresses: Sequence[int]) -> None:
        """Run every block of the kernel, in an order that the seed decides."""
        assert num_blocks > 0, "CUDA refuses an empty grid"
        self.launches.append(kernel)
        array = (ctypes.c_uint64 * len(addresses))(*addresses)
        status = self._library.shim_launch(kernel.encode(), num_blocks, array, self._seed)
        assert status == 0, f"no kernel {kernel}"

    def sizes(self) -> list[int]:
        """Bytes of Tensor, Chunk, two Partials, Record, UnitMoments; words of an output row."""
        array = (ctypes.c_uint64 * 6)()
        self._library.shim_sizes(array)
        return list(array)
