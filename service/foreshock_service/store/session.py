"""The database connection: readers and writers are different types, and a write is one transaction.

A stage opens `store.write()` around one unit of work and commits by leaving it; nobody else
commits. Functions of the store take a `ReadSession` or a `WriteSession` first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event


@dataclass(frozen=True, slots=True)
class ReadSession:
    """A consistent view of the database; never changes it."""

    connection: Connection

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.connection.dialect.name


@dataclass(frozen=True, slots=True)
class WriteSession(ReadSession):
    """A transaction that commits when its `with` block ends without an exception."""


class Store:
    """One database, on SQLite or PostgreSQL, behind its sessions.

    `url` is an SQLAlchemy URL: `sqlite:////path/foreshock.db` or
    `postgresql+psycopg://user@host/name`.
    """

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.engine: Engine = create_engine(url, pool_size=pool_size, pool_pre_ping=True)
        self.dialect = self.engine.dialect.name
        # SQLite has one writer: waiting here is fair and cheap, waiting in the database is neither.
        self._writer: Any = threading.Lock() if self.dialect == "sqlite" else nullcontext()
        if self.dialect == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[ReadSession]:
        """A read transaction, rolled back at the end: all its queries see one moment."""
        with self.engine.connect() as connection:
            if self.dialect == "postgresql":
                # Rows move from batches to blocks: two queries must see the same side of it.
                connection = connection.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            yield ReadSession(connection)

    @contextmanager
    def write(self) -> Iterator[WriteSession]:
        """A write transaction: committed when the block ends, rolled back when it raises."""
        with self._writer, self.engine.connect() as connection:
            connection = connection.execution_options(foreshock_write=True)
            with connection.begin():
                yield WriteSession(connection)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # SQLAlchemy, not the driver, begins transactions: a write must begin with IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    # The page size takes effect only before the first table: 16 KiB suits blobs of 10-200 kB.
    for pragma in (
        "page_size=16384",
        "journal_mode=WAL",
        "synchronous=FULL",
        "wal_autocheckpoint=2048",
        "busy_timeout=10000",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("foreshock_write", False)
    connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
