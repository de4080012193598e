"""The database's own schema: brought up, taken down, and checked before the service starts."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import foreshock_service
from foreshock_service.errors import SchemaMismatch
from foreshock_service.store.session import Store


def upgrade(url: str, revision: str = "head") -> None:
    """Migrate the database at `url` up to `revision`, in one transaction."""
    _migrate(url, revision, down=False)


def downgrade(url: str, revision: str = "base") -> None:
    """Migrate the database at `url` down to `revision`, in one transaction. Data is lost."""
    _migrate(url, revision, down=True)


def current_revision(store: Store) -> str | None:
    """The revision of the database, None when it was never migrated."""
    with store.read() as session:
        return MigrationContext.configure(session.connection).get_current_revision()


def head_revision() -> str:
    """The revision that this version of the service works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package carries no migrations"
    return head


def check_current(store: Store) -> None:
    """Refuse a database of another version, before a query does so less clearly.

    Raises:
        SchemaMismatch: the database is at another revision than this version needs.
    """
    present, needed = current_revision(store), head_revision()
    if present != needed:
        raise SchemaMismatch(
            f"the database is at revision {present or 'none'}, and this version of the service "
            f"needs {needed}: run `foreshock migrate`, or the version that made the database"
        )


def _config() -> Config:
    config = Config()
    folder = Path(foreshock_service.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _migrate(url: str, revision: str, *, down: bool) -> None:
    store = Store(url)
    try:
        with store.write() as session:
            config = _config()
            config.attributes["connection"] = session.connection
            if down:
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)
    finally:
        store.close()
