"""The seam between a recorded run and a peer: rows in, triggers out, and one wrapper for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from foreshock_service.detectors.layout import Layout, layout_of
from foreshock_service.detectors.row import Row, row_of
from foreshock_service.domain.frames import Frame
from foreshock_service.incidents.notification import MAX_SERIES

from benchmarks.detection.recordings import Recording
from benchmarks.detection.told import Alert

HOLD_ROWS: Final = 25
"""A rule that goes on triggering is one alert: the peers are clippers, callbacks and checks without
a life cycle of alerts, so that this is ours, the same for all, and kind to rules that burst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row, worked out once for all peers."""

    number: int
    frame: Frame
    row: Row
    layout: Layout

    def scalar(self, name: str) -> float | None:
        """A scalar of this row, None where it was not logged."""
        return self.frame.scalars.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What a rule says on a row; `series` are names, the most suspicious first."""

    rule: str
    kind: str
    severity: str = "warning"
    series: tuple[str, ...] = ()


class Peer(Protocol):
    """A published rule that reads a run row by row and never looks ahead."""

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """What it says of this row."""
        ...


def rows_of(recording: Recording) -> Iterator[Seen]:
    """The rows with the statistics derived from them."""
    layout = layout_of(recording.schema)
    for number, frame in enumerate(recording.frames()):
        with np.errstate(all="ignore"):
            row = row_of(frame, layout)
        yield Seen(number=number, frame=frame, row=row, layout=layout)


class Alarm:
    """Turns a peer's triggers into alerts: a new one if the rule was calm for `HOLD_ROWS` rows."""

    def __init__(self, run_id: str, peer: Peer) -> None:
        self._run_id = run_id
        self._peer = peer
        self._last: dict[str, int] = {}
        self.alerts: list[Alert] = []

    def push(self, seen: Seen) -> None:
        """Take the next row in."""
        for trigger in self._peer.triggers(seen):
            last = self._last.get(trigger.rule)
            self._last[trigger.rule] = seen.number
            if last is not None and seen.number - last <= HOLD_ROWS:
                continue
            self.alerts.append(
                {
                    "run": self._run_id,
                    "step": seen.frame.step,
                    "kind": trigger.kind,
                    "severity": trigger.severity,
                    "series": list(trigger.series[:MAX_SERIES]),
                }
            )
