"""Runs migrations over the connection that `foreshock_service.store.schema` hands in."""

from __future__ import annotations

from alembic import context
from foreshock_service.store.tables import metadata

LOCK_TIMEOUT_SECONDS = 5
"""A migration that cannot get its lock gives up rather than queue every writer behind it."""


def run() -> None:
    """Apply the migrations in one transaction."""
    connection = context.config.attributes["connection"]
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    context.run_migrations()


run()
