"""NVIDIA's compiler accepts the kernels, and what it makes of them is what was designed."""

from __future__ import annotations

import re

import pytest
from cupy.cuda import nvrtc
from foreshock.errors import ReducerError
from foreshock_gpu.launcher import KERNELS, OPTIONS, CupyLauncher, kernel_source


@pytest.fixture(scope="module", params=["sm_80", "sm_90"])
def compiled(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The PTX and the compiler's log for one architecture; needs no driver."""
    program = nvrtc.createProgram(kernel_source(), "moments.cu", [], [])
    nvrtc.compileProgram(program, [*OPTIONS, f"-arch={request.param}", "-Xptxas=-v"])
    ptx = nvrtc.getPTX(program)
    text = ptx.decode() if isinstance(ptx, bytes) else str(ptx)
    log = nvrtc.getProgramLog(program)
    nvrtc.destroyProgram(program)
    return text, str(log)


def test_both_kernels_are_there(compiled: tuple[str, str]) -> None:
    """Under the names by which they are launched."""
    for kernel in KERNELS:
        assert f".entry {kernel}(" in compiled[0]


def test_nothing_spills_to_memory(compiled: tuple[str, str]) -> None:
    """A spilled register costs bandwidth, which is what the kernel has to spare for tensors."""
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", compiled[1])
    frames = re.findall(r"(\d+) bytes stack frame", compiled[1])
    assert len(frames) == len(KERNELS)
    assert set(spills) | set(frames) == {"0"}


def test_tensors_are_read_sixteen_bytes_at_a_time(compiled: tuple[str, str]) -> None:
    """Four dtypes: two loads in flight for one tensor, two tensors and a store for an update.

    The compiler may share some of these sixteen between two 16-bit dtypes.
    """
    assert len(re.findall(r"\bld[.\w]*\.v4\.[bu]32", compiled[0])) >= 12
    assert len(re.findall(r"\bst[.\w]*\.v4\.[bu]32", compiled[0])) >= 4


def test_three_blocks_fit_on_a_multiprocessor(compiled: tuple[str, str]) -> None:
    """65,536 registers and 48 KB of static shared memory leave 24 warps to hide latency."""
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", compiled[1])]
    shared = [int(n) for n in re.findall(r"(\d+) bytes smem", compiled[1])]
    assert max(registers) * 256 * 3 <= 65536
    assert max(shared) <= 48 << 10


def test_without_a_driver_the_reader_learns_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CuPy imports without a GPU, and torch may be built without CUDA: neither is a traceback."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ReducerError, match="install"):
        CupyLauncher()


def test_without_cupy_the_reader_learns_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra of the right CUDA version is named."""
    monkeypatch.setattr("foreshock_gpu.launcher.cupy", None)
    with pytest.raises(ReducerError, match=r"foreshock-gpu\[cuda12\]"):
        CupyLauncher()
