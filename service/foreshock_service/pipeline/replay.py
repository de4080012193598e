"""Replays a stored run through detection under other configurations; nothing is written.

All configurations read the same frames with the same code, so that what differs between them comes
of the configuration alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from foreshock.wire import KINDS, FrameFlag, measured_flag

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.detection_rules import in_force
from foreshock_service.domain.facts import RunFacts, facts_of
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Incident, IncidentChange, State
from foreshock_service.incidents.comparison import RankedIncident
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT
from foreshock_service.pipeline.session import DetectionSession
from foreshock_service.store import detection, detection_rules, head, incidents, runs
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store

FRAMES_AT_ONCE: Final = 256
MAX_INCIDENTS: Final = 10_000
LEAST_VALUES: Final = 1000
"""A frame counts as so many values at least: the detectors' own work on it."""

_MEASURED: Final = FrameFlag(sum(measured_flag(kind) for kind in KINDS))

OnChange = Callable[[int, int, IncidentChange], None]
"""Is given the number of the configuration, the rank, and the change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A run under one configuration: an alert is an incident that opens."""

    num_steps: int
    incidents: tuple[RankedIncident, ...]

    @property
    def alerts_per_1000(self) -> float:
        """Alerts per 1000 steps; 0 for a run without steps."""
        return 1000.0 * len(self.incidents) / self.num_steps if self.num_steps else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the live service knows of a run, and reasons why a replay may say something else."""

    incidents: tuple[RankedIncident, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReplay:
    """One run: a `Replayed` for each configuration, in their order, and what was recorded."""

    run_id: str
    name: str
    ranks: tuple[int, ...]
    num_frames: int
    num_unread: int
    replayed: tuple[Replayed, ...]
    recorded: Recorded


def config_in_force(store: Store, run_id: str) -> EngineConfig:
    """The configuration that the live service goes by for a run: its own, its project's, default.

    Raises:
        NotFound: there is no such run.
    """
    with store.read() as session:
        document = in_force(*detection_rules.of_run(session, runs.get(session, run_id)))
    try:
        return EngineConfig.from_document(document)
    except ValueError:
        # Set under another version: detection goes by its defaults.
        return EngineConfig()


@dataclass(slots=True)
class _Line:
    """One configuration on its way through a rank; `final` is each incident as it stands now."""

    session: DetectionSession
    final: dict[int, Incident] = field(default_factory=dict)

    def push(self, frame: Frame) -> list[IncidentChange]:
        """What the next frame changed."""
        changes = self.session.push(frame).changes
        for change in changes:
            self.final[change.incident.number] = change.incident
        for incident in self.session.incidents():
            self.final[incident.number] = incident
        return changes


def replay_run(
    store: Store,
    run_id: str,
    configs: Sequence[EngineConfig],
    *,
    max_values: int | None = None,
    on_change: OnChange | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> RunReplay:
    """Every rank of a run under each configuration; `on_progress` is given a rank and its frames.

    Frames are read a few at a time, each time in a transaction of its own. `max_values` bounds the
    statistics that are read, from the first frame of the lowest rank on; the rest stays unread.

    Raises:
        NotFound: there is no such run.
    """
    with store.read() as session:
        run = runs.get(session, run_id)
        heads = head.heads(session, [run_id])
    ranks = [item.rank for item in heads]
    room = math.inf if max_values is None else max_values
    num_read = 0
    found: list[list[RankedIncident]] = [[] for _ in configs]
    num_steps = num_bare = 0
    for rank in ranks:
        lines = [_line(config, facts_of(run.info), found[i]) for i, config in enumerate(configs)]
        frames, bare, values = _replay_rank(
            store, run_id, rank, lines, room, on_change, on_progress
        )
        room, num_read = room - values, num_read + frames
        num_steps, num_bare = max(num_steps, frames), num_bare + bare
        for i, line in enumerate(lines):
            found[i] += [RankedIncident(rank, item) for _, item in sorted(line.final.items())]
    return RunReplay(
        run_id=run_id,
        name=run.name,
        ranks=tuple(ranks),
        num_frames=num_read,
        num_unread=max(0, sum(item.next_ord for item in heads) - num_read),
        replayed=tuple(Replayed(num_steps=num_steps, incidents=tuple(part)) for part in found),
        recorded=_recorded(store, run_id, ranks, num_bare),
    )


def _line(config: EngineConfig, facts: RunFacts, before: Sequence[RankedIncident]) -> _Line:
    session = DetectionSession(config, facts)
    # The ranks of a run share their incidents' numbers.
    session.tracker.number_from(1 + max((i.incident.number for i in before), default=0))
    return _Line(session)


def _replay_rank(
    store: Store,
    run_id: str,
    rank: int,
    lines: Sequence[_Line],
    room: float,
    on_change: OnChange | None,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[int, int, int]:
    """How many frames were read, of how many retention has taken the statistics, and how many
    values they had: at most one reading more than there is `room` for."""
    num_frames = num_bare = num_values = 0
    while num_values < room:
        with store.read() as session:
            frames = read_frames(session, run_id, rank, num_frames, FRAMES_AT_ONCE)
        for frame in frames:
            num_bare += _is_bare(frame)
            # A frame of nothing but scalars is work, too.
            num_values += max(frame.stats.size, LEAST_VALUES)
            for i, line in enumerate(lines):
                for change in line.push(frame):
                    if on_change is not None:
                        on_change(i, rank, change)
        num_frames += len(frames)
        if on_progress is not None:
            on_progress(rank, num_frames)
        if len(frames) < FRAMES_AT_ONCE:
            break
    return num_frames, num_bare, num_values


def _is_bare(frame: Frame) -> bool:
    """Whether something was measured on the frame, and nothing of it is there any more."""
    if not frame.flags & _MEASURED or not frame.stats.size:
        return False
    return bool(np.isnan(frame.stats).all())


def _recorded(store: Store, run_id: str, ranks: Sequence[int], num_bare: int) -> Recorded:
    with store.read() as session:
        every = incidents.list_incidents(session, run_id, limit=MAX_INCIDENTS)
        stored = [item for item in every if not _is_of_another_stage(item.incident)]
        behind = 0
        for rank in ranks:
            newest = head.get(session, run_id, rank)
            if newest is not None:
                behind += newest.next_ord - detection.next_ord(session, run_id, rank)
    reasons = []
    if behind:
        reasons.append(f"the service has not read {_frames(behind)} yet")
    if num_bare:
        reasons.append(
            f"statistics of {_frames(num_bare)} are not there, most likely past their retention: "
            "the replay saw only their scalars"
        )
    reasons += [
        f"incident {item.number} was resolved by {item.incident.acknowledged_by}"
        for item in reversed(stored)
        if item.incident.state is State.RESOLVED
    ]
    return Recorded(
        incidents=tuple(RankedIncident(item.rank, item.incident) for item in reversed(stored)),
        reasons=tuple(reasons),
    )


def _is_of_another_stage(incident: Incident) -> bool:
    """Told of what did not come, or of all ranks together: the frames of one rank hold neither."""
    # `replica_divergence` is told from the scalars of one rank, too; only that one can be replayed.
    return incident.kind == SILENT_CLIENT or "num_compared" in incident.evidence


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
