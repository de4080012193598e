"""The horizontal extent of a window: which ords, in columns of which width, from which tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from foreshock_service.errors import NotFound, Unprocessable
from foreshock_service.store import head
from foreshock_service.store.blocks import SPAN
from foreshock_service.store.pieces import ALL_TIERS, pieces
from foreshock_service.store.session import ReadSession

MAX_COLUMNS: Final = 4096
"""More than the pixels of a wide screen."""

_FINEST_POOLED: Final = 4
"""Columns of up to 4 frames are pooled from full resolution; beyond it tier 16 reads 16 times
less, and its columns still fill a screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a page asks for: steps (inclusive) or ords (`to_ord` exclusive); None is open."""

    from_step: int | None = None
    to_step: int | None = None
    from_ord: int | None = None
    to_ord: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Columns `first_column + i` of `width` frames each: column c covers ords
    [c * width, (c + 1) * width), so that columns stay in place while a run grows."""

    from_ord: int
    to_ord: int
    width: int
    tier: int

    @property
    def first_column(self) -> int:
        """Number of the first column."""
        return self.from_ord // self.width

    @property
    def num_columns(self) -> int:
        """How many columns the extent touches."""
        if self.to_ord <= self.from_ord:
            return 0
        return (self.to_ord - 1) // self.width - self.first_column + 1

    def ords(self) -> npt.NDArray[np.int64]:
        """The first ord of each column; of the first one, the first that is inside."""
        starts = np.arange(self.num_columns, dtype=np.int64) + self.first_column
        return np.maximum(starts * self.width, self.from_ord)


def find_extent(
    session: ReadSession, run_id: str, rank: int, wanted: Range, max_columns: int
) -> Extent:
    """The columns of a range: at most `max_columns`, and at least a quarter of it if the range has
    as many frames.

    Raises:
        NotFound: the run has no such rank.
        Unprocessable: `max_columns` is out of bounds.
    """
    if not 1 <= max_columns <= MAX_COLUMNS:
        raise Unprocessable(f"columns must be 1 to {MAX_COLUMNS}, got {max_columns}")
    newest = head.get(session, run_id, rank)
    if newest is None:
        raise NotFound(f"run {run_id!r} has no rank {rank}")
    start, end = max(0, wanted.from_ord or 0), newest.next_ord
    if wanted.to_ord is not None:
        end = min(end, wanted.to_ord)
    if start < end and (wanted.from_step is not None or wanted.to_step is not None):
        start, end = _ords_of_steps(session, run_id, rank, start, end, wanted)
    return extent_of(start, max(start, end), max_columns)


def extent_of(start: int, end: int, max_columns: int) -> Extent:
    """At most `max_columns` columns over the ords [start, end)."""
    width = _width(start, end, max_columns)
    tier = max(tier for tier in ALL_TIERS if tier <= width)
    # Whole columns of the tier: a part of one cannot be read.
    return Extent(from_ord=start // tier * tier, to_ord=end, width=width, tier=tier)


def _width(start: int, end: int, max_columns: int) -> int:
    width = 1
    while end > start and (end - 1) // width - start // width + 1 > max_columns:
        width *= 2
        if _FINEST_POOLED < width < ALL_TIERS[1]:
            width = ALL_TIERS[1]
    return width


def _ords_of_steps(
    session: ReadSession, run_id: str, rank: int, start: int, end: int, wanted: Range
) -> tuple[int, int]:
    """From the first frame at or after `from_step` to the last at or before `to_step`.

    A resumed run has been at a step more than once: all its passes lie inside.
    """
    low = -1 if wanted.from_step is None else wanted.from_step
    high = np.iinfo(np.int64).max if wanted.to_step is None else wanted.to_step
    first, last = end, start
    coarse = pieces(session, run_id, rank, start, end, tier=SPAN, need_stats=False)
    for item in coarse:
        columns = item.columns
        after, before = columns.step1 >= low, columns.step0 <= high
        if after.any():
            first = min(first, int(columns.ord0[np.argmax(after)]))
        if before.any():
            last = max(last, int(columns.ord1[np.flatnonzero(before)[-1]]))
    if first >= last:
        return start, start
    return (
        _refine(session, run_id, rank, max(start, first), end, low, from_left=True),
        _refine(session, run_id, rank, start, min(end, last), high, from_left=False),
    )


def _refine(
    session: ReadSession,
    run_id: str,
    rank: int,
    start: int,
    end: int,
    step: int,
    *,
    from_left: bool,
) -> int:
    """The exact ord within the span at which the coarse search ended."""
    lo, hi = (start, min(end, start + SPAN)) if from_left else (max(start, end - SPAN), end)
    found = hi if from_left else lo
    for item in pieces(session, run_id, rank, lo, hi, tier=1, need_stats=False):
        columns = item.columns
        if from_left and (columns.step0 >= step).any():
            return max(start, int(columns.ord0[np.argmax(columns.step0 >= step)]))
        if not from_left and (columns.step0 <= step).any():
            found = int(columns.ord1[np.flatnonzero(columns.step0 <= step)[-1]])
    return found
