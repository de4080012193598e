"""`foreshock migrate`: bring the database to the revision that this version needs."""

from __future__ import annotations

import argparse
import sys

from alembic.util import CommandError
from foreshock.commands import Command
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from foreshock_service.commands.arguments import add_database_arguments, settings_from
from foreshock_service.store.schema import upgrade


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database_arguments(parser)
    parser.add_argument("--to", default="head", help="revision to stop at (default: the newest)")


def _run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    if settings is None:
        return 2
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    try:
        shown = make_url(settings.url()).render_as_string(hide_password=True)
        upgrade(settings.url(), args.to)
    except (SQLAlchemyError, CommandError, OSError) as error:
        print(f"foreshock: migration failed, nothing was changed: {error}", file=sys.stderr)
        return 1
    print(f"migrated {shown} to {args.to}")
    return 0


command = Command(
    name="migrate",
    help="bring the database to the revision that this version needs",
    add_arguments=_add_arguments,
    run=_run,
)
