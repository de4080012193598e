"""Writes the tables into `docs/detection.md`, each section between two marks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path("docs") / "detection.md"
RULES: Final = ("service/foreshock_service/detectors", "service/foreshock_service/incidents")


def begin(section: str) -> str:
    """The mark before a section's figures."""
    return f"<!-- figures: {section} -->"


END: Final = "<!-- end of figures -->"


def block(page: str, section: str) -> str:
    """What stands between a section's marks.

    Raises:
        ValueError: the page does not have them.
    """
    _, mark, rest = page.partition(begin(section))
    inside, end, _ = rest.partition(END)
    if not mark or not end:
        raise ValueError(
            f"{PAGE} has no lines {begin(section)} and {END}: add them where the figures go"
        )
    return inside.strip("\n")


def replaced(page: str, section: str, lines: Sequence[str]) -> str:
    """The page with other lines between a section's marks."""
    block(page, section)
    head, mark, rest = page.partition(begin(section))
    text = "\n".join(lines).strip("\n")
    return f"{head}{mark}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def frozen_at() -> str:
    """The newest commit that changed a rule, and whether the files differ from it."""
    commit = _git("log", "-1", "--format=%h of %cs", "--", *RULES)
    changed = _git("status", "--porcelain", "--", *RULES)
    return f"{commit}, with changes that are not committed" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "a commit that git does not tell"
