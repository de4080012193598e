"""The pages that explain each kind of incident: `docs/incidents`, carried with the service."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "kinds"
INDEX: Final = "README"
PATH: Final = "/incidents/kinds"
"""Where the service shows the index; a kind's page is one level below."""


@cache
def explained_kinds() -> frozenset[str]:
    """The kinds that have a page."""
    return frozenset(path.stem for path in FOLDER.glob("*.md") if path.stem != INDEX)


def explanation(kind: str | None) -> str | None:
    """The Markdown of a kind's page, or of the index; None where there is no such page."""
    if kind is not None and kind not in explained_kinds():
        return None
    return (FOLDER / f"{kind or INDEX}.md").read_text(encoding="utf-8")


def explanation_path(kind: str) -> str:
    """Where the service explains a kind; a kind without a page is sent to the index."""
    return f"{PATH}/{kind}" if kind in explained_kinds() else PATH
