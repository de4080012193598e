"""Runs `foreshock scan` as a user does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from foreshock.__main__ import main

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


def scan(*arguments: str | Path, variables: Mapping[str, str] | None = None) -> Scanned:
    """Scan to the end; notifications are read back where `--jsonl FILE` was given."""
    given = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    environ = environment(**(variables or {}))
    with patch.dict(os.environ, environ, clear=True), redirect_stdout(out), redirect_stderr(err):
        status = main(["scan", *given])
    told = []
    if "--jsonl" in given:
        where = given[given.index("--jsonl") + 1]
        text = out.getvalue() if where == "-" else Path(where).read_text()
        told = [json.loads(line) for line in text.splitlines()]
    return Scanned(status, out.getvalue().splitlines(), err.getvalue().splitlines(), told)


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
