"""What the benchmark says: lines by section, figures, progress, and what is not to be believed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any


class Report:
    """Lines go to stdout as they come, progress to stderr."""

    def __init__(self) -> None:
        self.sections: dict[str, list[str]] = {}
        self.document: dict[str, Any] = {}
        self.wrong: list[str] = []
        self._started = time.monotonic()

    def add(self, section: str, lines: Iterable[str]) -> None:
        """Keep lines of a section and print them."""
        for line in lines:
            self.sections.setdefault(section, []).append(line)
            print(line, flush=True)

    def progress(self, text: str) -> None:
        """Say what is being done."""
        print(f"{time.monotonic() - self._started:6.0f} s  {text}", file=sys.stderr, flush=True)
