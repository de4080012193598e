"""The stage that reads committed frames and commits what they mean.

For each rank with unread frames: hold the run's lease, take up the rank's state, push the frames
through the pure session, and commit findings, incidents, alerts, baseline snapshots, the new state
and the new cursor in one transaction. A kill at any moment repeats nothing and loses nothing: what
was not committed is read again from the same cursor and gives the same result.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import SeriesSchema

from foreshock_service.detectors.codec import UNREADABLE
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.detection_rules import in_force
from foreshock_service.domain.facts import facts_of
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Incident, IncidentChange
from foreshock_service.domain.runs import Run
from foreshock_service.errors import Conflict
from foreshock_service.incidents.verdict import sentence
from foreshock_service.pipeline.session import DetectionSession
from foreshock_service.pipeline.telling import Audience, tell
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import detection, detection_rules, head, incidents, runs
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import ReadSession, Store, WriteSession

logger = logging.getLogger(__name__)

FRAMES_A_COMMIT: Final = 256
"""So many frames are a transaction: enough to spread its cost, few enough to be quickly seen."""
SNAPSHOT_FRAMES: Final = 64
LEASE_SECONDS: Final = 15.0
SESSIONS: Final = 64
"""Sessions kept in memory between rounds; others are taken up from the database again."""


@dataclass(slots=True)
class _Held:
    """A session in memory, as it stands at `next_ord` under a lease's `epoch`."""

    session: DetectionSession
    epoch: int
    next_ord: int
    document: Mapping[str, Any] = field(default_factory=dict)
    """The configuration that the session goes by, as it was set."""
    is_proven: bool = True
    """False for a session that was read from the database and has taken no frame in since."""
    versions: dict[int, int] = field(default_factory=dict)
    saved: dict[int, Incident] = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    """What a stretch of frames brought, before it is committed."""

    findings: list[tuple[Finding, int, SeriesSchema]] = field(default_factory=list)
    changes: list[IncidentChange] = field(default_factory=list)
    snapshots: list[tuple[int, SeriesSchema, npt.NDArray[np.float32]]] = field(default_factory=list)
    touched: dict[int, Incident] = field(default_factory=dict)


