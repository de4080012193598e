"""Text that every part of the service can store and show: a batch with any other is refused whole,
so that what the user wrote is made to fit before it travels."""

from __future__ import annotations

import re
import zlib
from typing import Final

_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
"""NUL, which PostgreSQL cannot store, and halves of characters, which UTF-8 cannot carry."""
_MARK_LENGTH: Final = 9


def fit_text(text: str, max_length: int) -> str:
    """`text` with a replacement character for each that cannot travel, cut to `max_length`."""
    return _UNFIT.sub("\ufffd", text[:max_length])


def fit_name(name: str, max_length: int) -> str:
    """`name` as it is where it fits; else made to fit, with a mark that keeps apart two names that
    have become alike."""
    if len(name) <= max_length and not _UNFIT.search(name):
        return name
    mark = zlib.crc32(name.encode("utf-8", "surrogatepass"))
    return f"{fit_text(name, max_length - _MARK_LENGTH)}~{mark:08x}"
