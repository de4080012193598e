"""Silenced incidents are recorded and not told, until the silence ends; on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from foreshock_service.domain.incidents import Transition
from foreshock_service.pipeline import silencing, triage
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.unsilence import unsilence_once
from foreshock_service.store import silences, withheld
from foreshock_service.store.incidents import list_incidents
from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery
from foreshock_service.store.withheld import Withheld
from sqlalchemy import func, select, text

from tests.detect.runs import drain, settings_with_webhook, store_run

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3600.0
NOW = 1_700_000_000.0


def silenced(store: Store, *, now: float = NOW, **matchers: str) -> int:
    """Silence for an hour; the number of the silence."""
    asked = {**matchers, "ends_at": now + HOUR}
    return silencing.add(store, asked, by="me", now=now).silence_id


def told(store: Store) -> list[dict[str, Any]]:
    """The messages in the outbox, in order."""
    with store.read() as session:
        query = select(delivery.c.payload).order_by(delivery.c.delivery_id)
        return list(session.connection.scalars(query))


def detect(store: Store, *, now: float = NOW) -> None:
    """Read everything that is there."""
    detection = Detection(store, settings_with_webhook(), clock=lambda: now)
    drain(detection)
    detection.close()


def unsilence(store: Store, *, now: float) -> int:
    """One round of the stage."""
    return unsilence_once(store, settings_with_webhook(), now)


def test_a_silenced_incident_is_recorded_and_told_when_the_silence_ends(store: Store) -> None:
    """Once, as it stands then, with since when it was withheld."""
    silenced(store, run="sick", kind="non_finite")
    store_run(store, "sick", nan_from=60, num_frames=80)
    detect(store)
    with store.read() as session:
        (found,) = list_incidents(session, "sick")
    assert (found.incident.kind, told(store)) == ("non_finite", [])
    assert unsilence(store, now=NOW + HOUR - 1) == 0

    assert unsilence(store, now=NOW + HOUR) == 1
    assert unsilence(store, now=NOW + HOUR) == 0

    (message,) = told(store)
    assert message["type"] == "incident.opened"
    assert message["sentence"] == found.sentence
    assert (message["withheld_since"], message["created_at"]) == (NOW, NOW + HOUR)


def test_what_no_silence_matches_is_told_at_once(store: Store) -> None:
    """A silence of another run, another kind, or one that has ended changes nothing."""
    silenced(store, run="other")
    silenced(store, kind="plateau")
    silenced(store, run="sick", now=NOW - HOUR)
    store_run(store, "sick", nan_from=60, num_frames=80)
    detect(store)
    assert [(m["type"], m["withheld_since"]) for m in told(store)] == [("incident.opened", None)]


def test_ending_a_silence_early_tells_at_once(store: Store) -> None:
    """Nobody waits for the time that the silence would have ended by itself."""
    number = silenced(store, run="sick")
    store_run(store, "sick", nan_from=60, num_frames=80)
    detect(store)
    silencing.end(store, number, by="me", now=NOW + 60)

    unsilence(store, now=NOW + 60)

    assert [m["type"] for m in told(store)] == ["incident.opened"]


def test_who_ends_a_silence_waits_for_what_is_being_withheld(postgres_store: Store) -> None:
    """Detection has read the silence and not committed yet: its alert is not left behind."""
    store, number = postgres_store, silenced(postgres_store, run="sick")
    store_run(store, "sick", num_frames=1)
    what = Withheld(transitions=(Transition.OPENED,), since=NOW)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor() as pool:
        with store.write() as session:
            (held,) = silences.live_held(session, now=NOW)
            ending = pool.submit(silencing.end, store, number, by="me", now=NOW + 60)
            while not ending.done() and not session.connection.scalar(waiting):
                time.sleep(0.01)
            withheld.keep(session, "sick", 1, what, look_at=held.ends_at)
        ending.result(30)
    with store.read() as session:
        assert withheld.due(session, now=NOW + 60, limit=9) == [("sick", 1)]


def test_a_second_silence_goes_on_withholding(store: Store) -> None:
    """All silences over an incident must have ended before it is told."""
    silenced(store, run="sick")
    store_run(store, "sick", nan_from=60, num_frames=80)
    detect(store)
    silenced(store, run="sick", now=NOW + HOUR / 2)

    unsilence(store, now=NOW + HOUR)
    assert told(store) == []
    unsilence(store, now=NOW + 1.5 * HOUR)
    assert [m["type"] for m in told(store)] == ["incident.opened"]


def test_what_ended_in_silence_stays_unsaid(store: Store) -> None:
    """A person resolves it meanwhile: there is nothing to tell, and nothing is kept."""
    silenced(store, run="sick", now=time.time())
    store_run(store, "sick", nan_from=60, num_frames=80)
    detect(store, now=time.time())
    triage.resolve(store, settings_with_webhook(), "sick", 1, by="me")

    unsilence(store, now=time.time() + HOUR)

    assert told(store) == []
    with store.read() as session:
        assert withheld.due(session, now=1e12, limit=9) == []


def test_the_end_of_an_incident_that_was_told_is_told_after_the_silence(store: Store) -> None:
    """Or whoever was paged would wait for it for ever."""
    store_run(store, "sick", nan_from=60, num_frames=80)
    detect(store, now=time.time())
    silenced(store, run="sick", now=time.time())
    triage.resolve(store, settings_with_webhook(), "sick", 1, by="me")
    assert [m["type"] for m in told(store)] == ["incident.opened"]

    unsilence(store, now=time.time() + HOUR)

    assert [m["type"] for m in told(store)] == ["incident.opened", "incident.resolved"]


def test_a_change_after_the_silence_brings_what_was_withheld(store: Store) -> None:
    """One message, the opening, though the stage has not come by yet; it then adds nothing."""
    store_run(store, "sick", num_frames=96, nan_from=60)
    silenced(store, run="sick", now=time.time() - 2 * HOUR)
    detect(store, now=time.time() - 1.5 * HOUR)
    triage.acknowledge(store, settings_with_webhook(), "sick", 1, by="me")

    unsilence(store, now=time.time())

    (message,) = told(store)
    assert message["type"] == "incident.opened"
    assert message["sentence"].startswith("First NaN or Inf")


def test_a_stage_killed_again_and_again_tells_each_incident_once(
    store: Store, database_url: str
) -> None:
    """kill -9 amid the work, each time a little later: no alert is lost, none is there twice."""
    names = [f"sick-{number}" for number in range(24)]
    silenced(store, run="sick-*")
    for name in names:
        store_run(store, name, nan_from=20, num_frames=32)
    detect(store)
    assert told(store) == []
    kills, amid = 0, 0
    while (num_told := len(told(store))) < len(names):
        amid += num_told > 0
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.detect.unsilencer", database_url, str(NOW + HOUR)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
        )
        with worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            time.sleep(0.004 * kills)
            worker.kill()
        kills += 1

    assert amid >= 1
    assert sorted(m["run"]["id"] for m in told(store)) == sorted(names)
    with store.read() as session:
        rows = session.connection.scalar(select(func.count()).select_from(delivery))
    assert rows == len(names)
