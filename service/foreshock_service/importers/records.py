"""Records, which are names with values of any type, as rows: what CSV, JSON and W&B share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.names import ALIASES, LOSS, STEP, WALL_TIME, Binding
from foreshock_service.importers.rows import PATIENCE_ROWS, LoggedRow
from foreshock_service.importers.values import number, whole_step

WRAPPERS: Final = frozenset({"metrics", "log", "logs", "data", "scalars", "values"})
"""Objects that only group: `{"metrics": {"loss": 1}}` is about `loss`, not `metrics/loss`."""


class Records:
    """Rows of the records of one run, in their order."""

    def __init__(self) -> None:
        self._binding = Binding()
        self._num_records = 0
        self._num_losses = 0

    def row(self, record: Mapping[str, Any], where: str) -> LoggedRow | None:
        """The row, or None for a record that belongs to no step, such as a header.

        Where no record has a step, those with a loss are counted from 0.

        Raises:
            NoRun: there were too many records without a loss.
            Unreadable: a name of ours has a value that is none, or there are too many names.
        """
        self._num_records += 1
        if not self._num_losses and self._num_records > PATIENCE_ROWS:
            raise NoRun(f"none of the first {PATIENCE_ROWS} rows has a loss")
        flat = dict(_flat(record))
        self._binding.bind(flat)
        step: int | None = None
        wall_time: float | None = None
        values: dict[str, float] = {}
        for column, given in flat.items():
            name = self._binding.name(column)
            if name is None:
                continue
            if name == STEP:
                step = whole_step(given, where)
                continue
            value = _value(name, given, where)
            if name == WALL_TIME:
                wall_time = value
            elif value is not None:
                values[name] = value
        if LOSS in values:
            if step is None and self._binding.has(STEP):
                raise Unreadable(f"{where} has a loss and no step")
            if step is None:
                step = self._num_losses
            self._num_losses += 1
        if step is None or not values:
            return None
        return LoggedRow(step=step, values=values, wall_time=wall_time)


def _flat(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a record, and of the objects in it, one level deep."""
    for name, value in record.items():
        if not isinstance(value, Mapping):
            yield name, value
            continue
        prefix = "" if name.lower() in WRAPPERS else f"{name}/"
        for inner, innermost in value.items():
            if not isinstance(innermost, Mapping):
                yield f"{prefix}{inner}", innermost


def _value(name: str, given: Any, where: str) -> float | None:
    try:
        return number(given)
    except ValueError as error:
        # Notes and labels beside the numbers are nobody's trouble; a loss that is none is.
        if name in ALIASES and name != WALL_TIME:
            raise Unreadable(f"{where}: {name} {str(given)[:40]!r} is no number") from error
        return None
