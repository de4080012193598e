"""OLMo's adaptive clipping: each tensor's norm is held below a multiple of its own running norm.

    limit = r EMA_i;  factor = min(1, limit / (g_i + 1e-6))
    EMA_i <- b EMA_i + (1 - b) (limit where clipped, else g_i)

A tensor's average begins with its norm of step 2; at step 1 it is judged against its own norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from foreshock_service.clipping.protocol import (
    SLACK,
    Judgement,
    Need,
    Norms,
    Parameter,
    grown,
    of_tensors,
)


class Olmo:
    """`max_grad_norm_ratio`, which OLMo leaves off unless it is set."""

    name: ClassVar[str] = "olmo"
    source: ClassVar[str] = "github.com/allenai/OLMo, olmo/optim.py"
    needs: ClassVar[tuple[Need, ...]] = (Need.TENSORS,)
    approximation: ClassVar[str] = ""
    on_non_finite: ClassVar[str] = (
        "a NaN enters the tensor's average for ever; an Inf multiplies the tensor by 0 and counts "
        "as the limit"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "ratio": Parameter(
            default=2.0, low=1e-3, high=1e6,
            meaning="r; OLMo has none by default, 2 is ours, so that there is something to see",
        ),
        "beta": Parameter(
            default=0.95, low=0.0, high=1.0,
            meaning="b, the larger of the optimizer's two betas: 0.9 and 0.95 in OLMo",
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._ratio, self._beta = values["ratio"], values["beta"]
        self._steps = 0
        self.average = np.zeros(0)
        self._kept = np.zeros(0)

    def judge(self, norms: Norms) -> Judgement:
        """A factor for each tensor."""
        self._steps += 1
        self.average = grown(self.average, norms.num_tensors, 0.0)
        self._kept = grown(self._kept, norms.num_tensors, 0.0)
        present, l2 = norms.present, norms.l2
        average = np.where(self._kept > 0.0, self.average, l2)
        factors = np.ones(norms.num_tensors)
        limit = self._ratio * average
        bad = present & ~np.isfinite(l2)
        with np.errstate(invalid="ignore"):
            over = present & (l2 > limit * (1.0 + SLACK))
            factors[over] = limit[over] / (l2[over] + 1e-6)
            learned = self._beta * average + (1.0 - self._beta) * np.where(over, limit, l2)
        factors[bad] = 1.0
        if self._steps > 1:
            self.average = np.where(present, learned, self.average)
            self._kept[present] = 1.0
        lost = (self._kept > 0.0) & ~np.isfinite(self.average)
        return of_tensors(factors, non_finite=bool(bad.any()), poisoned=int(lost.sum()))