class Detection:
    """One detection worker; any number of them, in any processes, may share a database."""

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        *,
        config: EngineConfig | None = None,
        clock: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
        frames_a_commit: int = FRAMES_A_COMMIT,
    ) -> None:
        self._store = store
        self._channels = settings.channels()
        self._config = config
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._frames_a_commit = frames_a_commit
        self._held: OrderedDict[tuple[str, int], _Held] = OrderedDict()
        self.owner = uuid.uuid4().hex
        """Names this worker in the leases that it holds."""

    def run_once(self) -> int:
        """Read what is there, at most one commit a rank; how many frames were processed."""
        with self._store.read() as session:
            waiting = detection.backlogs(session)
        return sum(self._advance(item.run_id, item.rank) for item in waiting)

    def close(self) -> None:
        """Give the leases back, so that the next worker can go on at once."""
        self._held.clear()
        with self._store.write() as session:
            detection.release_leases(session, owner=self.owner)

    def _advance(self, run_id: str, rank: int) -> int:
        with self._store.write() as session:
            epoch = detection.claim_lease(
                session, run_id, owner=self.owner, now=self._clock(), seconds=self._lease_seconds
            )
        if epoch is None:
            self._held.pop((run_id, rank), None)
            return 0
        with self._store.read() as session:
            run = runs.get(session, run_id)
            held = self._take_up(session, run, rank, epoch)
            frames = read_frames(session, run_id, rank, held.next_ord, self._frames_a_commit)
        if not frames:
            return 0
        try:
            work = self._push(held, frames)
        except UNREADABLE as error:
            if held.is_proven:
                raise
            self._say_lost(run_id, rank, error)
            self._held.pop((run_id, rank))
            with self._store.read() as session:
                held = self._take_up(session, run, rank, epoch, afresh=True)
            work = self._push(held, frames)
        held.is_proven = True
        alert_run = AlertRun.of(run)
        try:
            with self._store.write() as session:
                self._commit(session, alert_run, rank, held, work, frames)
        except Conflict as conflict:
            # A person or another worker was faster: nothing was committed, so read it all again.
            logger.info("detection of run %s begins again at its cursor: %s", run_id, conflict)
            self._held.pop((run_id, rank), None)
            return 0
        except BaseException:
            self._held.pop((run_id, rank), None)
            raise
        return len(frames)

    def _take_up(
        self, session: ReadSession, run: Run, rank: int, epoch: int, *, afresh: bool = False
    ) -> _Held:
        run_id, key = run.run_id, (run.run_id, rank)
        held = self._held.get(key)
        document = in_force(*detection_rules.of_run(session, run))
        if held is None or held.epoch != epoch:
            held = _Held(self._session(run, document), epoch, 0, document)
            stored = detection.load_state(session, run_id, rank)
            if stored is not None:
                held.next_ord = stored[0]
            if stored is not None and not afresh:
                self._restore(held, run, rank, stored[1])
            self._held[key] = held
        elif held.document != document:
            # Set anew between two rows: the same state under other limits.
            state = held.session.state()
            held.session, held.document = self._session(run, document), document
            held.session.restore(state)
        self._held.move_to_end(key)
        while len(self._held) > SESSIONS:
            self._held.popitem(last=False)
        tracker = held.session.tracker
        host = head.host_among_others(session, run_id, rank)
        tracker.whose = {} if host is None else {"rank": rank, "host": host}
        tracker.number_from(incidents.next_number(session, run_id))
        known = incidents.get_incidents(session, run_id, [i.number for i in tracker.incidents])
        held.versions = {number: item.version for number, item in known.items()}
        for item in known.values():
            tracker.adopt(item.incident)
        held.saved = {i.number: i for i in tracker.incidents}
        return held

    def _restore(self, held: _Held, run: Run, rank: int, state: bytes) -> None:
        """Take up a saved state; one of another version is given up, and the run goes on."""
        try:
            unread = held.session.restore(state)
        except ValueError as error:
            self._say_lost(run.run_id, rank, error)
            held.session = self._session(run, held.document)
            return
        held.is_proven = False
        if unread:
            names = ", ".join(unread)
            logger.warning("%s start afresh on rank %d of run %s", names, rank, run.run_id)

    def _say_lost(self, run_id: str, rank: int, error: Exception) -> None:
        # Once a rank: the next commit saves a state that can be read.
        logger.error(
            "rank %d of run %s goes on with fresh baselines, and its open incidents stay until "
            "somebody resolves them: what was saved of it cannot be read: %s",
            rank,
            run_id,
            error,
        )

    def _session(self, run: Run, document: Mapping[str, Any]) -> DetectionSession:
        config = self._config
        if document:
            try:
                config = EngineConfig.from_document(document)
            except ValueError as error:
                # It was checked when it was set, by another version of the service.
                logger.error("run %s is read by the defaults: %s", run.run_id, error)
        return DetectionSession(config, facts_of(run.info))

    def _push(self, held: _Held, frames: list[Frame]) -> _Work:
        work = _Work()
        for frame in frames:
            outcome = held.session.push(frame)
            work.findings += [(f, n, held.session.schema) for f, n in outcome.findings]
            work.changes += outcome.changes
            for incident in held.session.incidents():
                work.touched[incident.number] = incident
            for change in outcome.changes:
                work.touched[change.incident.number] = held.session.newest(change.incident)
            if frame.ord % SNAPSHOT_FRAMES == SNAPSHOT_FRAMES - 1 and frame.schema.series:
                pairs = held.session.engine.baselines.snapshot()
                work.snapshots.append((frame.ord, frame.schema, pairs))
        return work

    def _commit(
        self,
        session: WriteSession,
        run: AlertRun,
        rank: int,
        held: _Held,
        work: _Work,
        frames: list[Frame],
    ) -> None:
        now = self._clock()
        run_id, to_ord = run.run_id, frames[-1].ord + 1
        mine = detection.renew_lease(
            session,
            run_id,
            owner=self.owner,
            epoch=held.epoch,
            now=now,
            seconds=self._lease_seconds,
        )
        if not mine:
            raise Conflict("the lease changed hands")
        moved = detection.commit_cursor(
            session,
            run_id,
            rank,
            epoch=held.epoch,
            from_ord=held.next_ord,
            to_ord=to_ord,
            state=held.session.state(),
        )
        if not moved:
            raise Conflict("the cursor has moved")
        detection.insert_findings(session, run_id, rank, work.findings)
        for number, incident in sorted(work.touched.items()):
            self._save(session, run_id, rank, held, number, incident, now)
        for change in work.changes:
            tell(session, change, to=Audience(run=run, channels=self._channels, now=now))
        for ord_, schema, pairs in work.snapshots:
            detection.save_snapshot(
                session, run_id, rank, ord_, schema_hash=schema.hash, pairs=pairs
            )
        held.next_ord = to_ord

    def _save(
        self,
        session: WriteSession,
        run_id: str,
        rank: int,
        held: _Held,
        number: int,
        incident: Incident,
        now: float,
    ) -> None:
        version = held.versions.get(number)
        text = sentence(incident)
        if version is None:
            incidents.insert_incident(session, run_id, rank, incident, sentence=text, now=now)
        elif incident != held.saved.get(number):
            incidents.update_incident(
                session, run_id, incident, version=version, sentence=text, now=now
            )
