"""Silent ranks on both databases: who is named while others go on, and who has come back."""

from __future__ import annotations

from collections.abc import Callable

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import State
from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery
from sqlalchemy import select

from tests.factories import ATTEMPT
from tests.silent_client.runs import Place


def test_a_rank_that_stops_while_others_go_on_is_named(store: Store) -> None:
    """With its host; and when the others stop too, it is the run, in the same incident."""
    place = Place(store)
    step = iter(range(16, 10_000, 16))
    for rank in (0, 1):
        place.send("r", rank=rank, world=2, host=f"node-{rank}")

    def go_on() -> None:
        place.send("r", first_step=next(step), rank=0, world=2, host="node-0")

    place.wait(180, each=go_on)
    (found,) = place.incidents("r")
    assert found.rank == 1
    assert found.sentence == (
        "Rank 1 on node-1 has sent nothing since step 15 (2 minutes; usually every 1 s) "
        "while the other ranks go on"
    )
    place.wait(180)
    (found,) = place.incidents("r")
    assert found.sentence.startswith("The run has sent nothing since step 111 (2 minutes;")


def test_twenty_silent_ranks_have_not_recovered_when_eight_return(store: Store) -> None:
    """A sentence names eight of them; all twenty are waited for."""
    place = Place(store)
    step = iter(range(16, 10_000, 16))
    for rank in range(21):
        place.send("r", rank=rank, world=21)

    def go_on() -> None:
        place.send("r", first_step=next(step), rank=0, world=21)

    place.wait(180, each=go_on)
    (found,) = place.incidents("r")
    assert found.sentence.startswith("Ranks 1, 2, 3, 4, 5, 6, 7, 8 and 12 more")
    for rank in range(1, 9):
        place.send("r", rank=rank, first_step=16, world=21)
    place.wait(30, each=go_on)
    (found,) = place.incidents("r")
    assert found.incident.state is State.OPEN


def test_a_rank_that_falls_silent_after_another_is_told(store: Store) -> None:
    """In the same incident, which is told once more, with both."""
    place = Place(store)
    step = iter(range(16, 10_000, 16))
    for rank in (0, 1, 2):
        place.send("r", rank=rank, world=3)

    def both() -> None:
        first = next(step)
        for rank in (0, 2):
            place.send("r", first_step=first, rank=rank, world=3)

    def alone() -> None:
        place.send("r", first_step=next(step), rank=0, world=3)

    place.wait(180, each=both)
    place.wait(180, each=alone)

    opened, joined = place.alerts("r")
    assert opened.startswith("Rank 1 has sent nothing since step 15")
    assert joined.startswith("Ranks 1, 2 have sent nothing since step 111")


def test_ranks_that_join_at_the_same_step_are_each_told(store: Store) -> None:
    """The rank that goes on may do the same steps again: what was told is no matter of its step."""
    place = Place(store)
    for rank in (0, 1, 2, 3):
        place.send("r", rank=rank, world=4)

    def go_on(*ranks: int) -> Callable[[], None]:
        def send() -> None:
            for rank in (0, *ranks):
                place.send("r", first_step=16, rank=rank, world=4)

        return send

    place.wait(180, each=go_on(2, 3))
    place.wait(180, each=go_on(3))
    place.wait(180, each=go_on())

    with store.read() as session:
        told = [(row.transition, row.step) for row in session.connection.execute(select(delivery))]
    assert told == [("opened", 15), ("escalated", 31), ("escalated", 31)]
    assert place.alerts("r")[-1].startswith("Ranks 1, 2, 3 have sent nothing since step 31")


def test_a_rank_that_comes_back_has_recovered(store: Store) -> None:
    """The other ranks' frames do not speak for it."""
    place = Place(store)
    step = iter(range(16, 10_000, 16))
    for rank in (0, 1):
        place.send("r", rank=rank, world=2)

    def go_on() -> None:
        place.send("r", first_step=next(step), rank=0, world=2)

    place.wait(300, each=go_on)
    assert [i.incident.state for i in place.incidents("r")] == [State.OPEN]
    place.send("r", first_step=16, rank=1, world=2)
    place.wait(30, each=go_on)
    (found,) = place.incidents("r")
    assert found.sentence == (
        "Rank 1 sends again after 5 minutes in which it sent nothing since step 15"
    )


