"""The series schema: which tensors a run measures, registered once and named by its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from foreshock.errors import WireError
from foreshock.wire.names import KINDS, STATISTICS

MAX_SERIES: Final = 65_536
MAX_NAME_LENGTH: Final = 512
MAX_DIMENSIONS: Final = 64
"""As many as PyTorch allows a tensor."""
_KINDS_TEXT: Final = ", ".join(KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One tensor of one kind.

    `name` is the module's qualified name (activations) or the parameter's (the other kinds);
    `depth` the module's place in the forward pass, shared by its parameters; `numel` the size when
    the schema was made (activations may vary); `module_type` the class name of the module.
    """

    name: str
    kind: str
    module_type: str
    depth: int
    numel: int
    dtype: str
    shape: tuple[int, ...] = ()


_FIELDS: Final = tuple(item.name for item in fields(Series))


@dataclass(frozen=True, slots=True)
class SeriesSchema:
    """The rows of a frame's table, in order, and the statistics that are its columns."""

    series: tuple[Series, ...]
    statistics: tuple[str, ...] = STATISTICS
    _hash: str = field(default="", init=False, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "statistics": list(self.statistics),
            "series": [{**asdict(s), "shape": list(s.shape)} for s in self.series],
        }

    @property
    def hash(self) -> str:
        """32 hex digits that name this schema, equal wherever the content is equal."""
        # Kept: every batch names its schema, and with 300 series this takes 5 ms.
        if not self._hash:
            canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
            digest = hashlib.sha256(canonical.encode()).hexdigest()[:32]
            object.__setattr__(self, "_hash", digest)
        return self._hash


def schema_from_json(document: Any) -> SeriesSchema:
    """Build a schema from its JSON form.

    Raises:
        WireError: a field is missing, has the wrong type, or is out of bounds.
    """
    if not isinstance(document, dict):
        raise WireError("a series schema must be a JSON object")
    names, items = document.get("statistics"), document.get("series")
    if not isinstance(names, list) or not isinstance(items, list):
        raise WireError("series schema: `statistics` must be a list of names, `series` of objects")
    if any(name not in STATISTICS for name in names) or len(set(names)) != len(names):
        raise WireError(
            f"series schema: list each of `statistics` once, of {', '.join(STATISTICS)}"
        )
    if len(items) > MAX_SERIES:
        raise WireError(f"series schema: {len(items)} series, at most {MAX_SERIES} are allowed")
    series = tuple(_series(index, item) for index, item in enumerate(items))
    _check_series(series)
    return SeriesSchema(series, tuple(names))


def _series(index: int, item: Any) -> Series:
    if not isinstance(item, dict):
        raise WireError(f"series {index}: must be an object")
    wrong = [name for name in item if name not in _FIELDS]
    missing = [name for name in _FIELDS if name not in item and name != "shape"]
    if wrong or missing:
        word, name = ("unknown", wrong[0]) if wrong else ("missing", missing[0])
        raise WireError(f"series {index}: field {name[:64]!r} is {word}")
    shape = item.get("shape", [])
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise WireError(f"series {index}: `shape` must be a list of at most {MAX_DIMENSIONS} sizes")
    return Series(**{**item, "shape": tuple(shape)})


def _check_series(series: tuple[Series, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for index, item in enumerate(series):
        for text in (item.name, item.kind, item.module_type, item.dtype):
            _check_text(index, text)
        where = f"series {index}, {item.name!r}"
        if not item.name or item.kind not in KINDS:
            raise WireError(f"{where}: name must not be empty, kind must be one of {_KINDS_TEXT}")
        numbers: tuple[Any, ...] = (item.depth, item.numel, *item.shape)
        if not all(type(n) is int and 0 <= n < 1 << 53 for n in numbers):
            raise WireError(f"{where}: depth, numel and shape must be whole numbers from 0 up")
        if (item.kind, item.name) in seen:
            raise WireError(f"{where}: listed twice as {item.kind}")
        seen.add((item.kind, item.name))


def _check_text(index: int, text: Any) -> None:
    if not isinstance(text, str) or len(text) > MAX_NAME_LENGTH:
        raise WireError(f"series {index}: names must be strings of at most {MAX_NAME_LENGTH}")
    # Neither can be stored in a database or shown on a page: a sentence with it would be lost.
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise WireError(f"series {index}: a name holds half a character: write it in UTF-8")
    if "\0" in text:
        raise WireError(f"series {index}: a name holds a NUL character: leave it out")
