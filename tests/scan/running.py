"""Runs `foreshock scan` as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands.running import environment, foreshock

COMMAND = [sys.executable, "-m", "foreshock", "scan"]


@dataclass(frozen=True, slots=True)
class Scanned:
    """How a scan ended and what it said."""

    status: int
    lines: list[str]
    errors: list[str]
    told: list[dict[str, Any]]


def scan(*arguments: str | Path, variables: Mapping[str, str] | None = None) -> Scanned:
    """Scan to the end; notifications are read back where `--jsonl FILE` was given."""
    given = [str(argument) for argument in arguments]
    done = foreshock("scan", *given, **(variables or {}))
    told = []
    if "--jsonl" in given:
        where = given[given.index("--jsonl") + 1]
        text = done.stdout if where == "-" else Path(where).read_text()
        told = [json.loads(line) for line in text.splitlines()]
    return Scanned(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), told)


def scan_alone(*arguments: str | Path, **variables: str) -> Scanned:
    """Scan in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(**variables),
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Scanned(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), [])
