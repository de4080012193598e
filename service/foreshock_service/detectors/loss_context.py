"""What the rate and the gradients say of a loss that rises: harm, or the course of things.

- A gradient norm that leaps with the loss confirms it: single batches are hard by chance, and not
  for rows on end.
- A warm restart takes the rate back to where it was, and the loss with it: up to the largest of the
  16 losses that the run last had at such a rate (within an octave), for as long as the rate stays
  above twice the one that it rose from.
- A critic's loss lies below nought, and comes back towards it as its opponent learns what it can
  tell apart; its gradients get smaller meanwhile. Damage makes them larger, or leaves them: the
  gradient norm of the newest 16 rows lies below three quarters of that of the 80 before.

Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), figure 1, for what a restart does to the
loss; Arjovsky et al. 2017 (arXiv 1701.07875), figure 3, for a critic's estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from foreshock_service.detectors.window import Window, median

LOSSES_AT_A_RATE: Final = 16
RISE: Final = 2.0
"""A rate so many times the least of the newest ones has risen."""
RISE_ROWS: Final = 32
NORM_ROWS: Final = 16
NORMS_BEFORE: Final = 80
SMALLER: Final = 0.75
NORMS_OF_A_LEAP: Final = 48


class LossContext:
    """Follows the rate and the gradient norm beside the loss."""

    def __init__(self) -> None:
        self._at_rate: dict[int, Window] = {}
        self._rates = Window(RISE_ROWS)
        self._risen_from, self._up_to = 0.0, -math.inf
        self._norms = Window(NORMS_BEFORE + NORM_ROWS)

    def follow(self, scalars: Mapping[str, float], loss: float) -> None:
        """Take the next row in, whose loss is finite."""
        norm = scalars.get("grad_norm")
        if norm is not None and math.isfinite(norm):
            self._norms.add(norm)
        rate = scalars.get("lr")
        if rate is None or not 0.0 < rate < math.inf:
            return
        octave = math.floor(math.log2(rate))
        least = min(self._rates.values(), default=rate)
        self._rates.add(rate)
        if self._risen_from and rate <= RISE * self._risen_from:
            self._risen_from, self._up_to = 0.0, -math.inf
        if rate >= RISE * least and (not self._risen_from or least < self._risen_from):
            self._risen_from = least
        if self._risen_from:
            known = [self._at_rate[o].largest() for o in (octave, octave + 1) if o in self._at_rate]
            self._up_to = max(known, default=-math.inf)
            return
        self._at_rate.setdefault(octave, Window(LOSSES_AT_A_RATE)).add(loss)

    def excuses(self, loss: float) -> bool:
        """Whether a loss, or a level of it, needs no other explanation."""
        return loss <= self._up_to or self.game_ends(loss)

    def norm_leapt(self, factor: float) -> bool:
        """Whether the newest gradient norm is so many times the median of those before."""
        *before, newest = self._norms.values()[-NORMS_OF_A_LEAP:] or [math.nan]
        if len(before) < NORMS_OF_A_LEAP - 1 or newest <= factor * min(before):
            return False
        return newest > factor * median(before)

    def game_ends(self, loss: float) -> bool:
        """Whether a loss below nought rises with gradients that get smaller."""
        norms = self._norms.values()
        if loss >= 0.0 or len(norms) < self._norms.size:
            return False
        return median(norms[-NORM_ROWS:]) < SMALLER * median(norms[:-NORM_ROWS])

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "at_rate": [[octave, window.state()] for octave, window in self._at_rate.items()],
            "rates": self._rates.state(),
            "risen": [self._risen_from, self._up_to],
            "norms": self._norms.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._at_rate = {}
        for octave, losses in state["at_rate"]:
            self._at_rate[int(octave)] = Window(LOSSES_AT_A_RATE)
            self._at_rate[int(octave)].restore(losses)
        self._rates.restore(state["rates"])
        self._risen_from, self._up_to = (float(x) for x in state["risen"])
        self._norms.restore(state["norms"])
