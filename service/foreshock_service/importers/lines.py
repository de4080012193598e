"""Lines of a text file, one at a time and of bounded length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from foreshock_service.errors import Unreadable

MAX_LINE_CHARACTERS: Final = 1 << 20


def lines_of(path: Path) -> Iterator[str]:
    """The file's lines with their ends; a byte-order mark is left out.

    Raises:
        Unreadable: the file cannot be opened, is empty, is not UTF-8, or has a line that no log
            would have.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            number = 0
            while line := file.readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                if len(line) > MAX_LINE_CHARACTERS:
                    raise Unreadable(
                        f"line {number} has more than {MAX_LINE_CHARACTERS} characters: no log"
                    )
                if "\0" in line:
                    raise Unreadable(f"line {number} holds a NUL character: it is no text file")
                yield line
            if not number:
                raise Unreadable("the file is empty")
    except UnicodeDecodeError as error:
        raise Unreadable("it is no text in UTF-8") from error
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
