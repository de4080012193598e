"""What a rule works out of the layout alone: once per layout, and not once per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from foreshock_service.detectors.layout import Layout

T = TypeVar("T")


class PerLayout(Generic[T]):
    """The value of a function of the layout. A layout never changes, so neither does its value."""

    def __init__(self, compute: Callable[[Layout], T]) -> None:
        self._compute = compute
        self._known: tuple[Layout, T] | None = None

    def of(self, layout: Layout) -> T:
        """The value for the row's layout; not to be written into."""
        if self._known is None or self._known[0] is not layout:
            self._known = layout, self._compute(layout)
        return self._known[1]
