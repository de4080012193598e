"""The columns of a block: which frames each one covers, and their scalars.

A column is one frame (tier 1) or the frames whose `ord // tier` is equal (coarser tiers). Legend
for shapes: n columns, k scalars.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LENGTH: Final = struct.Struct("<I")
_ARRAYS: Final = {
    "ord0": "<i8",
    "ord1": "<i8",
    "attempt": "<i8",
    "step0": "<i8",
    "step1": "<i8",
    "wall_time": "<f8",
    "flags": "<u4",
    "present": "<u4",
    "nonfinite": "<u4",
    "low": "<f8",
    "high": "<f8",
    "mean": "<f8",
}
_PER_SCALAR: Final = ("present", "nonfinite", "low", "high", "mean")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameColumns:
    """Columns in order of `ord`, covering [ord0, ord1).

    Shapes: ord0 .. flags [n]; present .. mean [k, n]. `step0` and `step1` are the smallest and the
    largest step of a column, `wall_time` and `attempt` those of its first frame. `present` counts
    the frames that logged a scalar and `nonfinite` those that logged NaN or Inf; `low`, `high` and
    `mean` are over the finite values and NaN without any. In tier 1, `mean` is the value as logged.
    """

    ord0: Ints
    ord1: Ints
    attempt: Ints
    step0: Ints
    step1: Ints
    wall_time: Floats
    flags: npt.NDArray[np.uint32]
    names: tuple[str, ...]
    present: npt.NDArray[np.uint32]
    nonfinite: npt.NDArray[np.uint32]
    low: Floats
    high: Floats
    mean: Floats
    batch_ids: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.ord0)

    def take(self, chosen: slice) -> FrameColumns:
        """Some of the columns."""
        arrays = {name: getattr(self, name)[..., chosen] for name in _ARRAYS}
        return FrameColumns(names=self.names, batch_ids=self.batch_ids[chosen], **arrays)


def single_frames(
    *,
    ord0: int,
    attempt: int,
    steps: Ints,
    wall_times: Floats,
    flags: npt.NDArray[np.uint32],
    names: tuple[str, ...],
    scalars: Floats,
    present: npt.NDArray[np.uint8],
    batch_ids: tuple[str | None, ...],
) -> FrameColumns:
    """Columns of tier 1; `scalars` and `present` are [n, k], as in a batch."""
    ords = np.arange(ord0, ord0 + len(steps), dtype=np.int64)
    logged = present.astype(bool).T
    values = np.where(logged, scalars.T, np.nan)
    finite = np.where(np.isfinite(values), values, np.nan)
    return FrameColumns(
        ord0=ords,
        ord1=ords + 1,
        attempt=np.full(len(ords), attempt, np.int64),
        step0=steps,
        step1=steps,
        wall_time=wall_times,
        flags=flags,
        names=names,
        present=logged.astype(np.uint32),
        nonfinite=(logged & ~np.isfinite(values)).astype(np.uint32),
        low=finite,
        high=finite,
        mean=values,
        batch_ids=batch_ids or (None,) * len(ords),
    )


def join(parts: Sequence[FrameColumns]) -> FrameColumns:
    """Columns one after another; a scalar that a part does not have is absent there."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    arrays: dict[str, npt.NDArray[Any]] = {}
    for field, dtype in _ARRAYS.items():
        pieces = [getattr(part, field) for part in parts]
        if field in _PER_SCALAR:
            pieces = [
                _spread(piece, part.names, names, dtype)
                for piece, part in zip(pieces, parts, strict=True)
            ]
        arrays[field] = np.concatenate(pieces, axis=-1)
    batch_ids = tuple(item for part in parts for item in part.batch_ids)
    return FrameColumns(names=names, batch_ids=batch_ids, **arrays)


def pool(columns: FrameColumns, tier: int) -> FrameColumns:
    """The columns of a coarser tier."""
    starts = group_starts(columns.ord0, tier)
    weights = np.where(np.isnan(columns.low), 0, columns.present - columns.nonfinite)
    total = np.add.reduceat(weights, starts, axis=1)
    finite_mean = np.where(weights > 0, columns.mean, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.add.reduceat(finite_mean * weights, starts, axis=1) / np.where(
            total, total, np.nan
        )
    return FrameColumns(
        ord0=columns.ord0[starts],
        ord1=np.maximum.reduceat(columns.ord1, starts),
        attempt=columns.attempt[starts],
        step0=np.minimum.reduceat(columns.step0, starts),
        step1=np.maximum.reduceat(columns.step1, starts),
        wall_time=columns.wall_time[starts],
        flags=np.bitwise_or.reduceat(columns.flags, starts),
        names=columns.names,
        present=np.add.reduceat(columns.present, starts, axis=1),
        nonfinite=np.add.reduceat(columns.nonfinite, starts, axis=1),
        low=np.fmin.reduceat(columns.low, starts, axis=1),
        high=np.fmax.reduceat(columns.high, starts, axis=1),
        mean=mean,
    )


def group_starts(ords: Ints, tier: int) -> npt.NDArray[np.intp]:
    """Where a new `ord // tier` begins; the ords are ascending and at least one."""
    return np.flatnonzero(np.diff(ords // tier, prepend=-1))


def encode_columns(columns: FrameColumns) -> bytes:
    """The columns as compressed bytes."""
    meta = {"names": columns.names, "n": len(columns), "batch_ids": None}
    if any(item is not None for item in columns.batch_ids):
        meta["batch_ids"] = columns.batch_ids
    head = json.dumps(meta).encode()
    body = [
        np.ascontiguousarray(getattr(columns, name), dtype).tobytes()
        for name, dtype in _ARRAYS.items()
    ]
    return zstandard.compress(_LENGTH.pack(len(head)) + head + b"".join(body), 3)


def decode_columns(data: bytes) -> FrameColumns:
    """The columns that `encode_columns` wrote."""
    plain = zstandard.decompress(data)
    (length,) = _LENGTH.unpack_from(plain)
    offset = _LENGTH.size + length
    meta = json.loads(plain[_LENGTH.size : offset])
    n, k = meta["n"], len(meta["names"])
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, dtype in _ARRAYS.items():
        shape = (k, n) if name in _PER_SCALAR else (n,)
        count = int(np.prod(shape))
        arrays[name] = (
            np.frombuffer(plain, dtype, count, offset) if count else np.zeros(0, dtype)
        ).reshape(shape)
        offset += count * np.dtype(dtype).itemsize
    batch_ids = tuple(meta["batch_ids"] or (None,) * n)
    return FrameColumns(names=tuple(meta["names"]), batch_ids=batch_ids, **arrays)


def _spread(
    array: npt.NDArray[Any], present: tuple[str, ...], wanted: tuple[str, ...], dtype: str
) -> npt.NDArray[Any]:
    spread = np.full((len(wanted), array.shape[1]), np.nan if "f" in dtype else 0, dtype)
    for row, name in enumerate(present):
        spread[wanted.index(name)] = array[row]
    return spread
