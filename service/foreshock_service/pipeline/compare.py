"""The stage that compares the ranks of a run with one another.

Detection judges each rank alone. This stage reads the committed rows of all ranks of a run's newest
attempt at the steps that all of them have, and commits findings, incidents, alerts and its state in
one transaction. The state is one row in `detector_state`, under a rank that no process can have;
its `next_ord` counts commits, and is compared and set. A kill at any moment repeats nothing and
loses nothing.

It works under the run's lease, as detection does, so that one process works on a run. It shares the
name of the detection of its process; a unit of work that opens an incident interrupts the lease,
since both of them give out numbers.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.incidents import Incident, Transition
from foreshock_service.domain.runs import Run, RunHead
from foreshock_service.errors import Conflict
from foreshock_service.incidents.verdict import sentence
from foreshock_service.pipeline.comparison import Compared, Comparison, stretch_of
from foreshock_service.pipeline.telling import Audience, tell
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import arrivals, detection, head, incidents
from foreshock_service.store.frames import read_frames
from foreshock_service.store.incidents import StoredIncident
from foreshock_service.store.session import Store, WriteSession

logger = logging.getLogger(__name__)

T = TypeVar("T")

RUN_WIDE: Final = -1
"""The rank under which the state of a whole run is kept."""
ROWS_A_UNIT: Final = 2048
"""Frames of all ranks together that a unit of work reads."""
FEWEST_FRAMES, MOST_FRAMES = 4, 64
LATE_FRAMES: Final = 1024
"""A run that is first seen with more frames than this is compared from its last ones on."""
NEWS_SECONDS: Final = 86_400.0
ARRIVAL_SECONDS: Final = 60.0
"""How long ranks of an attempt that have not been heard of are waited for; some are never watched.
Without them a minority may look like a majority."""
REMEMBERED: Final = 4096
"""Runs remembered to have nothing new, and runs whose ranks are waited for."""


class Compare:
    """One comparing worker; any number of them, in any processes, may share a database."""

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        *,
        owner: str | None = None,
        clock: Callable[[], float] = time.time,
        lease_seconds: float = 15.0,
        rows_a_unit: int = ROWS_A_UNIT,
    ) -> None:
        self._store = store
        self._channels = settings.channels()
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._rows_a_unit = rows_a_unit
        self._idle: OrderedDict[str, list[tuple[int, int, int]]] = OrderedDict()
        self._awaited: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.owner = owner or uuid.uuid4().hex
        """Names this worker in the leases that it holds."""

    def run_once(self) -> int:
        """One unit of work for each run with several ranks and new frames; how many there were."""
        heard_after = self._clock() - NEWS_SECONDS
        with self._store.read() as session:
            several = arrivals.runs_of_several_ranks(session, heard_after=heard_after)
            heads = head.rank_heads(session, [run.run_id for run in several])
        done = 0
        for run in several:
            ranks = _newest_attempt(heads[run.run_id])
            marks = [(item.rank, item.attempt, item.next_ord) for item in ranks]
            if len(ranks) < 2 or self._idle.get(run.run_id) == marks:
                continue
            if self._awaits_others(run, ranks):
                continue
            worked = self._advance(run, ranks)
            done += bool(worked)
            if worked is False:
                _remember(self._idle, run.run_id, marks)
        return done

    def _awaits_others(self, run: Run, heads: Sequence[RunHead]) -> bool:
        """Whether ranks of this attempt are missing that may still come."""
        world = run.info.get("world")
        if not isinstance(world, int) or len(heads) >= world:
            return False
        now, attempt = self._clock(), heads[0].attempt
        waiting = self._awaited.get(run.run_id)
        if waiting is None or waiting[0] != attempt:
            waiting = attempt, now
            _remember(self._awaited, run.run_id, waiting)
        return now - waiting[1] < ARRIVAL_SECONDS

    def _advance(self, run: Run, heads: Sequence[RunHead]) -> bool | None:
        """Whether there was anything new; None when somebody else is at work on it."""
        now = self._clock()
        with self._store.write() as session:
            epoch = detection.claim_lease(
                session, run.run_id, owner=self.owner, now=now, seconds=self._lease_seconds
            )
        if epoch is None:
            return None
        limit = min(MOST_FRAMES, max(FEWEST_FRAMES, self._rows_a_unit // len(heads)))
        lowest = heads[0].rank
        with self._store.read() as session:
            stored = detection.load_state(session, run.run_id, RUN_WIDE)
            revision = 0 if stored is None else stored[0]
            comparison, late = self._take_up(run.run_id, stored)
            cursors = {item.rank: _cursor(comparison, item, late=late) for item in heads}
            if any(cursors[item.rank] >= item.next_ord for item in heads):
                return False
            stretches = {
                item.rank: stretch_of(
                    read_frames(session, run.run_id, item.rank, cursors[item.rank], limit),
                    attempt=item.attempt,
                    from_ord=cursors[item.rank],
                    whole=item.rank == lowest,
                )
                for item in heads
            }
            tracker = comparison.tracker
            tracker.number_from(incidents.next_number(session, run.run_id))
            numbers = [incident.number for incident in tracker.incidents]
            known = incidents.get_incidents(session, run.run_id, numbers)
        for item in known.values():
            tracker.adopt(item.incident)
        compared = comparison.push(stretches, {item.rank: item.host for item in heads})
        if not compared.has_moved:
            return False
        try:
            with self._store.write() as session:
                self._commit(session, run, lowest, comparison, compared, known, revision, epoch)
        except Conflict as conflict:
            logger.info("comparing run %s begins again: %s", run.run_id, conflict)
            return None
        return True

    def _take_up(self, run_id: str, stored: tuple[int, bytes] | None) -> tuple[Comparison, int]:
        """The comparison, and how many frames it looks back on a rank that is new to it."""
        comparison = Comparison()
        if stored is None:
            return comparison, LATE_FRAMES
        try:
            comparison.restore(stored[1])
        except ValueError as error:
            # Saved by another version. What is further back has been compared and told.
            logger.error(
                "the ranks of run %s are compared from their last rows on: %s", run_id, error
            )
            return Comparison(), MOST_FRAMES
        return comparison, LATE_FRAMES

    def _commit(
        self,
        session: WriteSession,
        run: Run,
        rank: int,
        comparison: Comparison,
        compared: Compared,
        known: dict[int, StoredIncident],
        revision: int,
        epoch: int,
    ) -> None:
        now, run_id = self._clock(), run.run_id
        mine = detection.renew_lease(
            session, run_id, owner=self.owner, epoch=epoch, now=now, seconds=self._lease_seconds
        )
        if not mine:
            raise Conflict("the lease changed hands")
        moved = detection.commit_cursor(
            session,
            run_id,
            RUN_WIDE,
            epoch=epoch,
            from_ord=revision,
            to_ord=revision + 1,
            state=comparison.state(),
        )
        if not moved:
            raise Conflict("another worker has compared it meanwhile")
        opened = [
            change.incident.number
            for change in compared.changes
            if change.transition is Transition.OPENED
        ]
        if opened:
            detection.interrupt_lease(session, run_id)
            if incidents.next_number(session, run_id) != min(opened):
                raise Conflict("the number of its incident was given to another")
        detection.insert_findings(
            session,
            run_id,
            rank,
            [(f, number, frame.schema) for f, number, frame in compared.findings],
        )
        for number, incident in sorted(compared.touched.items()):
            self._save(session, run_id, rank, known.get(number), incident, now)
        told = AlertRun(run_id=run_id, name=run.name, project=run.project)
        for change in compared.changes:
            tell(session, change, to=Audience(run=told, channels=self._channels, now=now))

    def _save(
        self,
        session: WriteSession,
        run_id: str,
        rank: int,
        stored: StoredIncident | None,
        incident: Incident,
        now: float,
    ) -> None:
        text = sentence(incident)
        if stored is None:
            named = str(incident.evidence.get("ranks", "")).partition(",")[0]
            about = int(named) if named else rank
            incidents.insert_incident(session, run_id, about, incident, sentence=text, now=now)
        elif incident != stored.incident:
            incidents.update_incident(
                session, run_id, incident, version=stored.version, sentence=text, now=now
            )


def _remember(memory: OrderedDict[str, T], run_id: str, value: T) -> None:
    memory[run_id] = value
    memory.move_to_end(run_id)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)


def _newest_attempt(heads: Sequence[RunHead]) -> list[RunHead]:
    newest = max((item.attempt for item in heads), default=0)
    return [item for item in heads if item.attempt == newest]


def _cursor(comparison: Comparison, item: RunHead, *, late: int) -> int:
    """Where a rank is read on; one that is seen for the first time, from its last frames."""
    return comparison.cursors.get(item.rank, max(0, item.next_ord - late))
