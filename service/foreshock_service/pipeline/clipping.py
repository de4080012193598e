"""Shadow clipping of a stored run: committed frames through the rules, and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from foreshock_service.clipping.account import ShadowResult
from foreshock_service.clipping.shadow import Shadow, SickSteps
from foreshock_service.domain.incidents import Incident, State
from foreshock_service.errors import NotFound
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT
from foreshock_service.store import head, runs, schemas
from foreshock_service.store.frames import read_frames
from foreshock_service.store.incidents import list_incidents
from foreshock_service.store.session import ReadSession, Store

FRAMES_AT_ONCE: Final = 256
MAX_INCIDENTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Frames [from_ord, to_ord) of a rank, out of `end_ord` that it has."""

    from_ord: int
    to_ord: int
    end_ord: int

    def note(self) -> str:
        """What a reader must know of frames that were not read; empty where all were."""
        if (self.from_ord, self.to_ord) == (0, self.end_ord):
            return ""
        which = f"Frames {self.from_ord} to {self.to_ord} of {self.end_ord} were read"
        return f"{which}; the rules begin there, as if the run did."


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What each rule would have done on the frames of `span`; there it began to know anything."""

    rank: int
    span: Span
    num_frames: int
    results: tuple[ShadowResult, ...]


def span_of(
    store: Store,
    run_id: str,
    rank: int,
    *,
    from_ord: int | None = None,
    to_ord: int | None = None,
    max_frames: int | None = None,
    max_values: int | None = None,
) -> Span:
    """The wanted frames of a rank, or as many as may be read: the last ones before `to_ord`, unless
    `from_ord` says where to begin. `max_values` bounds frames times series times statistics.

    Raises:
        NotFound: there is no such run, or it has no frame of this rank.
    """
    with store.read() as session:
        runs.get(session, run_id)
        newest = head.get(session, run_id, rank)
        if newest is None:
            raise NotFound(f"run {run_id!r} has no frames of rank {rank}: GET /runs/{run_id}")
        width = 1
        if newest.schema_hash is not None:
            schema = schemas.load(session, newest.schema_hash)
            width = max(1, len(schema.series) * len(schema.statistics))
    end = newest.next_ord
    most = end if max_frames is None else max_frames
    if max_values is not None:
        most = min(most, max(FRAMES_AT_ONCE, max_values // width))
    last = end if to_ord is None else min(to_ord, end)
    if from_ord is None:
        first = max(0, last - most)
    else:
        first = min(from_ord, last)
        last = min(last, first + most)
    return Span(from_ord=first, to_ord=last, end_ord=end)


def shadow_clipping(
    store: Store,
    run_id: str,
    rank: int,
    span: Span,
    *,
    chosen: Mapping[str, Mapping[str, float]] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ShadowReport:
    """Replay the frames of a span through clipping rules.

    Frames are read a few at a time, in transactions of their own, so that a long replay holds
    nobody up.

    Raises:
        ValueError: `chosen` names a rule or parameter that does not exist, or a value outside its
            range.
    """
    with store.read() as session:
        shadow = Shadow(chosen, sick=sick_steps(session, run_id, rank))
    for first in range(span.from_ord, span.to_ord, FRAMES_AT_ONCE):
        limit = min(FRAMES_AT_ONCE, span.to_ord - first)
        with store.read() as session:
            frames = read_frames(session, run_id, rank, first, limit)
        for frame in frames:
            shadow.push(frame)
        if on_progress is not None:
            on_progress(first + limit)
    return ShadowReport(
        rank=rank, span=span, num_frames=shadow.num_frames, results=tuple(shadow.results())
    )


def sick_steps(session: ReadSession, run_id: str, rank: int) -> list[SickSteps]:
    """The steps of a rank's recorded incidents, from the onset to the recovery; not those in which
    it sent nothing, which says nothing of its gradients."""
    stored = list_incidents(session, run_id, limit=MAX_INCIDENTS)
    return [
        SickSteps(item.incident.onset_step, _end(item.incident))
        for item in stored
        if item.rank == rank and item.incident.kind != SILENT_CLIENT
    ]


def _end(incident: Incident) -> int | None:
    if incident.recovered_step is not None:
        return incident.recovered_step
    return incident.updated_step + 1 if incident.state is State.RESOLVED else None
