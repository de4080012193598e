"""AGC: a unit's gradient is held below a share of the unit's weight.

    limit = 0.01 max(W, 1e-3);  factor = limit / max(g, 1e-6) where g > limit

W and g are norms of one output unit; a bias or a gain is one unit. The last layer is exempt.
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
    of_tensors,
)


class Agc:
    """Frames have no norms by unit, so that a matrix is judged as if it were one unit."""

    name: ClassVar[str] = "agc"
    source: ClassVar[str] = "Brock et al. 2021 (arXiv 2102.06171)"
    needs: ClassVar[tuple[Need, ...]] = (Need.TENSORS, Need.WEIGHTS)
    approximation: ClassVar[str] = (
        "a matrix is judged by the norm of the whole, because norms by output unit are not "
        "recorded: what is clipped here has a unit that would be, unless its weights are nearly 0, "
        "and units that would be clipped alone are missed; biases and gains are exact"
    )
    on_non_finite: ClassVar[str] = "a NaN or Inf stays in the tensor; the rule remembers nothing"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "clip_factor": Parameter(
            default=0.01, low=1e-6, high=1e6, meaning="largest gradient, as a share of the weight"
        ),
        "min_weight": Parameter(
            default=1e-3, low=0.0, high=1e6, meaning="a weight's norm counts as at least this"
        ),
        "exempt_last": Parameter(
            default=1, low=0, high=1, whole=True,
            meaning="1: the last layer is not clipped, as in the paper; 0: it is",
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._factor, self._least = values["clip_factor"], values["min_weight"]
        self._exempt_last = bool(values["exempt_last"])

    def judge(self, norms: Norms) -> Judgement:
        """A factor for each tensor."""
        l2 = norms.l2
        factors = np.ones(norms.num_tensors)
        bad = norms.present & ~np.isfinite(l2)
        limit = self._factor * np.maximum(norms.weights, self._least)
        judged = norms.present & np.isfinite(norms.weights) & ~bad
        if self._exempt_last:
            judged &= ~norms.last
        over = np.zeros(norms.num_tensors, np.bool_)
        over[judged] = l2[judged] > limit[judged] * (1.0 + SLACK)
        factors[over] = limit[over] / np.maximum(l2[over], 1e-6)
        return of_tensors(np.minimum(factors, 1.0), non_finite=bool(bad.any()))
