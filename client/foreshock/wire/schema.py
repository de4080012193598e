"""The series schema: which tensors a run measures, registered once and named by its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from foreshock.errors import WireError
from foreshock.wire.names import KINDS, STATISTICS

MAX_SERIES: Final = 65_536
MAX_NAME_LENGTH: Final = 512


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


@dataclass(frozen=True, slots=True)
class SeriesSchema:
    """The rows of a frame's table, in order, and the statistics that are its columns."""

    series: tuple[Series, ...]
    statistics: tuple[str, ...] = STATISTICS

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "statistics": list(self.statistics),
            "series": [{**asdict(s), "shape": list(s.shape)} for s in self.series],
        }

    @property
    def hash(self) -> str:
        """32 hex digits that name this schema, equal wherever the content is equal."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def schema_from_json(document: Any) -> SeriesSchema:
    """Build a schema from its JSON form.

    Raises:
        WireError: a field is missing, has the wrong type, or is out of bounds.
    """
    if not isinstance(document, dict):
        raise WireError("a series schema must be a JSON object")
    try:
        statistics = tuple(document["statistics"])
        series = tuple(
            Series(**{**item, "shape": tuple(item.get("shape", ()))}) for item in document["series"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise WireError(f"series schema: {error}") from error
    unknown = [s for s in statistics if s not in STATISTICS]
    if unknown or len(set(statistics)) != len(statistics):
        raise WireError(f"series schema: unknown or repeated statistics {unknown or statistics}")
    if len(series) > MAX_SERIES:
        raise WireError(f"series schema: {len(series)} series, at most {MAX_SERIES} are allowed")
    _check_series(series)
    return SeriesSchema(series, statistics)


def _check_series(series: tuple[Series, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for item in series:
        where = f"series {item.name!r}"
        texts: tuple[Any, ...] = (item.name, item.kind, item.module_type, item.dtype)
        if not all(isinstance(text, str) and len(text) <= MAX_NAME_LENGTH for text in texts):
            raise WireError(f"{where}: names must be strings of at most {MAX_NAME_LENGTH}")
        if not item.name or item.kind not in KINDS:
            raise WireError(f"{where}: kind must be one of {', '.join(KINDS)}")
        numbers: tuple[Any, ...] = (item.depth, item.numel, *item.shape)
        if not all(type(n) is int and 0 <= n < 1 << 53 for n in numbers):
            raise WireError(f"{where}: depth, numel and shape must be whole numbers from 0 up")
        if (item.kind, item.name) in seen:
            raise WireError(f"{where}: listed twice as {item.kind}")
        seen.add((item.kind, item.name))
