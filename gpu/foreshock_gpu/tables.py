"""The tables that tell the kernels what to read; their fields are those of moments.cu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from foreshock.reducers.protocol import UnitView

TENSOR = np.dtype(
    [
        ("data", "<u8"),
        ("previous", "<u8"),
        ("numel", "<i8"),
        ("dtype", "<i8"),
        ("row", "<i8"),
        ("update_row", "<i8"),
        ("scale", "<f8"),
        ("scale_address", "<u8"),
        ("first_chunk", "<i8"),
        ("num_chunks", "<i8"),
        ("units", "<i8"),
        ("inner", "<i8"),
        ("lanes", "<i8"),
        ("unit_partials", "<u8"),
        ("unit_table", "<u8"),
        ("num_slices", "<i8"),
        ("fresh_units", "<i8"),
    ]
)
CHUNK = np.dtype(
    [
        ("tensor", "<i8"),
        ("kind", "<i8"),
        ("start", "<i8"),
        ("count", "<i8"),
        ("slice", "<i8"),
        ("outer_start", "<i8"),
        ("outer_count", "<i8"),
    ]
)
PARTIAL_BYTES = 2 * 9 * 8
"""Of a chunk: moments, range, zeros and NaNs, for the tensor and for its update."""
RECORD_BYTES = 11 * 8
UNIT_BYTES = 4 * 8
EXPONENTS = 256
OUTPUT_WORDS = 13 + 1 + 64

CHUNK_BYTES = 1 << 16
MAX_CHUNKS = 1024
"""A block reads 64 KB, or more of a tensor beyond 64 MB, so that merging stays short."""

THREADS = 256
ITEM_BYTES = (4, 2, 2, 8)
"""By dtype code."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One tensor to read: flat memory, where its statistics go, and its units if it has any."""

    data: int
    numel: int
    dtype: int
    row: int
    previous: int = 0
    update_row: int = -1
    view: UnitView | None = None


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """How the per-unit sums of one tensor are split: [slices of outer] x [groups of units]."""

    lanes: int
    units_per_chunk: int
    outer_per_slice: int
    num_slices: int


def plan_units(view: UnitView) -> UnitPlan:
    """Threads walk the units where these are innermost; else a warp walks the inside of one."""
    lanes = 1 if view.inner == 1 else 32
    per_chunk = THREADS // lanes
    per_slice = max(1, CHUNK_BYTES // (per_chunk * max(1, view.inner)))
    return UnitPlan(lanes, per_chunk, per_slice, -(-view.outer // per_slice))


def chunk_elements(numel: int, item_bytes: int) -> int:
    """Elements a chunk, a multiple of 16 bytes, so that every chunk is aligned like its tensor."""
    width = 16 // item_bytes
    wanted = max(CHUNK_BYTES // item_bytes, -(-numel // MAX_CHUNKS))
    return -(-wanted // width) * width


def build(
    readings: Sequence[Reading], *, scale: float, scale_address: int
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """The tensor table and the chunk table; addresses of unit sums are filled in by the caller.

    An empty tensor has no chunk: the second launch still counts it.
    """
    tensors = np.zeros(len(readings), TENSOR)
    chunks: list[npt.NDArray[np.void]] = []
    num_chunks = 0
    for index, reading in enumerate(readings):
        size = chunk_elements(reading.numel, ITEM_BYTES[reading.dtype])
        starts = np.arange(0, reading.numel, size, dtype=np.int64)
        part = np.zeros(len(starts), CHUNK)
        part["tensor"] = index
        part["start"] = starts
        part["count"] = np.minimum(size, reading.numel - starts)
        entry = tensors[index]
        entry["data"], entry["previous"] = reading.data, reading.previous
        entry["numel"], entry["dtype"] = reading.numel, reading.dtype
        entry["row"], entry["update_row"] = reading.row, reading.update_row
        entry["scale"], entry["scale_address"] = scale, scale_address
        entry["first_chunk"], entry["num_chunks"] = num_chunks, len(starts)
        chunks.append(part)
        num_chunks += len(part)
    for index, reading in enumerate(readings):
        if reading.view is None or reading.numel == 0:
            continue
        plan = plan_units(reading.view)
        entry = tensors[index]
        entry["units"], entry["inner"] = reading.view.units, reading.view.inner
        entry["lanes"], entry["num_slices"] = plan.lanes, plan.num_slices
        chunks.append(_unit_chunks(index, reading.view, plan))
    return tensors, np.concatenate(chunks) if chunks else np.zeros(0, CHUNK)


def _unit_chunks(tensor: int, view: UnitView, plan: UnitPlan) -> npt.NDArray[np.void]:
    groups = np.arange(0, view.units, plan.units_per_chunk, dtype=np.int64)
    slices = np.arange(plan.num_slices, dtype=np.int64)
    part = np.zeros(len(groups) * len(slices), CHUNK)
    part["tensor"], part["kind"] = tensor, 1
    part["start"] = np.tile(groups, len(slices))
    part["count"] = np.minimum(plan.units_per_chunk, view.units - part["start"])
    part["slice"] = np.repeat(slices, len(groups))
    part["outer_start"] = part["slice"] * plan.outer_per_slice
    part["outer_count"] = np.minimum(plan.outer_per_slice, view.outer - part["outer_start"])
    return part
