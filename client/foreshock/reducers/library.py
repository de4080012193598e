"""Finds and loads the compiled CPU kernels, and states their C interface."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

from foreshock.errors import ReducerError

LIBRARY = Path(__file__).parent / "libforeshock_cpu.so"
"""Built at installation by client/hatch_build.py."""

INTERFACE = 2
"""Version of the C interface; a library left over from another version is refused."""

JOB = struct.Struct("9q")
"""One `ForeshockJob` of cpu_kernel.h: data, previous, numel, dtype, row, update row, unit view."""

CALL = struct.Struct("qqd")
"""The `ForeshockCall` before the jobs: table, number of jobs, scale."""

OK, NO_MEMORY, BAD_ROW = 0, 1, 2
"""What the C functions return."""


def load_library(path: Path = LIBRARY) -> ctypes.CDLL:
    """The CPU kernels; raises ReducerError that says why they cannot be used."""
    if not path.exists():
        raise ReducerError(
            f"the CPU reducer was not built ({path.name} is missing): install g++ and reinstall"
            " foreshock, or use TorchReducer, which gives the same results more slowly"
        )
    try:
        library = ctypes.CDLL(str(path))
        found = library.foreshock_interface()
    except (OSError, AttributeError) as error:
        raise ReducerError(
            f"the CPU reducer cannot be loaded from {path}: {error}; reinstall foreshock"
        ) from error
    if found != INTERFACE:
        raise ReducerError(
            f"{path} has interface {found} and this foreshock needs {INTERFACE}: reinstall it"
        )
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    pointer, integer = ctypes.c_void_p, ctypes.c_longlong
    library.foreshock_instruction_set.restype = ctypes.c_char_p
    library.foreshock_runnable.argtypes = [ctypes.c_int]
    library.foreshock_runnable.restype = ctypes.c_char_p
    library.foreshock_use.argtypes = [ctypes.c_int]
    library.foreshock_use.restype = None
    library.foreshock_table_new.restype = pointer
    library.foreshock_table_resize.argtypes = [pointer, integer]
    library.foreshock_table_free.argtypes = [pointer]
    library.foreshock_table_free.restype = None
    library.foreshock_measure.argtypes = [ctypes.c_char_p]
    library.foreshock_finish.argtypes = [pointer, pointer, pointer]
    library.foreshock_finish.restype = None


def instruction_sets(library: ctypes.CDLL) -> tuple[str, ...]:
    """The copies of the kernels that this machine can run, best first; the first is in use."""
    found: list[str] = []
    while (name := library.foreshock_runnable(len(found))) is not None:
        found.append(name.decode())
    return tuple(found)
