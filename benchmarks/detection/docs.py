"""Writes the tables into `docs/detection.md`, between two marks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path("docs") / "detection.md"
BEGIN: Final = "<!-- figures: written by make bench-detection -->"
END: Final = "<!-- end of figures -->"
RULES: Final = ("service/foreshock_service/detectors", "service/foreshock_service/incidents")


def block(page: str) -> str:
    """What stands between the marks.

    Raises:
        ValueError: the page does not have them.
    """
    _, begin, rest = page.partition(BEGIN)
    inside, end, _ = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no lines {BEGIN} and {END}: add them where the figures go")
    return inside.strip("\n")


def replaced(page: str, lines: Sequence[str]) -> str:
    """The page with other lines between the marks."""
    block(page)
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    text = "\n".join(lines).strip("\n")
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def frozen_at() -> str:
    """The newest commit that changed a rule, and whether the files differ from it."""
    log = ["git", "log", "-1", "--format=%h of %cs", "--", *RULES]
    commit = subprocess.run(log, check=True, capture_output=True, text=True).stdout.strip()
    status = ["git", "status", "--porcelain", "--", *RULES]
    changed = subprocess.run(status, check=True, capture_output=True, text=True).stdout.strip()
    return f"{commit}, with changes that are not committed" if changed else commit
