"""Arguments and ways to end that several commands share, and the settings that come of them."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.errors import Unprocessable
from foreshock_service.settings import ServiceSettings

MAX_CONFIG_BYTES: Final = 1 << 20
INTERRUPTED: Final = 130
CLOSED: Final = 141
"""As shells say it: 128 and the number of the signal (SIGINT, SIGPIPE)."""


def add_database_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the data is."""
    parser.add_argument(
        "--data-dir", type=Path, help="folder of the embedded database (FORESHOCK_DATA_DIR)"
    )
    parser.add_argument(
        "--database-url",
        help="postgresql+psycopg://user@host/name instead of SQLite (FORESHOCK_DATABASE_URL)",
    )


def settings_from(args: argparse.Namespace) -> ServiceSettings | None:
    """Settings of the environment, overridden by the arguments given.

    None when they cannot be used; what is wrong has been said on stderr, without the values, which
    may be secret.
    """
    given = {
        name: getattr(args, name)
        for name in ("host", "port", "data_dir", "database_url")
        if getattr(args, name, None) is not None
    }
    try:
        return ServiceSettings(**given)
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            name = "__".join(str(part) for part in item["loc"]).upper()
            print(f"foreshock: FORESHOCK_{name}: {item['msg']}", file=sys.stderr)
        return None


def detection_config(path: Path) -> EngineConfig:
    """The configuration of detection in a TOML file.

    Raises:
        Unprocessable: it cannot be read, is no TOML, or says what no configuration says; with the
            file's name.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ValueError(f"more than {MAX_CONFIG_BYTES} bytes are no configuration")
        return EngineConfig.from_document(tomllib.loads(data.decode()))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unprocessable(f"{path}: {reason or error}") from error


def closed() -> int:
    """End quietly, with the status for it: whoever read the output has enough."""
    # Nothing more may be written, not even at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED
