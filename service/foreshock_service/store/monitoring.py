"""What the monitor costs a run and what it lost, from the frames, counters and events of a rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.domain.runs import RunEvent, RunHead
from foreshock_service.store import events
from foreshock_service.store.extent import Range
from foreshock_service.store.session import ReadSession
from foreshock_service.store.windows import scalar_window

RECENT_FRAMES: Final = 64
"""The client decides on as many steps."""
MAX_ERRORS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """The monitor's own account in the newest attempt of one rank.

    Shares are of the training's wall time, None before there is any. `thinned` is the newest event
    of a cadence that the client has changed, where it still measures less often than it was set;
    `thinned_since` is the step at which that began. `errors` are the newest, oldest first.
    """

    share: float | None
    recent_share: float | None
    counters: Mapping[str, float]
    thinned: RunEvent | None
    thinned_since: int | None
    errors: tuple[RunEvent, ...]


def monitoring_of(session: ReadSession, newest: RunHead) -> Monitoring:
    """The account of the rank that `newest` is the head of."""
    mine = [
        event
        for event in events.list_events(
            session, newest.run_id, kinds=("cadence", "client_error"), limit=1000
        )
        if (event.rank, event.attempt) == (newest.rank, newest.attempt)
    ]
    thinned, since = _thinned([event for event in mine if event.kind == "cadence"])
    training = newest.counters.get("training_seconds", 0.0)
    overhead = newest.counters.get("overhead_seconds", 0.0)
    return Monitoring(
        share=min(1.0, overhead / training) if training > 0 else None,
        recent_share=_recent(session, newest),
        counters=newest.counters,
        thinned=thinned,
        thinned_since=since,
        errors=tuple(event for event in mine if event.kind == "client_error")[-MAX_ERRORS:],
    )


def _thinned(cadences: list[RunEvent]) -> tuple[RunEvent | None, int | None]:
    since: int | None = None
    newest: RunEvent | None = None
    for event in cadences:
        if event.data.get("thinned"):
            since = event.step if newest is None else since
            newest = event
        elif event.data.get("every"):
            newest = since = None
    return newest, since


def _recent(session: ReadSession, newest: RunHead) -> float | None:
    names = ("monitor/seconds", "step_seconds")
    if "step_seconds" not in newest.scalars or not newest.next_ord:
        return None
    window = scalar_window(
        session,
        newest.run_id,
        newest.rank,
        names=names,
        wanted=Range(from_ord=max(0, newest.next_ord - RECENT_FRAMES), to_ord=newest.next_ord),
        max_columns=RECENT_FRAMES,
    )
    spent, seconds = (float(np.nansum(row)) for row in window.mean)
    return min(1.0, spent / seconds) if seconds > 0 else None
