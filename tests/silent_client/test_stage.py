"""The watchdog on both databases: who is told, when it is over, and who is left in peace."""

from __future__ import annotations

import time

import pytest
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import State
from foreshock_service.pipeline import silencing
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.unsilence import unsilence_once
from foreshock_service.store.detection import claim_lease, renew_lease
from foreshock_service.store.scrape import sample_runs
from foreshock_service.store.session import Store

from tests.detect.runs import drain, settings_with_webhook, store_run
from tests.factories import ATTEMPT
from tests.silent_client.runs import Place, finished


def test_a_run_that_stops_sending_is_told_then_critical(store: Store) -> None:
    """One incident: a warning after two minutes, critical after ten; each is told once."""
    place = Place(store)
    place.send("r")
    place.wait(150)
    (found,) = place.incidents("r")
    assert found.incident.severity is Severity.WARNING
    place.wait(600)
    (found,) = place.incidents("r")
    assert found.incident.severity is Severity.CRITICAL
    assert place.alerts("r") == [
        "The run has sent nothing since step 15 (2 minutes; usually every 1 s)",
        "The run has sent nothing since step 15 (10 minutes; usually every 1 s)",
    ]
    place.wait(6 * 3600)
    (found,) = place.incidents("r")
    assert "hours; usually every 1 s)" in found.sentence
    assert len(place.alerts("r")) == 2


def test_it_recovers_when_frames_arrive_again(store: Store) -> None:
    """The time that it took is told, and a later pause of the same length is not news."""
    place = Place(store)
    place.send("r")
    place.wait(14 * 60)
    place.send("r", first_step=16)
    place.wait(30)
    (found,) = place.incidents("r")
    assert found.incident.state is State.RECOVERED
    assert found.sentence == (
        "The run sends again after 14 minutes in which it sent nothing since step 15"
    )
    place.wait(14 * 60)
    assert len(place.incidents("r")) == 1
    place.wait(15 * 60)
    assert [i.incident.state for i in place.incidents("r")] == [State.RECOVERED, State.OPEN]


def test_a_silence_keeps_it_back_until_it_ends(store: Store) -> None:
    """A run that pauses for maintenance: nobody is told while it is silenced, and once, as it
    stands, if it has not come back by then."""
    place = Place(store)
    place.send("r")
    asked = {"run": "r", "ends_at": place.clock.now + 3600}
    silencing.add(store, asked, by="me", now=place.clock.now)
    place.wait(3600)
    (found,) = place.incidents("r")
    assert found.incident.kind == "silent_client"
    assert place.alerts("r") == []

    unsilence_once(store, place.settings, place.clock.now)

    (told,) = place.alerts("r")
    assert told.startswith("The run has sent nothing since step 15")
    assert unsilence_once(store, place.settings, place.clock.now + 3600) == 0


@pytest.mark.parametrize(
    ("status", "words"), [("finished", "ended"), ("crashed", "ended with an exception")]
)
def test_it_is_resolved_when_the_run_says_that_it_ended(
    store: Store, status: str, words: str
) -> None:
    """Nobody has to close it by hand."""
    place = Place(store)
    place.send("r")
    place.wait(5 * 60)
    place.send("r", first_step=16, events=[finished(status)])
    place.wait(30)
    (found,) = place.incidents("r")
    assert found.incident.state is State.RESOLVED
    assert found.sentence == (
        f"The run {words} after 5 minutes in which it sent nothing since step 15"
    )
    assert place.wait(3600) == 0


@pytest.mark.parametrize("status", ["finished", "crashed"])
def test_a_run_that_said_how_it_ended_is_left_in_peace(store: Store, status: str) -> None:
    """Its end is told by the event."""
    place = Place(store)
    place.send("r", events=[finished(status)])
    place.wait(3600)
    assert place.incidents("r") == []


def test_time_in_which_nobody_listened_does_not_count(store: Store) -> None:
    """A process that begins, or that was suspended, waits as long as if the run had just sent."""
    place = Place(store)
    place.send("r")
    place.wait(30)
    place.clock.now += 7200
    place.wait(100)
    assert place.incidents("r") == []
    place.watchdog = place.start()
    place.wait(100)
    assert place.incidents("r") == []
    place.wait(60)
    assert len(place.incidents("r")) == 1


def test_a_process_that_begins_does_not_end_what_another_has_told(store: Store) -> None:
    """It is over when something comes, not when somebody has not waited long enough."""
    place = Place(store)
    place.send("r")
    place.wait(300)
    place.watchdog = place.start()
    place.wait(60)
    assert [i.incident.state for i in place.incidents("r")] == [State.OPEN]


def test_what_ended_long_before_the_first_look_is_history(store: Store) -> None:
    """A service that is told to watch for silent runs does not raise the dead."""
    place = Place(store)
    place.send("r")
    place.clock.now += 2 * 86_400
    place.wait(3600)
    assert place.incidents("r") == []


def test_a_silent_run_that_a_person_resolved_is_not_told_again(store: Store) -> None:
    """Not while it goes on; the next one is."""
    place = Place(store)
    place.send("r")
    place.wait(300)
    place.resolve("r")
    place.wait(1200)
    assert len(place.incidents("r")) == 1
    place.send("r", first_step=16)
    place.wait(300)
    assert [i.incident.state for i in place.incidents("r")] == [State.RESOLVED, State.OPEN]


def test_another_start_is_told_as_one_and_is_no_habit(store: Store) -> None:
    """Hours between a kill and the next attempt do not make the run a slow one."""
    place = Place(store)
    place.send("r")
    place.wait(3 * 3600)
    place.send("r", attempt=ATTEMPT + 1)
    place.wait(30)
    (found,) = place.incidents("r")
    assert found.sentence == (
        "The run started again after 3 hours in which it sent nothing since step 15"
    )
    place.wait(150)
    assert len(place.incidents("r")) == 2


def test_detection_goes_on_beside_it(store: Store) -> None:
    """It takes the number after, and neither it nor its state minds an incident of another."""
    place = Place(store)
    store_run(store, "r", num_frames=96, nan_from=60)
    detection = Detection(store, settings_with_webhook(), frames_a_commit=32)
    assert detection.run_once() == 32
    place.clock.now = time.time()
    place.wait(300)
    drain(detection)
    found = [(i.incident.number, i.incident.kind) for i in place.incidents("r")]
    assert found == [(1, "silent_client"), (2, "non_finite")]


def test_opening_interrupts_a_unit_of_work_that_is_under_way(store: Store) -> None:
    """Detection may have taken the next number already: it begins again, under the same lease."""
    place = Place(store)
    place.send("r")
    with store.write() as session:
        epoch = claim_lease(session, "r", owner="me", now=0.0, seconds=1e12)
    place.wait(300)
    with store.write() as session:
        mine = renew_lease(session, "r", owner="me", epoch=epoch or 0, now=0.0, seconds=1e12)
        again = claim_lease(session, "r", owner="me", now=0.0, seconds=1e12)
    assert (mine, again) == (False, (epoch or 0) + 1)


def test_an_open_silent_run_is_counted_as_every_incident(store: Store) -> None:
    """In what Prometheus scrapes."""
    place = Place(store)
    place.send("r")
    place.wait(1200)
    with store.read() as session:
        (sample,) = sample_runs(session, ended_after=0.0, limit=10)
    assert sample.open_incidents == {"critical": 1}


def test_the_watch_can_be_switched_off(store: Store) -> None:
    """0 watches for nothing."""
    place = Place(store, silent_seconds=0.0)
    place.send("r")
    place.wait(3600)
    assert place.incidents("r") == []
