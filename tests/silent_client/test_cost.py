"""What a round of the watchdog costs the database, with many runs that are dead."""

from __future__ import annotations

from typing import Any

import pytest
from foreshock_service.store.session import Store
from sqlalchemy import event

from tests.silent_client.runs import Place

DAY = 86_400.0
MANY = 24


def _cost(place: Place) -> tuple[int, int]:
    """Statements of a round, and the rows that they returned as far as the driver says so."""
    rows: list[int] = []

    def note(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        rows.append(max(cursor.rowcount, 0) if statement.startswith("SELECT") else 0)

    place.watchdog.run_once()
    event.listen(place.store.engine, "after_cursor_execute", note)
    try:
        place.watchdog.run_once()
    finally:
        event.remove(place.store.engine, "after_cursor_execute", note)
    return len(rows), sum(rows)


def _kill(place: Place, first: int, last: int, ranks: int) -> None:
    for number in range(first, last):
        for rank in range(ranks):
            place.send(f"dead-{number:02}", rank=rank, world=ranks)


def _live(place: Place) -> None:
    for rank in (0, 1):
        place.send("live", rank=rank, world=2)


@pytest.mark.parametrize("ranks", [1, 2])
def test_dead_runs_cost_nothing_after_some_days(postgres_store: Store, ranks: int) -> None:
    """Neither statements nor rows, though their incidents stay open."""
    place = Place(postgres_store)
    costs = []
    for first, last in ((0, 1), (1, MANY)):
        _kill(place, first, last, ranks)
        place.wait(1200)
        place.clock.now += 4 * DAY
        place.watchdog.run_once()
        _live(place)
        costs.append(_cost(place))
    assert len(place.incidents(f"dead-{MANY - 1:02}")) == 1
    assert costs[0] == costs[1]


@pytest.mark.parametrize("ranks", [1, 2])
def test_runs_that_died_lately_cost_no_statement(store: Store, ranks: int) -> None:
    """Told as critical, they are looked at together."""
    place = Place(store)
    costs = []
    for first, last in ((0, 1), (1, MANY)):
        _kill(place, first, last, ranks)
        place.wait(1200)
        _live(place)
        costs.append(_cost(place)[0])
    assert costs[0] == costs[1]


def test_dead_runs_that_a_person_resolved_cost_no_statement(store: Store) -> None:
    """They are known, and not found again at every round."""
    place = Place(store)
    costs = []
    for first, last in ((0, 1), (1, MANY)):
        _kill(place, first, last, 1)
        place.wait(300)
        for number in range(first, last):
            place.resolve(f"dead-{number:02}")
        _live(place)
        costs.append(_cost(place)[0])
    assert costs[0] == costs[1]


def test_what_ended_while_nobody_looked_is_closed(store: Store) -> None:
    """A watchdog that was away for days finds what came meanwhile."""
    place = Place(store)
    _kill(place, 0, 1, 1)
    place.wait(1200)
    place.send("dead-00", first_step=16)
    place.clock.now += 10 * DAY
    place.watchdog = place.start()
    place.watchdog.run_once()
    (found,) = place.incidents("dead-00")
    assert found.incident.state == "recovered"
