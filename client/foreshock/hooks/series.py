"""The series of a run: a reducer row each, in forward order when they become a schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from foreshock.wire import KINDS, Series, SeriesSchema
from foreshock.wire.schema import MAX_NAME_LENGTH
from foreshock.wire.text import fit_name

OBSERVED: Final = "observed"
"""Module type of tensors that the user hands in."""
_SPARE_ROWS: Final = 64


class SeriesTable:
    """Gives each tensor of a kind its row, up to `max_series`.

    Rows are given in order of first sight and never move. The room for them only grows between
    steps (`grow`), because a reducer's table is only empty then; until that a new series waits.
    """

    def __init__(self, modules: Iterable[tuple[str, torch.nn.Module]], *, max_series: int) -> None:
        self._modules = {name: type(module).__name__ for name, module in modules}
        self._max_series = max_series
        self._rows: dict[tuple[str, str], int] = {}
        self._entries: list[tuple[str, Series]] = []
        self._forward_order: dict[str, int] = {}
        self._cached: tuple[SeriesSchema, npt.NDArray[np.intp]] | None = None
        self.capacity = 0
        self.num_refused = 0

    def add_modules(self, modules: Iterable[tuple[str, torch.nn.Module]]) -> None:
        """Know the types of modules that the model got later."""
        self._modules.update((name, type(module).__name__) for name, module in modules)
        self._cached = None

    def grow(self, at_least: int = 0) -> bool:
        """Make room between steps; True if the reducer must be resized to `capacity`."""
        wanted = max(at_least, len(self._rows) + _SPARE_ROWS)
        if self.capacity >= min(wanted, self._max_series):
            return False
        self.capacity = min(max(wanted, 2 * self.capacity), self._max_series)
        return True

    def saw_forward(self, module: str) -> None:
        """Note the order in which modules finish their forward pass."""
        if module not in self._forward_order:
            self._forward_order[module] = len(self._forward_order)
            self._cached = None

    def row(
        self, kind: str, name: str, tensor: torch.Tensor, module: str, module_type: str = ""
    ) -> int:
        """The row of a series, or -1 while there is no room for it.

        Raises:
            ValueError: the user observes a tensor under the name of a module.
        """
        row = self._rows.get((kind, name))
        if row is not None:
            if (module_type == OBSERVED) != (self._entries[row][1].module_type == OBSERVED):
                raise ValueError(f"observe({name!r}): a module has that name, choose another")
            return row
        if len(self._rows) >= self.capacity:
            self.num_refused += self.capacity >= self._max_series
            return -1
        series = Series(
            name=fit_name(name, MAX_NAME_LENGTH),
            kind=kind,
            module_type=module_type or self._modules.get(module, ""),
            depth=0,
            numel=tensor.numel(),
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tuple(tensor.shape),
        )
        if module_type == OBSERVED:
            self.saw_forward(module)
        self._rows[kind, name] = len(self._entries)
        self._entries.append((module, series))
        self._cached = None
        return len(self._entries) - 1

    def schema(self) -> tuple[SeriesSchema, npt.NDArray[np.intp]]:
        """The schema, by kind and forward order, and the rows in the schema's order."""
        if self._cached is None:
            depths = self._depths()
            placed = [
                (KINDS.index(s.kind), depths.get(module, len(depths)), row, s)
                for row, (module, s) in enumerate(self._entries)
            ]
            placed.sort(key=lambda item: item[:3])
            series = tuple(
                Series(
                    name=s.name,
                    kind=s.kind,
                    module_type=s.module_type,
                    depth=depth,
                    numel=s.numel,
                    dtype=s.dtype,
                    shape=s.shape,
                )
                for _, depth, _, s in placed
            )
            rows = np.array([row for _, _, row, _ in placed], np.intp)
            self._cached = SeriesSchema(series), rows
        return self._cached

    def _depths(self) -> dict[str, int]:
        """A module's place in the forward pass. One whose call is not seen (its weights are used by
        its parent) has its nearest seen parent's place, else that of the one listed before it."""
        depths: dict[str, int] = {}
        previous = 0
        for name in self._modules:
            parent = name
            while parent and parent not in self._forward_order:
                parent = parent.rpartition(".")[0]
            previous = self._forward_order.get(parent, previous)
            depths[name] = previous
        for name, depth in self._forward_order.items():
            depths.setdefault(name, depth)
        return depths
