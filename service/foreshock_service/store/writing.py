"""Inserts that meet a row already there, in the one dialect that both databases share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from foreshock_service.store.session import WriteSession

Rows = Sequence[Mapping[str, Any]]


def insert(session: WriteSession, table: Table, rows: Rows) -> None:
    """Insert rows in one round trip."""
    if rows:
        session.connection.execute(table.insert(), _dicts(rows))


def insert_new(session: WriteSession, table: Table, rows: Rows) -> None:
    """Insert the rows whose key is not there yet, and leave the others as they are.

    Replicas that insert the same keys wait for one another: give the rows in key order.
    """
    if rows:
        statement = _insert(session, table).on_conflict_do_nothing()
        session.connection.execute(statement, _dicts(rows))


def upsert(session: WriteSession, table: Table, rows: Rows, *, update: Sequence[str]) -> None:
    """Insert rows; where the primary key is there, set the columns `update` instead."""
    if rows:
        statement = _insert(session, table)
        statement = statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in update},
        )
        session.connection.execute(statement, _dicts(rows))


def _insert(session: WriteSession, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if session.dialect == "postgresql" else sqlite.insert(table)


def _dicts(rows: Rows) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]
