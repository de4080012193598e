"""What a Markdown page says: its code blocks, links, headings and table rows."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| `([^`]+)`", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """Texts of the page's blocks in one language."""
    return [text for name, text in FENCE.findall(page.read_text()) if name == language]


def links(page: Path) -> list[str]:
    """Targets of the page's links and pictures, outside of code."""
    return LINK.findall(FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """The page's headings as GitHub makes anchors of them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def rows(text: str) -> list[str]:
    """The first cells of the tables in `text` that are code."""
    return ROW.findall(text)


def section(page: Path, heading: str) -> str:
    """What stands under a heading of the second level, down to the next."""
    parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    (found,) = [part for part in parts if part.partition("\n")[0] == heading]
    return found
