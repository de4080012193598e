"""What a scenario is given: a way to watch, a seed, and whether its fault is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from foreshock import Watch

WatchFactory = Callable[..., Watch]
"""Called as `foreshock.watch` is; a scenario does not learn where its frames go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One training of a scenario.

    `sick` False trains the healthy twin: the same seed, data and initial weights without the fault.
    """

    watch: WatchFactory
    seed: int
    sick: bool = False

    def generator(self, salt: int = 0) -> torch.Generator:
        """Random numbers that only this purpose draws from, so that a fault, which may draw more or
        fewer of its own, leaves the data as the twin sees them."""
        return torch.Generator().manual_seed(1000 * self.seed + salt)


Train = Callable[[Stage], Iterator[float]]
"""A scenario's training: yields the loss of each step once that step is over."""
