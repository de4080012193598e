"""Measures CPU tensors with the compiled kernels: one C call for many tensors, without the GIL."""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from foreshock.errors import ReducerError
from foreshock.reducers.library import BAD_ROW, CALL, JOB, LIBRARY, OK, load_library
from foreshock.reducers.protocol import UnitView
from foreshock.reducers.tensors import (
    address,
    check_previous,
    check_view,
    dtype_code,
    flat_code,
    flatten,
    is_dense,
)
from foreshock.wire.names import STATISTICS

_JOB = JOB.pack


@dataclass(frozen=True, slots=True)
class CpuPending:
    """Statistics that are already there; each step has arrays of its own."""

    stats: npt.NDArray[np.float32]
    histogram: npt.NDArray[np.uint32]

    def result(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        """Statistics [rows, 13] and exponent histograms [rows, 64]."""
        return self.stats, self.histogram


class CpuReducer:
    """The reducer for CPU tensors. Calls from several threads take turns.

    Raises ReducerError where the library is missing, and for tensors that have no statistics;
    a call that raises has measured nothing.
    """

    name = "cpu"

    def __init__(self, library: Path = LIBRARY) -> None:
        self._library = load_library(library)
        table = self._library.foreshock_table_new()
        if table is None:
            raise ReducerError("not enough memory for the reducer's table: free some memory")
        self._table = ctypes.c_void_p(table)
        self._address = int(table)
        self._measure = self._library.foreshock_measure
        weakref.finalize(self, self._library.foreshock_table_free, self._table)
        self._lock = threading.Lock()
        self._num_rows = 0

    def resize(self, num_rows: int) -> None:
        """Make room for `num_rows` rows; rows already measured on this step keep their values."""
        if num_rows < self._num_rows:
            raise ReducerError(f"a table of {self._num_rows} rows cannot shrink to {num_rows}")
        with self._lock:
            if self._library.foreshock_table_resize(self._table, num_rows) != OK:
                raise ReducerError(f"not enough memory for a table of {num_rows} rows")
            self._num_rows = num_rows

    def measure(
        self,
        rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        *,
        units: Sequence[UnitView | None] | None = None,
        scale: float | torch.Tensor = 1.0,
    ) -> None:
        """Merge `scale * tensor`, rounded to float32 (float64: to float64), into each row."""
        factor = float(scale)
        if not math.isfinite(factor):
            raise ReducerError(f"the scale is {factor}: it must be a finite number")
        views = units if units is not None else (None,) * len(tensors)
        jobs: list[bytes] = []
        keep: list[torch.Tensor] = []  # copies live until the kernel has read them
        for row, tensor, view in zip(rows, tensors, views, strict=True):
            code = flat_code(tensor)
            if code is None:
                code = dtype_code(tensor, "cpu")
                if view is not None:
                    check_view(tensor, view)
                tensor, view = flatten(tensor.detach(), view)
                keep.append(tensor)
            elif view is not None:
                check_view(tensor, view)
            at, numel = address(tensor, "cpu"), tensor.numel()
            if view is None:
                jobs.append(_JOB(at, 0, numel, code, row, -1, 0, 0, 0))
            else:
                outer, count, inner = view.outer, view.units, view.inner
                jobs.append(_JOB(at, 0, numel, code, row, -1, outer, count, inner))
        self._run(jobs, factor)

    def measure_update(
        self,
        update_rows: Sequence[int],
        weight_rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        previous: Sequence[torch.Tensor],
    ) -> None:
        """In one read: `tensor - previous` and `tensor` into their rows, then copy the tensor."""
        jobs: list[bytes] = []
        copies: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        rows = zip(update_rows, weight_rows, tensors, previous, strict=True)
        for update_row, weight_row, tensor, before in rows:
            code = flat_code(tensor)
            if code is not None and flat_code(before) == code and before.shape == tensor.shape:
                at, old = address(tensor, "cpu"), address(before, "cpu")
            else:
                code = dtype_code(tensor, "cpu")
                now, then = _in_one_order(tensor, before)
                copies.append((now, then, before))
                at, old = address(now, "cpu"), address(then, "cpu")
            numel = tensor.numel()
            if at == old and numel:
                check_previous(tensor, before)
            if numel:
                jobs.append(_JOB(at, old, numel, code, weight_row, update_row, 0, 0, 0))
            else:
                for row in (weight_row, update_row):
                    if row >= 0:
                        jobs.append(_JOB(0, 0, 0, code, row, -1, 0, 0, 0))
        self._run(jobs, 1.0)
        for _, then, before in copies:
            if then is not before:
                before.copy_(then)

    def finish(self) -> CpuPending:
        """Finalise the table of this step and empty it."""
        with self._lock:
            stats = np.empty((self._num_rows, len(STATISTICS)), np.float32)
            histogram = np.empty((self._num_rows, 64), np.uint32)
            self._library.foreshock_finish(self._table, stats.ctypes.data, histogram.ctypes.data)
        return CpuPending(stats, histogram)

    @property
    def instruction_set(self) -> str:
        """`avx512`, `avx2` or `portable`: which copy of the kernels this machine runs."""
        return str(self._library.foreshock_instruction_set().decode())

    def _run(self, jobs: list[bytes], scale: float) -> None:
        with self._lock:
            call = CALL.pack(self._address, len(jobs), scale)
            status = self._measure(call + (jobs[0] if len(jobs) == 1 else b"".join(jobs)))
        if status == BAD_ROW:
            raise ReducerError(
                f"a row lies outside the table of {self._num_rows} rows: call resize first"
            )
        if status != OK:
            raise ReducerError("not enough memory for the per-unit sums: free some memory")


def _in_one_order(tensor: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both, or copies of them, such that elements of one index have one place in their memory."""
    dtype_code(before, "cpu")
    check_previous(tensor, before)
    if tensor.stride() == before.stride() and is_dense(tensor):
        return tensor, before
    return tensor.detach().contiguous(), before.contiguous()
