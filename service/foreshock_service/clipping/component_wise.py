"""Component-wise clipping: fixed clipping of every parameter by itself.

factor = min(1, c / (g_i + 1e-6))
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


class ComponentWise:
    """`clip_grad_norm_` on each named tensor. It remembers nothing."""

    name: ClassVar[str] = "component_wise"
    source: ClassVar[str] = "Yang and Ma 2022 (arXiv 2210.10325)"
    needs: ClassVar[tuple[Need, ...]] = (Need.TENSORS,)
    approximation: ClassVar[str] = ""
    on_non_finite: ClassVar[str] = (
        "a NaN makes the tensor NaN, an Inf multiplies it by 0; the other tensors are clipped as "
        "ever"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "max_norm": Parameter(
            default=1.0, low=1e-12, high=1e12,
            meaning="largest norm of a tensor; the paper searches 0.01 to 1e5, 1 is ours",
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._max_norm = values["max_norm"]

    def judge(self, norms: Norms) -> Judgement:
        """A factor for each tensor."""
        finite = norms.present & np.isfinite(norms.l2)
        factors = np.ones(norms.num_tensors)
        over = np.zeros(norms.num_tensors, np.bool_)
        over[finite] = norms.l2[finite] > self._max_norm * (1.0 + SLACK)
        factors[over] = self._max_norm / (norms.l2[over] + 1e-6)
        return of_tensors(factors, non_finite=bool((norms.present & ~finite).any()))
