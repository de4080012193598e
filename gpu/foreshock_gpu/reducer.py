"""Measures CUDA tensors: two launches for any number of tensors, one copy to the host a step.

Nothing here waits for the device. Memory comes from torch's allocators, whose rule is kept: it is
used only on the stream that is current, so what is freed early is reused in stream order.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from foreshock.errors import ReducerError
from foreshock.reducers.protocol import UnitView
from foreshock.reducers.tensors import (
    address,
    check_previous,
    check_view,
    dtype_code,
    flatten,
    is_dense,
)
from foreshock.wire.names import STATISTICS

from foreshock_gpu.launcher import CupyLauncher, Launcher
from foreshock_gpu.tables import (
    EXPONENTS,
    OUTPUT_WORDS,
    PARTIAL_BYTES,
    RECORD_BYTES,
    TENSOR,
    UNIT_BYTES,
    Reading,
    build,
)


@dataclass(frozen=True, slots=True)
class CupyPending:
    """The output words [rows, 78] in pinned memory of their own, and the event that ends the copy.

    Pinned memory goes back to torch's cache when this is dropped, so however many steps are
    waiting, none overwrites another.
    """

    words: torch.Tensor
    event: torch.cuda.Event | None

    def result(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        """Statistics [rows, 13] and exponent histograms [rows, 64]."""
        if self.event is not None:
            self.event.synchronize()
        words = self.words.numpy().view(np.uint32)
        width = len(STATISTICS)
        stats = words[:, :width].copy().view(np.float32)
        stats[words[:, width] == 0] = np.nan
        return stats, words[:, width + 1 :].copy()


@dataclass(slots=True)
class _RowUnits:
    """The per-unit table of one row, kept between steps; `step` says whose values it holds."""

    table: torch.Tensor
    units: int
    step: int = -1
    inconsistent: bool = False


@dataclass(slots=True)
class _Step:
    """The device table: records, exponents and output in one buffer, emptied by one memset."""

    num_rows: int
    state: torch.Tensor
    units: dict[int, _RowUnits] = field(default_factory=dict)
    number: int = 0

    @property
    def records(self) -> int:
        return self.state.data_ptr()

    @property
    def exponents(self) -> int:
        return self.records + self.num_rows * RECORD_BYTES

    @property
    def output(self) -> int:
        return self.exponents + self.num_rows * EXPONENTS * 8

    def words(self) -> torch.Tensor:
        """The output as int32 [rows, 78]."""
        start = self.num_rows * (RECORD_BYTES + EXPONENTS * 8)
        flat = self.state[start:].view(torch.int32)
        return flat.view(self.num_rows, OUTPUT_WORDS)


def _state_bytes(num_rows: int) -> int:
    return num_rows * (RECORD_BYTES + EXPONENTS * 8 + OUTPUT_WORDS * 4)


class CupyReducer:
    """The reducer for the tensors of one GPU.

    Raises ReducerError where CuPy or the GPU is missing, and for tensors without statistics; a
    call that raises has measured nothing.
    """

    name = "cupy"

    def __init__(self, launcher: Launcher | None = None) -> None:
        self._launcher = launcher if launcher is not None else CupyLauncher()
        self._device = self._launcher.device
        self._on_gpu = self._device.type == "cuda"
        self._lock = threading.Lock()
        self._step = _Step(0, self._zeros(0))

    def resize(self, num_rows: int) -> None:
        """Make room for `num_rows` rows; rows already measured on this step keep their values."""
        old = self._step
        if num_rows < old.num_rows:
            raise ReducerError(f"a table of {old.num_rows} rows cannot shrink to {num_rows}")
        with self._lock:
            new = _Step(num_rows, self._zeros(_state_bytes(num_rows)), old.units, old.number)
            source = target = 0
            for size in (RECORD_BYTES, EXPONENTS * 8, OUTPUT_WORDS * 4):
                kept = old.num_rows * size
                new.state[target : target + kept] = old.state[source : source + kept]
                source, target = source + kept, target + num_rows * size
            self._step = new

    @torch.no_grad()
    def measure(
        self,
        rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        *,
        units: Sequence[UnitView | None] | None = None,
        scale: float | torch.Tensor = 1.0,
    ) -> None:
        """Merge `scale * tensor`, rounded to float32 (float64: to float64), into each row.

        A scale that is a tensor is read by the kernel, on the device.
        """
        views = units if units is not None else (None,) * len(tensors)
        readings: list[Reading] = []
        keep: list[torch.Tensor] = []  # copies live until they are launched, then in stream order
        for row, tensor, view in zip(rows, tensors, views, strict=True):
            code = dtype_code(tensor, self._device.type)
            self._check_row(row, least=0)
            if view is not None:
                check_view(tensor, view)
            flat, flat_view = flatten(tensor.detach(), view)
            keep.append(flat)
            readings.append(
                Reading(address(flat, self._device.type), flat.numel(), code, row, view=flat_view)
            )
        factor, factor_address = 1.0, 0
        if isinstance(scale, torch.Tensor):
            if scale.numel() != 1:
                raise ReducerError(f"the scale has shape {tuple(scale.shape)}: pass one number")
            on_device = scale.detach().to(self._device, torch.float32, non_blocking=True)
            keep.append(on_device)
            factor_address = on_device.data_ptr()
        else:
            factor = float(scale)
            if not math.isfinite(factor):
                raise ReducerError(f"the scale is {factor}: it must be a finite number")
        self._run(readings, factor, factor_address)

    @torch.no_grad()
    def measure_update(
        self,
        update_rows: Sequence[int],
        weight_rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        previous: Sequence[torch.Tensor],
    ) -> None:
        """In one read: `tensor - previous` and `tensor` into their rows, then copy the tensor."""
        readings: list[Reading] = []
        copies: list[tuple[torch.Tensor, torch.Tensor]] = []
        keep: list[torch.Tensor] = []
        rows = zip(update_rows, weight_rows, tensors, previous, strict=True)
        for update_row, weight_row, tensor, before in rows:
            code = dtype_code(tensor, self._device.type)
            dtype_code(before, self._device.type)
            self._check_row(update_row, least=-1)
            self._check_row(weight_row, least=-1)
            check_previous(tensor, before)
            now, then = tensor.detach(), before
            if now.stride() != then.stride() or not is_dense(now):
                now, then = now.contiguous(), before.contiguous()
                if then is not before:
                    copies.append((before, then))
                keep += (now, then)
            readings.append(
                Reading(
                    address(now, self._device.type), now.numel(), code, weight_row,
                    previous=address(then, self._device.type), update_row=update_row,
                )
            )  # fmt: skip
        self._run(readings, 1.0, 0)
        for before, then in copies:
            before.copy_(then)

    def finish(self) -> CupyPending:
        """Start the one copy of this step to the host, and empty the table behind it."""
        with self._lock:
            step = self._step
            words = step.words()
            host = torch.empty(words.shape, dtype=torch.int32, pin_memory=self._on_gpu)
            host.copy_(words, non_blocking=True)
            stream = torch.cuda.current_stream(self._device) if self._on_gpu else None
            event = stream.record_event() if stream is not None else None
            step.state.zero_()
            step.number += 1
        return CupyPending(host, event)

    def _run(self, readings: list[Reading], scale: float, scale_address: int) -> None:
        with self._lock:
            for group in _without_shared_rows(readings):
                self._launch(group, scale, scale_address)

    def _launch(self, readings: Sequence[Reading], scale: float, scale_address: int) -> None:
        disagreeing = [index for index, each in enumerate(readings) if self._disagrees(each)]
        readings = [
            replace(each, view=None) if index in disagreeing else each
            for index, each in enumerate(readings)
        ]
        tensors, chunks = build(readings, scale=scale, scale_address=scale_address)
        tensors["units"][disagreeing] = -1
        step = self._step
        unit_partials = self._give_units(readings, tensors)
        partials = self._bytes(len(chunks) * PARTIAL_BYTES)
        # One upload for both tables.
        tables = self._upload(np.concatenate((tensors.view(np.uint8), chunks.view(np.uint8))))
        chunk_table = tables.data_ptr() + len(tensors) * TENSOR.itemsize
        if len(chunks):
            self._launcher.launch(
                "foreshock_segments",
                len(chunks),
                (tables.data_ptr(), chunk_table, partials.data_ptr(), step.exponents),
            )
        if len(tensors):
            self._launcher.launch(
                "foreshock_rows",
                len(tensors),
                (tables.data_ptr(), partials.data_ptr(), step.records, step.exponents, step.output),
            )
        del unit_partials  # alive until here: from now on freed in stream order

    def _give_units(
        self, readings: Sequence[Reading], tensors: npt.NDArray[np.void]
    ) -> torch.Tensor:
        """Fill in the addresses of the per-unit sums; returns the memory of the partial ones."""
        sizes = np.maximum(tensors["units"], 0) * tensors["num_slices"] * UNIT_BYTES
        partials = self._bytes(int(sizes.sum()))
        next_partials = partials.data_ptr()
        for index, reading in enumerate(readings):
            entry = tensors[index]
            if entry["units"] <= 0:
                continue
            table = self._unit_table(reading.row, int(entry["units"]))
            entry["unit_partials"], entry["unit_table"] = next_partials, table.table.data_ptr()
            entry["fresh_units"] = table.step != self._step.number
            table.step, table.inconsistent = self._step.number, False
            next_partials += int(sizes[index])
        return partials

    def _disagrees(self, reading: Reading) -> bool:
        """True where another tensor of this step gave the row another number of units."""
        known = self._step.units.get(reading.row)
        if reading.view is None or known is None or known.step != self._step.number:
            return False
        known.inconsistent = known.inconsistent or known.units != reading.view.units
        return known.inconsistent

    def _unit_table(self, row: int, units: int) -> _RowUnits:
        known = self._step.units.get(row)
        if known is None or known.units != units:
            known = _RowUnits(self._bytes(units * UNIT_BYTES), units)
            self._step.units[row] = known
        return known

    def _check_row(self, row: int, *, least: int) -> None:
        if not least <= row < self._step.num_rows:
            raise ReducerError(
                f"row {row} lies outside the table of {self._step.num_rows} rows: call resize first"
            )

    def _bytes(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def _zeros(self, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.uint8, device=self._device)

    def _upload(self, table: npt.NDArray[np.uint8]) -> torch.Tensor:
        """To the device without waiting: torch keeps the pinned block until the copy has run."""
        host = torch.empty(len(table), dtype=torch.uint8, pin_memory=self._on_gpu)
        host.numpy()[:] = table
        return host.to(self._device, non_blocking=True)


def _without_shared_rows(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Groups in which no row occurs twice: blocks of one launch must not merge into one record."""
    groups: list[list[Reading]] = []
    used: set[int] = set()
    for reading in readings:
        rows = {row for row in (reading.row, reading.update_row) if row >= 0}
        if not groups or used & rows:
            groups.append([])
            used = set()
        groups[-1].append(reading)
        used |= rows
    return groups
