"""Logged rows, one after another, as frames: what belongs to one step, and what is a restart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from foreshock.wire import FrameFlag, SeriesSchema

from foreshock_service.domain.frames import Frame
from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.names import LOSS

NO_SERIES: Final = SeriesSchema(())
PATIENCE_ROWS: Final = 10_000
"""Without a loss in so many rows a file is something else, and is not read to its end."""
NO_TIME: Final = 0.0
"""The wall time of a row that was logged without one: a pace that nobody measured is not shown."""
_NO_STATS: Final = np.zeros((0, len(NO_SERIES.statistics)), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRow:
    """Values that were logged together. `joins` marks those that only ever complete the row of
    their step: a metric that counts its own steps (epochs, samples) must not look like one."""

    step: int
    values: Mapping[str, float]
    wall_time: float | None = None
    joins: bool = False


@dataclass(slots=True)
class _Open:
    step: int
    values: dict[str, float]
    wall_time: float | None
    attempt: int


def frames_from(rows: Iterable[LoggedRow]) -> Iterator[Frame]:
    """Frames in the order of time.

    - Rows of the same step are one frame, with the newest value of each name: many tools log the
      loss, the rate and an evaluation apart, and some log a row twice.
    - Another loss of the same step is a frame of its own.
    - A loss whose step goes back begins an attempt: the run was resumed from a checkpoint. What
      goes back without a loss waits for one of its step, and what went ahead without one when the
      loss goes on behind it counts something else, such as samples: both are left out.

    Raises:
        NoRun: no row had a loss, in the end or for too long.
    """
    seen_loss = False
    for ord_, row in enumerate(_joined(rows)):
        seen_loss = seen_loss or LOSS in row.values
        if not seen_loss and ord_ >= PATIENCE_ROWS:
            raise NoRun(f"none of the first {PATIENCE_ROWS} rows has a loss")
        yield Frame(
            ord=ord_,
            attempt=row.attempt,
            step=row.step,
            wall_time=NO_TIME if row.wall_time is None else row.wall_time,
            flags=FrameFlag(0),
            scalars=row.values,
            stats=_NO_STATS,
            schema=NO_SERIES,
        )
    if not seen_loss:
        raise NoRun("no row has a loss")


def _joined(rows: Iterable[LoggedRow]) -> Iterator[_Open]:
    current: _Open | None = None
    aside: LoggedRow | None = None
    newest_loss_step, attempt = -1, 0
    broken: Unreadable | None = None
    for row in _until_broken(rows):
        if isinstance(row, Unreadable):
            broken = row
            break
        values = dict(row.values)
        if current is not None and row.step == current.step:
            if LOSS not in values or _same(current.values.get(LOSS, values[LOSS]), values[LOSS]):
                current.values.update(values)
                newest_loss_step = row.step if LOSS in values else newest_loss_step
                continue
        elif row.joins:
            continue
        elif current is not None and row.step < current.step:
            if LOSS not in values:
                same = aside is not None and aside.step == row.step
                held = {**aside.values, **values} if same and aside is not None else values
                aside = LoggedRow(step=row.step, values=held, wall_time=row.wall_time)
                continue
            if LOSS not in current.values:
                current = None
            attempt += row.step < newest_loss_step
        if current is not None:
            yield current
        if aside is not None and aside.step == row.step:
            values = {**aside.values, **values}
        aside = None
        if LOSS in values:
            newest_loss_step = row.step
        current = _Open(row.step, values, row.wall_time, attempt)
    if current is not None:
        yield current
    if broken is not None:
        raise broken


def _until_broken(rows: Iterable[LoggedRow]) -> Iterator[LoggedRow | Unreadable]:
    """The rows, and at last why there are no more: the row before must still be handed on."""
    try:
        yield from rows
    except Unreadable as error:
        yield error


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)
