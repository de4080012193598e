"""Runs the command `foreshock` in this process: to start another one takes longer than most
commands."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from foreshock.__main__ import main


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def environment(**variables: str) -> dict[str, str]:
    """The process's own environment without its FORESHOCK_* variables, and with these."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FORESHOCK_")}
    return {**kept, **variables}


def foreshock(*arguments: str, **variables: str) -> Ended:
    """Run one command to its end."""
    out, err = io.StringIO(), io.StringIO()
    given = environment(**variables)
    with patch.dict(os.environ, given, clear=True), redirect_stdout(out), redirect_stderr(err):
        status = main(arguments)
    return Ended(status, out.getvalue(), err.getvalue())
