"""AutoClip: the norm is clipped to a percentile of all norms of the run so far, this one included.

    c = percentile(history + [G], p), linear between neighbours;  factor = min(1, c / (G + 1e-6))

The percentile is kept exactly, by two heaps: the smallest norms up to it, and the others.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import ClassVar

from foreshock_service.clipping.protocol import SLACK, Judgement, Need, Norms, Parameter


class AutoClip:
    """The published function, which keeps every norm."""

    name: ClassVar[str] = "autoclip"
    source: ClassVar[str] = "Seetharaman et al. 2020 (arXiv 2007.14469); github.com/pseeth/autoclip"
    needs: ClassVar[tuple[Need, ...]] = (Need.TOTAL,)
    approximation: ClassVar[str] = ""
    on_non_finite: ClassVar[str] = (
        "a NaN stays in its history: every later percentile is NaN, and every gradient is "
        "multiplied by it; an Inf stays as the largest norm"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "percentile": Parameter(
            default=10.0, low=0.0, high=100.0,
            meaning="of the history; 10 is the choice of its example, and clips most steps",
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._share = values["percentile"] / 100.0
        self._low: list[float] = []
        """The smallest norms, negated: the largest of them is at the root."""
        self._high: list[float] = []
        self._poisoned = False

    def judge(self, norms: Norms) -> Judgement:
        """One factor for all gradients."""
        total = norms.total
        if total is None:
            return Judgement()
        self._poisoned = self._poisoned or math.isnan(total)
        if self._poisoned:
            return Judgement(non_finite=not math.isfinite(total), poisoned=1)
        limit = self._remember(total)
        if not math.isfinite(total):
            return Judgement(non_finite=True)
        if total <= limit * (1.0 + SLACK):
            return Judgement()
        return Judgement(factor=limit / (total + 1e-6))

    def _remember(self, total: float) -> float:
        """Put the norm into its heap, and give the percentile of all."""
        if self._low and total < -self._low[0]:
            heapq.heappush(self._low, -total)
        else:
            heapq.heappush(self._high, total)
        place = (len(self._low) + len(self._high) - 1) * self._share
        below = int(place)
        while len(self._low) > below + 1:
            heapq.heappush(self._high, -heapq.heappop(self._low))
        while len(self._low) < below + 1:
            heapq.heappush(self._low, -heapq.heappop(self._high))
        at = -self._low[0]
        between = place - below
        if not between or not self._high:
            return at
        return at + (self._high[0] - at) * between
