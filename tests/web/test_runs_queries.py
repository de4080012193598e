"""What the Runs page costs the database."""

from __future__ import annotations

from typing import Any

from foreshock_service.store.session import Store
from foreshock_service.web.read import read_list
from sqlalchemy import event

from tests.factories import make_batch
from tests.store.writing import write
from tests.web.seeds import exploded, store_incident


def _num_statements(store: Store) -> int:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        with store.read() as session:
            read_list(session)
    finally:
        event.remove(store.engine, "before_cursor_execute", note)
    return len(statements)


def test_many_runs_cost_as_many_statements_as_one(store: Store) -> None:
    """The page is asked for every few seconds: its cost must not grow with the runs or batches."""

    def add(run: str, num_batches: int) -> None:
        write(store, *(make_batch(run, seq=n, first_step=10 * n) for n in range(num_batches)))
        store_incident(store, run, exploded())

    add("run-0", 1)
    alone = _num_statements(store)
    for number in range(1, 12):
        add(f"run-{number}", 1 + number % 4)
    assert _num_statements(store) == alone <= 8