def test_a_rank_that_stays_away_when_its_run_comes_back_is_told(store: Store) -> None:
    """As one incident of its own, as soon after the return as if it had stopped then; over when
    it comes, too."""
    place = Place(store)
    step = iter(range(16, 10_000, 16))
    for rank in (0, 1, 2):
        place.send("r", rank=rank, world=3, host=f"node-{rank}")
    place.wait(1800)

    def go_on() -> None:
        first = next(step)
        for rank in (0, 2):
            place.send("r", first_step=first, rank=rank, world=3)

    place.wait(90, each=go_on)
    assert [i.incident.state for i in place.incidents("r")] == [State.RECOVERED]
    place.watchdog = place.start()  # another process knows as much of it
    place.wait(300, each=go_on)
    _, missing = place.incidents("r")
    assert missing.sentence.startswith("Rank 1 on node-1 has sent nothing since step 15")
    assert missing.incident.severity is Severity.WARNING
    place.wait(600, each=go_on)
    _, missing = place.incidents("r")
    assert missing.incident.severity is Severity.CRITICAL

    place.send("r", rank=1, first_step=16, world=3)
    place.wait(30, each=go_on)
    assert [i.incident.state for i in place.incidents("r")] == [State.RECOVERED] * 2
    words = ["opened", "escalated", "recovered"]
    with store.read() as session:
        told = [row.transition for row in session.connection.execute(select(delivery))]
    assert told == words * 2


def test_a_rank_that_stays_away_is_told_also_if_a_person_resolved_the_pause(store: Store) -> None:
    """Once: resolving that one, too, ends it."""
    place = Place(store)
    step = iter(range(16, 10_000, 16))
    for rank in (0, 1):
        place.send("r", rank=rank, world=2)

    def go_on() -> None:
        place.send("r", first_step=next(step), rank=0, world=2)

    place.wait(300)
    place.resolve("r")
    place.wait(300)
    assert len(place.incidents("r")) == 1
    place.wait(90, each=go_on)
    assert len(place.incidents("r")) == 1
    place.wait(120, each=go_on)
    assert [i.incident.evidence.get("ranks") for i in place.incidents("r")] == [None, "1"]
    place.resolve("r")
    place.wait(900, each=go_on)
    assert len(place.incidents("r")) == 2


def test_ranks_that_come_back_one_after_another_are_not_missed(store: Store) -> None:
    """A slow start of one of them is no news."""
    place = Place(store)
    for rank in (0, 1):
        place.send("r", rank=rank, world=2)
    place.wait(900)
    place.send("r", rank=0, first_step=16, world=2)
    place.wait(60)
    place.send("r", rank=1, first_step=16, world=2)
    place.wait(30)
    assert [i.incident.state for i in place.incidents("r")] == [State.RECOVERED]


def test_ranks_that_stop_together_are_one_silent_run(store: Store) -> None:
    """Nobody is named for a collective that hangs."""
    place = Place(store)
    for rank in (0, 1, 2):
        place.send("r", rank=rank, world=3)
        place.clock.now += 2
    place.wait(600)
    (found,) = place.incidents("r")
    assert found.sentence.startswith("The run has sent nothing since step 15")


def test_a_rank_of_an_earlier_attempt_is_not_missed(store: Store) -> None:
    """The run went on with fewer."""
    place = Place(store)
    for rank in (0, 1):
        place.send("r", rank=rank, world=2)
    step = iter(range(0, 10_000, 16))
    place.wait(
        900, each=lambda: place.send("r", first_step=next(step), attempt=ATTEMPT + 1, world=1)
    )
    assert place.incidents("r") == []
