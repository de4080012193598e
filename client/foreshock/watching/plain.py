"""Values of the user as JSON can carry them, within bounds: what a batch says besides numbers must
not make it too large or impossible to store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Final

import torch

from foreshock.wire.text import fit_text

_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 2048
"""Of one value with all that is inside."""
_MAX_TEXT: Final = 2000
_MAX_ALL_TEXT: Final = 1 << 16
_LARGEST: Final = 1 << 53
"""Beyond it a browser's numbers are no longer exact."""


def plain(value: Any) -> Any:
    """`value` as plain JSON; what JSON has no word for becomes text, what is too much is left
    out, and what cannot be read is named by its type."""
    return _Room().plain(value, 0)


def readable(value: object) -> str:
    """`str(value)`, or the type's name where that raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001  # it may raise anything, and there is nothing to tell
        return f"({type(value).__name__} that has no text)"


class _Room:
    """How much may still be taken over."""

    def __init__(self) -> None:
        self.num_items, self.num_letters = _MAX_ITEMS, _MAX_ALL_TEXT

    def plain(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Integral | Real):
            return self._number(value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, torch.Tensor):
            if value.numel() != 1 or value.is_meta:
                return f"tensor {tuple(value.shape)}"
            return self.plain(value.item(), depth)
        if depth < _MAX_DEPTH:
            inside = members(value)
            if inside is not None:
                return {
                    self._text(readable(key)): self.plain(item, depth + 1)
                    for key, item in self._some(list(inside.items()))
                }
            if isinstance(value, Sequence | set | frozenset):
                return [self.plain(item, depth + 1) for item in self._some(list(value))]
        return self._text(readable(value))

    def _number(self, value: Any) -> Any:
        try:
            number = int(value) if isinstance(value, Integral) else float(value)
        except (OverflowError, TypeError, ValueError):
            return self._text(readable(value))
        if isinstance(number, float):
            return number if math.isfinite(number) else str(number)
        return number if abs(number) < _LARGEST else self._text(readable(number))

    def _text(self, text: str) -> str:
        cut = fit_text(text, min(_MAX_TEXT, self.num_letters))
        self.num_letters -= len(cut)
        return cut

    def _some(self, items: list[Any]) -> list[Any]:
        taken = items[: self.num_items]
        self.num_items -= len(taken)
        return taken


def members(value: Any) -> Mapping[Any, Any] | None:
    """What has names inside, by name: a mapping, a dataclass, parsed arguments; else None."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):
        inside: dict[str, Any] = vars(value)
        return inside
    return None
