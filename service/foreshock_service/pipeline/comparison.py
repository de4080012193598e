"""A comparison of the ranks of one run: rows of each rank in, incidents out; a pure step.

The rows of all ranks are merged by step. Each rank has a cursor of its own, and a step that one of
them lacks is passed over on the others. Nothing is buffered between two units of work: what a rank
is ahead by is read again when the others have come as far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from foreshock.wire import STATISTICS, FrameFlag

from foreshock_service.detectors.codec import UNREADABLE, decode_state, encode_state
from foreshock_service.detectors.ranks import COMPARED, RankComparison, WeightRow
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Incident, IncidentChange
from foreshock_service.incidents.tracker import IncidentTracker

STATE_FORMAT: Final = 2
_COLUMNS: Final = [STATISTICS.index(name) for name in (*COMPARED, "count")]


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """The frames of one rank from its cursor on, as far as they were read, up to `end_ord`.

    `rows` are those with weights, in order; `frames` the whole frames by ord, of the lowest rank
    only.
    """

    rows: Sequence[WeightRow]
    end_ord: int
    frames: Mapping[int, Frame]


@dataclass(frozen=True, slots=True)
class Compared:
    """What a unit of work brought: findings with their incident's number, changes, incidents."""

    findings: list[tuple[Finding, int, Frame]]
    changes: list[IncidentChange]
    touched: dict[int, Incident]
    has_moved: bool


class Comparison:
    """One run's comparison; saved and taken up again at any row, it goes on as if never stopped."""

    def __init__(self) -> None:
        self.cursors: dict[int, int] = {}
        self.tracker = IncidentTracker()
        self._rule = RankComparison()

    def push(self, stretches: Mapping[int, Stretch], hosts: Mapping[int, str]) -> Compared:
        """Compare the steps that all stretches have, and move the cursors behind them."""
        done = Compared([], [], {}, False)
        at = dict.fromkeys(stretches, 0)
        lowest = min(stretches)
        while all(at[rank] < len(stretches[rank].rows) for rank in stretches):
            heads = {rank: stretches[rank].rows[at[rank]] for rank in stretches}
            target = max(row.step for row in heads.values())
            behind = [rank for rank, row in heads.items() if row.step < target]
            for rank in behind or stretches:
                at[rank] += 1
            if not behind:
                frame = stretches[lowest].frames[heads[lowest].ord]
                self._compare(frame, heads, hosts, done)
        moved = False
        for rank, stretch in stretches.items():
            rest = stretch.rows[at[rank] :]
            cursor = rest[0].ord if rest else stretch.end_ord
            moved |= cursor != self.cursors.get(rank)
            self.cursors[rank] = cursor
        return Compared(done.findings, done.changes, done.touched, moved)

    def _compare(
        self,
        frame: Frame,
        heads: Mapping[int, WeightRow],
        hosts: Mapping[int, str],
        done: Compared,
    ) -> None:
        findings = self._rule.push(heads, hosts)
        changes = self.tracker.push(frame, findings)
        done.findings.extend((f, number, frame) for f, number in self.tracker.kept)
        done.changes.extend(changes)
        for incident in (*(change.incident for change in changes), *self.tracker.incidents):
            done.touched[incident.number] = incident

    def state(self) -> bytes:
        """Everything that `restore` needs."""
        return encode_state(
            {
                "format": STATE_FORMAT,
                "cursors": self.cursors,
                "rule": self._rule.state(),
                "tracker": self.tracker.state(),
            }
        )

    def restore(self, data: bytes) -> None:
        """Take up a state.

        Raises:
            ValueError: the bytes are no state, or one of another version. Nothing is to be done
                with this comparison any more.
        """
        try:
            state: dict[str, Any] = decode_state(data)
            if state["format"] != STATE_FORMAT:
                raise ValueError(f"its format is {state['format']!r}, expected {STATE_FORMAT}")
            self.cursors = {int(rank): int(ord_) for rank, ord_ in state["cursors"].items()}
            self._rule.restore(state["rule"])
            self.tracker.restore(state["tracker"])
        except UNREADABLE as error:
            raise ValueError(f"comparison state of another version: {error!r}") from error


def stretch_of(frames: Sequence[Frame], *, attempt: int, from_ord: int, whole: bool) -> Stretch:
    """What a comparison needs of the frames of one rank; rows of other attempts are left out."""
    weights: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}
    rows, kept = [], {}
    for frame in frames:
        if frame.attempt != attempt or not frame.flags & FrameFlag.MEASURED_WEIGHT:
            continue
        schema = frame.schema
        if schema.statistics != STATISTICS:
            continue
        if schema.hash not in weights:
            index = tuple(i for i, s in enumerate(schema.series) if s.kind == "weight")
            weights[schema.hash] = tuple(schema.series[i].name for i in index), index
        names, index = weights[schema.hash]
        if not names:
            continue
        values = frame.stats[np.array(index)][:, _COLUMNS].astype(np.float64)
        rows.append(WeightRow(frame.attempt, frame.step, frame.ord, schema, values, names, index))
        if whole:
            kept[frame.ord] = frame
    end_ord = frames[-1].ord + 1 if frames else from_ord
    return Stretch(rows, end_ord, kept)
