"""The monitor's budget: a share of the training's time, above which the client measures less often.

It thins in powers of two, so that a thinned kind is still measured on multiples of its own cadence:
activations first, then weights and updates, gradients last and least; scalars never. It thins no
further than once in `_LEAST_OFTEN` steps, and comes back a step at a time.

There is no clock in here: it is told seconds, and answers with the cadence to keep.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from foreshock.sampling import Cadence

_GROUPS: Final = (
    ("activation", "activation_grad"),
    ("weight", "update"),
    ("gradient",),
)
"""What is thinned together, the first to go first. Weights and updates share one read."""
_LEAST_OFTEN: Final = (16, 16, 4)
"""Steps between two measurements of a group at most; a cadence that is set rarer stays as it is.
In 22 sound runs thinned from step 64 on, 64 steps made the detectors take the drift of one gap for
an explosion in five; 16 in two, of which one shows it at the default cadence too."""
_SHORTEST_HALF: Final = 32
_LONGEST_HALF: Final = 1024
"""Bounds of half a window, in steps. It covers the rarest measurement, if that is not beyond."""
_CALM: Final = 0.45
"""Doubling one group's measurements at most doubles the cost: below this part of the budget there
is room for it, and 10 % to spare."""
_MOST_PATIENCE: Final = 64
_SHORTEST_STEP_SECONDS: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A decision: `every` holds the kinds whose cadence changes, each with its new one.

    `share` is the monitor's part of the last `num_steps` steps. Without kinds it says that the
    budget is exceeded and nothing is left to thin.
    """

    every: dict[str, int]
    share: float
    num_steps: int
    thinned: bool
    """Whether anything is now measured less often than it was set."""
    exceeded: bool
    """Whether the monitor took more than its budget."""


class Budget:
    """Keeps a cadence within `share` of the training's time; 0 never thins.

    It compares two halves of a window, and believes what both say: one stall, such as a kernel
    that is compiled, lies in one of them. A step's own time is the median of its half, so that a
    pause for an evaluation or a checkpoint makes no room.

    Each return that has to be taken back doubles the wait before the next, so that a training whose
    pace changes for ever does not make the cadence flap.
    """

    def __init__(self, cadence: Cadence, *, share: float) -> None:
        self._set = cadence
        self.share = share
        # To the training's own time: in proportion to the cost, which a share of the whole is not.
        self._limit = share / (1 - share) if share else math.inf
        self._factors = [1] * len(_GROUPS)
        self._measured: set[str] = set()
        self._own: list[float] = []
        self._spent = 0.0
        self._before: float | None = None
        self._num_calm, self._patience = 0, 1
        self._has_returned = self._bound_told = False
        self.cadence = cadence
        """The cadence in force."""

    @property
    def thinned(self) -> bool:
        """Whether anything is measured less often than it was set."""
        return any(factor > 1 for factor in self._factors)

    def spend(self, *, seconds: float, spent: float, measured: Collection[str]) -> Change | None:
        """Account for a step: its wall time, what of it the monitor took, and the kinds that it
        measured. A change holds from the next step on."""
        if math.isinf(self._limit):
            return None
        self._measured.update(measured)
        self._own.append(max(seconds - spent, _SHORTEST_STEP_SECONDS))
        self._spent += spent
        if len(self._own) < self._half():
            return None
        num_steps = 2 * len(self._own)
        cost = self._spent / (statistics.median(self._own) * len(self._own))
        before, self._before = self._before, cost
        self._own, self._spent = [], 0.0
        return None if before is None else self._decide(before, cost, num_steps)

    def _half(self) -> int:
        rarest = max((n for n in self.cadence.every.values() if n), default=1)
        return min(_LONGEST_HALF, rarest * math.ceil(_SHORTEST_HALF / rarest))

    def _decide(self, before: float, cost: float, num_steps: int) -> Change | None:
        low, high = min(before, cost), max(before, cost)
        if low > self._limit:
            self._num_calm = 0
            return self._thin(low, num_steps)
        self._num_calm = self._num_calm + 1 if high <= _CALM * self._limit else 0
        if self.thinned and self._num_calm >= self._patience:
            return self._return(high, num_steps)
        return None

    def _thin(self, cost: float, num_steps: int) -> Change | None:
        # Each doubling halves the cost at best, so that fewer could never be enough.
        num_doublings = max(1, math.ceil(math.log2(cost / self._limit)))
        factors = list(self._factors)
        for _ in range(num_doublings):
            group = next((g for g in range(len(_GROUPS)) if self._has_room(g, factors)), None)
            if group is not None:
                factors[group] *= 2
        if factors == self._factors:
            if self._bound_told:
                return None
            self._bound_told = True
        elif self._has_returned:
            self._has_returned = False
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        return self._change(factors, cost, num_steps)

    def _has_room(self, group: int, factors: list[int]) -> bool:
        """Whether a group costs anything, and may be measured half as often."""
        rarest = max(self._set.every[kind] for kind in _GROUPS[group])
        costs = not self._measured.isdisjoint(_GROUPS[group])
        return costs and rarest * factors[group] * 2 <= _LEAST_OFTEN[group]

    def _return(self, cost: float, num_steps: int) -> Change:
        factors = list(self._factors)
        group = max(g for g, factor in enumerate(factors) if factor > 1)
        factors[group] //= 2
        self._has_returned, self._num_calm = True, 0
        return self._change(factors, cost, num_steps)

    def _change(self, factors: list[int], cost: float, num_steps: int) -> Change:
        before = self.cadence.every
        every = dict(self._set.every)
        for group, factor in zip(_GROUPS, factors, strict=True):
            every.update({kind: self._set.every[kind] * factor for kind in group})
        self._factors, self._before = factors, None
        self.cadence = replace(self._set, every=every)
        return Change(
            every={kind: n for kind, n in every.items() if n != before[kind]},
            share=cost / (1 + cost),
            num_steps=num_steps,
            thinned=self.thinned,
            exceeded=cost > self._limit,
        )


_WORDS: Final = {
    "activation": "activations",
    "activation_grad": "gradients of activations",
    "weight": "weights",
    "update": "updates",
    "gradient": "gradients",
}


def sentence(change: Change, *, budget: float) -> str:
    """A change as a person reads it, in the log and on the run's page."""
    took = (
        f"the monitor took {_percent(change.share)} of the last {change.num_steps} steps, "
        f"its budget is {_percent(budget)}"
    )
    if not change.every:
        return (
            f"{took}, and it measures as seldom as it may: raise overhead_budget, or set "
            "activation_every, weight_every or update_every to 0"
        )
    kinds_of: dict[int, list[str]] = {}
    for kind, every in change.every.items():
        kinds_of.setdefault(every, []).append(_WORDS[kind])
    measuring = ", ".join(
        f"{_listed(kinds)} {_how_often(every)}" for every, kinds in kinds_of.items()
    )
    return f"measuring {measuring}: {took}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 0.995 else "100%"


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _how_often(every: int) -> str:
    if every == 1:
        return "every step"
    ending = (
        "th" if every % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(every % 10, "th")
    )
    return f"every {every}{ending} step"
