"""AdaGC: each tensor's norm is held below 1.05 times its own running norm.

Steps 1 to 99, with g_i the tensor's norm and G that of all:

    h = min(1 / (G + 1e-8), 1);  gamma_i = min(gamma_i, h g_i), at first h g_i

Then h = min(1.05 gamma_i / g_i, 1) and gamma_i <- 0.98 gamma_i + 0.02 h g_i.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from foreshock_service.clipping.protocol import (
    SLACK,
    Floats,
    Judgement,
    Mask,
    Need,
    Norms,
    Parameter,
    grown,
    of_tensors,
)

BY_WARMUP = "the warm-up's limit on the whole"
BY_TENSOR = "the tensor's own limit"


class AdaGC:
    """A tensor whose first gradient comes after the warm-up begins with its own norm."""

    name: ClassVar[str] = "adagc"
    source: ClassVar[str] = "Wang et al. 2025 (arXiv 2502.11034)"
    needs: ClassVar[tuple[Need, ...]] = (Need.TOTAL, Need.TENSORS)
    approximation: ClassVar[str] = ""
    on_non_finite: ClassVar[str] = (
        "after the warm-up a tensor's NaN or Inf enters its running norm for ever; an Inf anywhere "
        "during the warm-up sets the limits of the finite tensors to 0, and 0 they stay"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "absolute": Parameter(
            default=1.0, low=1e-12, high=1e12, meaning="limit of the whole norm during the warm-up"
        ),
        "relative": Parameter(
            default=1.05, low=1e-3, high=1e6, meaning="limit of a tensor, in its running norms"
        ),
        "beta": Parameter(
            default=0.98, low=0.0, high=1.0, meaning="share of the old running norm kept"
        ),
        "warmup_steps": Parameter(
            default=100, low=1, high=1_000_000, whole=True,
            meaning="the step, counted from 1, from which tensors have limits of their own",
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._absolute, self._relative = values["absolute"], values["relative"]
        self._beta, self._warmup = values["beta"], int(values["warmup_steps"])
        self._steps = 0
        self.gamma = np.zeros(0)
        self._known = np.zeros(0)

    def judge(self, norms: Norms) -> Judgement:
        """The same factor for all tensors during the warm-up, then one for each."""
        self._steps += 1
        self.gamma = grown(self.gamma, norms.num_tensors, math.inf)
        self._known = grown(self._known, norms.num_tensors, 0.0)
        new = norms.present & (self._known == 0.0)
        self._known[norms.present] = 1.0
        bad = norms.present & ~np.isfinite(norms.l2)
        factors = np.ones(norms.num_tensors)
        if self._steps < self._warmup:
            by, non_finite = BY_WARMUP, self._warm_up(norms, factors, new) or bool(bad.any())
        else:
            by, non_finite = BY_TENSOR, bool(bad.any())
            self._own_limits(norms, factors, new)
        factors[bad] = 1.0
        known = self._known > 0.0
        lost = known & (~np.isfinite(self.gamma) | (self.gamma == 0.0))
        return of_tensors(factors, non_finite=non_finite, poisoned=int(lost.sum()), by=by)

    def _warm_up(self, norms: Norms, factors: Floats, new: Mask) -> bool:
        total = norms.total
        if total is None:
            return False
        with np.errstate(invalid="ignore", over="ignore"):
            h = min(self._absolute / (total + 1e-8), 1.0) if total == total else math.nan
            clipped = h * norms.l2
        # A comparison with NaN is false, so that a running norm keeps what it had.
        lower = norms.present & (clipped < self.gamma)
        self.gamma[lower] = clipped[lower]
        self.gamma[new] = clipped[new]
        if not math.isfinite(total):
            return True
        if total > self._absolute * (1.0 + SLACK):
            factors[norms.present] = h
        return False

    def _own_limits(self, norms: Norms, factors: Floats, new: Mask) -> None:
        self.gamma[new] = norms.l2[new]
        limit = self._relative * self.gamma
        with np.errstate(invalid="ignore", divide="ignore"):
            over = norms.present & (norms.l2 > limit * (1.0 + SLACK))
            factors[over] = limit[over] / norms.l2[over]
            kept = np.where(over, limit, norms.l2)
            # Inf times a factor of 0 is NaN.
            kept = np.where(np.isinf(norms.l2), np.nan, kept)
            learned = self._beta * self.gamma + (1.0 - self._beta) * kept
        self.gamma = np.where(norms.present, learned, self.gamma)
