"""The stage that notices what does not come: runs and ranks that have fallen silent.

It looks every few seconds. An incident is opened in one transaction with its alerts, after the
run's lease was interrupted: the row is locked, so that of two processes the second one finds what
the first has opened, and detection takes the next number. What changes an incident later compares
and sets its version. A kill at any moment leaves either all of a change or nothing.

The time in which nobody listened does not count. A process counts from its first round on, and
again from the first round after a gap, be it a suspended machine or a database that was away. With
several processes the one that has listened longest is the first to speak.

What a round reads is bounded by the runs that are alive or fell silent lately: of those that are
told as far as they can be only the length is brought up to date, and after three days nothing.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.incidents import Incident, IncidentChange, State
from foreshock_service.domain.runs import Run, RunHead, RunStatus
from foreshock_service.errors import Conflict
from foreshock_service.incidents import silent_client
from foreshock_service.incidents.silent_client import Pace, RankSeen, SilentClient
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT
from foreshock_service.incidents.verdict import sentence
from foreshock_service.pipeline.telling import Audience, tell
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import arrivals, detection, head, incidents, runs
from foreshock_service.store.incidents import StoredIncident
from foreshock_service.store.session import ReadSession, Store, WriteSession

logger = logging.getLogger(__name__)

GAP_SECONDS: Final = 60.0
"""A round that comes so long after the one before: the process was away in between."""
NEWS_SECONDS: Final = 86_400.0
"""What stopped longer ago than this when it is first seen is history, and told to nobody."""
WATCHED_SECONDS: Final = 3 * 86_400.0
"""A run that was heard before is left alone. It is critical by then: after 60 hours at the most."""
PACES: Final = 8192
"""Paces kept in memory; others are read again."""

Kept = OrderedDict[tuple[str, int, int, int, float], Pace]


class Watchdog:
    """Looks for silent clients; any number of them, in any processes, may share a database."""

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._least = settings.silent_seconds
        self._channels = settings.channels()
        self._clock = clock
        self._listening_since = 0.0
        self._last_round: float | None = None
        self._paces: Kept = OrderedDict()

    def run_once(self) -> int:
        """Look at every run that has not ended; how many incidents changed."""
        if not self._least:
            return 0
        now = self._clock()
        away = self._last_round is None or now - self._last_round > GAP_SECONDS
        with self._store.read() as session:
            standing = incidents.open_of_kind(
                session,
                SILENT_CLIENT,
                heard_after=now - WATCHED_SECONDS,
                # What came while nobody looked may be older than that by now.
                or_overtaken=away,
            )
            opened = {item.run_id: item for item in standing}
            watched = {
                run.run_id: run
                for run in arrivals.unfinished(session, heard_after=now - NEWS_SECONDS)
            }
            others = [run_id for run_id in opened if run_id not in watched]
            if others:
                watched |= {run.run_id: run for run in runs.get_many(session, others)}
            unsettled = [run for run in watched.values() if not _is_settled(run, opened)]
            seen = self._seen(session, unsettled, opened, now)
        # After the reads: a database that did not answer was not listening either.
        if away or now < self._listening_since:
            self._listening_since = now
        self._last_round = now
        return sum(
            self._look(run, seen.get(run_id, []), opened.get(run_id), now)
            for run_id, run in sorted(watched.items())
        )

    def _look(
        self, run: Run, ranks: list[RankSeen], opened: StoredIncident | None, now: float
    ) -> bool:
        found = silent_client.silent_of(
            ranks, now=now, listening_since=self._listening_since, least=self._least
        )
        try:
            if opened is None:
                return found is not None and self._open(run, found, now)
            return self._go_on(run, ranks, opened, found, now)
        except Conflict as conflict:
            # A person or another process was faster; the next round sees what it did.
            logger.info("silent run %s is looked at again: %s", run.run_id, conflict)
            return False

    def _open(self, run: Run, found: SilentClient, now: float) -> bool:
        if run.status is not RunStatus.RUNNING or run.finished_at is not None:
            return False
        with self._store.write() as session:
            detection.interrupt_lease(session, run.run_id)
            current = runs.get(session, run.run_id)
            told = incidents.of_kind(session, run.run_id, SILENT_CLIENT, limit=1)
            known = any(silent_client.tells(i.incident, found) for i in told)
            if known or current.finished_at is not None:
                return False
            if not found.ranks and current.heard_at > run.heard_at:
                return False
            number = incidents.next_number(session, run.run_id)
            change = silent_client.begin(found, number=number)
            incidents.insert_incident(
                session,
                run.run_id,
                found.seen.rank,
                change.incident,
                sentence=change.sentence,
                now=now,
            )
            self._tell(session, run, change, now)
        return True

    def _go_on(
        self,
        run: Run,
        ranks: Sequence[RankSeen],
        opened: StoredIncident,
        found: SilentClient | None,
        now: float,
    ) -> bool:
        incident, change = opened.incident, None
        longer: Incident | None = None
        if run.finished_at is not None:
            change = silent_client.end(incident, run.status, heard_at=run.heard_at)
        else:
            change = silent_client.come_back(incident, ranks, heard_at=run.heard_at)
            if change is None and found is not None:
                change = silent_client.worsen(incident, found, ranks)
                longer = silent_client.prolong(incident, found.seconds)
            elif change is None and _is_settled(run, {run.run_id: opened}):
                heard_at = max(silent_client.heard_at_of(incident), self._listening_since)
                longer = silent_client.prolong(incident, now - heard_at)
        new = longer if change is None else change.incident
        if new is None:
            return False
        with self._store.write() as session:
            incidents.update_incident(
                session,
                run.run_id,
                new,
                version=opened.version,
                sentence=sentence(new) if change is None else change.sentence,
                now=now,
            )
            if change is not None:
                self._tell(session, run, change, now)
        return True

    def _tell(self, session: WriteSession, run: Run, change: IncidentChange, now: float) -> None:
        told = AlertRun(run_id=run.run_id, name=run.name, project=run.project)
        tell(session, change, to=Audience(run=told, channels=self._channels, now=now))

    def _seen(
        self,
        session: ReadSession,
        watched: Sequence[Run],
        opened: Mapping[str, StoredIncident],
        now: float,
    ) -> dict[str, list[RankSeen]]:
        """The ranks of each run in its newest attempt, where there may be something to say."""
        heads = head.rank_heads(session, [run.run_id for run in watched])
        newest = {run_id: _newest_attempt(ranks) for run_id, ranks in heads.items() if ranks}
        chosen = [
            run
            for run in watched
            if run.run_id in newest
            and (
                len(newest[run.run_id]) > 1
                or run.run_id in opened
                or now - run.heard_at > self._least
            )
        ]
        several = [run.run_id for run in chosen if len(newest[run.run_id]) > 1]
        came = arrivals.frame_arrivals(session, several) if several else {}
        heard = {run.run_id: _heard(run, newest[run.run_id], came) for run in chosen}
        quiet = [
            run_id
            for run_id, ranks in heard.items()
            if any(now - at > self._least for at in ranks.values())
        ]
        told = incidents.newest_of_kind(session, quiet, SILENT_CLIENT) if quiet else {}
        return {
            run.run_id: self._ranks(
                session, run, newest[run.run_id], heard[run.run_id], told.get(run.run_id), now
            )
            for run in chosen
            if run.run_id in opened or not _is_known(run, told.get(run.run_id))
        }

    def _ranks(
        self,
        session: ReadSession,
        run: Run,
        heads: list[RunHead],
        heard: dict[int, float],
        told: StoredIncident | None,
        now: float,
    ) -> list[RankSeen]:
        awaited_since = self._awaited_since(session, run, heads[0].attempt, told, now)
        return [
            RankSeen(
                rank=item.rank,
                host=item.host,
                attempt=item.attempt,
                step=item.step,
                next_ord=item.next_ord,
                heard_at=heard[item.rank],
                pace=self._pace(session, item, heard[item.rank])
                if now - heard[item.rank] > self._least
                else Pace(),
                awaited_since=awaited_since
                if told is not None and heard[item.rank] <= silent_client.heard_at_of(told.incident)
                else 0.0,
            )
            for item in heads
            if item.rank in heard
        ]

    def _awaited_since(
        self,
        session: ReadSession,
        run: Run,
        attempt: int,
        told: StoredIncident | None,
        now: float,
    ) -> float:
        """From when on ranks are awaited that have sent nothing since what was told; 0: from their
        last arrival on."""
        if told is None:
            return 0.0
        before = silent_client.heard_at_of(told.incident)
        if not silent_client.is_of_all(told.incident):
            return silent_client.awaited_since_of(told.incident)
        if told.incident.state is State.OPEN or run.heard_at <= before:
            return 0.0
        back = arrivals.first_after(session, run.run_id, attempt, at=before)
        # Something came, but no frame: that says nothing of any rank.
        return now if back is None else back

    def _pace(self, session: ReadSession, item: RunHead, heard_at: float) -> Pace:
        key = (item.run_id, item.rank, item.attempt, item.next_ord, heard_at)
        pace = self._paces.get(key)
        if pace is None:
            between = arrivals.step_seconds(session, item)
            before = [i.incident for i in incidents.of_kind(session, item.run_id, SILENT_CLIENT)]
            pace = Pace(
                num_steps=len(between),
                usual=statistics.median(between) if between else None,
                longest=max(between, default=0.0),
                survived=silent_client.survived(before, before=heard_at),
            )
            self._paces[key] = pace
        self._paces.move_to_end(key)
        while len(self._paces) > PACES:
            self._paces.popitem(last=False)
        return pace


def _is_settled(run: Run, opened: Mapping[str, StoredIncident]) -> bool:
    """Whether all is told of a run that it is silent, and it has not ended."""
    stored = opened.get(run.run_id)
    if stored is None or run.finished_at is not None:
        return False
    return silent_client.is_all_told(stored.incident, heard_at=run.heard_at)


def _is_known(run: Run, told: StoredIncident | None) -> bool:
    """Whether nothing has come since a pause of the whole run that was told and closed."""
    if told is None or not silent_client.is_of_all(told.incident):
        return False
    return run.heard_at <= silent_client.heard_at_of(told.incident)


def _heard(
    run: Run, heads: Sequence[RunHead], came: Mapping[arrivals.RankKey, float]
) -> dict[int, float]:
    """When each rank that is known to be there was last heard."""
    heard = {item.rank: came.get((run.run_id, item.rank, item.attempt)) for item in heads}
    # A rank that has sent no frame of this attempt yet is not known to be there.
    known = {rank: at for rank, at in heard.items() if at is not None}
    # What came without a frame counts for the rank that was heard last.
    last = max(known, key=lambda rank: (known[rank], -rank), default=heads[0].rank)
    known[last] = max(known.get(last, run.heard_at), run.heard_at)
    return known


def _newest_attempt(heads: Sequence[RunHead]) -> list[RunHead]:
    newest = max(item.attempt for item in heads)
    return [item for item in heads if item.attempt == newest]
