"""Runs `foreshock scan` as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "foreshock", "scan"]


@dataclass(frozen=True, slots=True)
class Scanned:
    """How a scan ended and what it said."""

    status: int
    lines: list[str]
    errors: list[str]
    told: list[dict[str, Any]]


def environment(**variables: str) -> dict[str, str]:
    """The process's own environment without its FORESHOCK_* variables, and with these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FORESHOCK_")}
    return {**kept, **variables}


def scan(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> Scanned:
    """Scan to the end; notifications are read back where `--jsonl FILE` was given."""
    given = [str(argument) for argument in arguments]
    done = subprocess.run(
        [*COMMAND, *given],
        capture_output=True,
        text=True,
        env=environment(**variables),
        cwd=cwd,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    told = []
    if "--jsonl" in given:
        where = given[given.index("--jsonl") + 1]
        text = done.stdout if where == "-" else Path(where).read_text()
        told = [json.loads(line) for line in text.splitlines()]
    return Scanned(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), told)
