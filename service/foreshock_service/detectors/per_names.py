"""What a rule derives from the names of a row's scalars, worked out again when those change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerNames(Generic[T]):
    """Remembers what `derive` made of the names that came last: mostly they are the same."""

    def __init__(self, derive: Callable[[tuple[str, ...]], T]) -> None:
        self._derive = derive
        self._known: tuple[tuple[str, ...], T] | None = None

    def of(self, names: Iterable[str]) -> T:
        """What is derived from these."""
        key = tuple(names)
        if self._known is None or self._known[0] != key:
            self._known = key, self._derive(key)
        return self._known[1]
