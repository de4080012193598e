"""Migrations: up, down, equal to the tables, and checked before a start."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from foreshock_service.errors import SchemaMismatch
from foreshock_service.store.runs import insert_runs
from foreshock_service.store.schema import (
    check_current,
    current_revision,
    downgrade,
    head_revision,
    upgrade,
)
from foreshock_service.store.session import Store
from foreshock_service.store.tables import metadata
from sqlalchemy import inspect, text

_ALERT = (
    "INSERT INTO delivery (run_id, incident_number, transition, step, channel, payload, status, "
    "attempts, next_attempt_at, created_at) "
    "VALUES ('r', 1, 'opened', 1, 'c', '{}', 'p', 0, 1.0, 1.0)"
)


def _tables(url: str) -> set[str]:
    store = Store(url)
    with store.read() as session:
        names = set(inspect(session.connection).get_table_names())
    store.close()
    return names - {"alembic_version"}


def test_migrating_makes_exactly_the_declared_tables(store: Store) -> None:
    """A column, type, index or constraint in only one of the two would be found here."""
    with store.read() as session:
        context = MigrationContext.configure(session.connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_up_and_down_again(empty_url: str) -> None:
    """Down removes every table, and up works a second time, as after a failed release."""
    upgrade(empty_url)
    assert set(metadata.tables) == _tables(empty_url)
    downgrade(empty_url)
    assert set() == _tables(empty_url)
    upgrade(empty_url)
    assert set(metadata.tables) == _tables(empty_url)


def test_migrating_twice_changes_nothing(empty_url: str) -> None:
    """`migrate` can run before every start."""
    upgrade(empty_url)
    upgrade(empty_url)
    store = Store(empty_url)
    assert head_revision() == current_revision(store)
    check_current(store)
    store.close()


def test_alerts_that_wait_live_through_a_change_of_their_key(empty_url: str) -> None:
    """Down keeps one of two that differ in nothing but severity: the first."""
    upgrade(empty_url, "0003")
    store = Store(empty_url)
    with store.write() as session:
        row = {"run_id": "r", "name": "r", "created_at": 1.0, "heard_at": 1.0, "info": {}}
        insert_runs(session, [row])
        session.connection.execute(text(_ALERT))
    upgrade(empty_url, "0004")
    with store.write() as session:
        session.connection.execute(
            text(_ALERT.replace("status", "severity, status").replace("'p'", "'critical', 'p'"))
        )
        found = session.connection.execute(text("SELECT severity FROM delivery ORDER BY 1"))
        assert list(found.scalars()) == ["critical", "warning"]
    store.close()
    downgrade(empty_url, "0003")
    store = Store(empty_url)
    with store.read() as session:
        assert session.connection.execute(text("SELECT count(*) FROM delivery")).scalar() == 1
    store.close()


def test_alerts_that_are_alike_live_beside_those_that_were_there(empty_url: str) -> None:
    """Only the number of their change tells them apart; down keeps the first of them."""
    alert = _ALERT.replace("status", "severity, status").replace("'p'", "'warning', 'p'")
    numbered = alert.replace("step", "change_number, step").replace("'opened'", "'opened', {}")
    upgrade(empty_url, "0004")
    store = Store(empty_url)
    with store.write() as session:
        row = {"run_id": "r", "name": "r", "created_at": 1.0, "heard_at": 1.0, "info": {}}
        insert_runs(session, [row])
        session.connection.execute(text(alert))
    upgrade(empty_url)
    with store.write() as session:
        for number in (1, 2):
            session.connection.execute(text(numbered.format(number, "{}")))
        found = session.connection.execute(text("SELECT change_number FROM delivery ORDER BY 1"))
        assert list(found.scalars()) == [-1, 1, 2]
    store.close()
    downgrade(empty_url, "0004")
    store = Store(empty_url)
    with store.read() as session:
        found = session.connection.execute(text("SELECT delivery_id FROM delivery"))
        assert list(found.scalars()) == [1]
    store.close()


def test_a_database_of_another_version_is_refused(empty_url: str) -> None:
    """The message names the command, where a query would fail on a missing table."""
    store = Store(empty_url)
    with pytest.raises(SchemaMismatch, match="foreshock migrate"):
        check_current(store)
    store.close()


def test_blobs_are_not_compressed_by_the_database(postgres_store: Store) -> None:
    """PostgreSQL's own compression would cost time on every write and save nothing."""
    query = text(
        "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relkind = 'r' AND c.relname = ANY(:names) AND a.atttypid = 'bytea'::regtype "
        "AND a.attstorage <> 'e'"
    )
    with postgres_store.read() as session:
        assert session.connection.execute(query, {"names": list(metadata.tables)}).scalar() == 0
