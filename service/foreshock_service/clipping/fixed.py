"""Fixed clipping: the gradients are scaled so that their common norm stays below a constant.

factor = min(1, c / (G + 1e-6))
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from foreshock_service.clipping.protocol import SLACK, Judgement, Need, Norms, Parameter


class Fixed:
    """`torch.nn.utils.clip_grad_norm_`. It remembers nothing."""

    name: ClassVar[str] = "fixed"
    source: ClassVar[str] = "Pascanu et al. 2013 (arXiv 1211.5063); torch.nn.utils.clip_grad_norm_"
    needs: ClassVar[tuple[Need, ...]] = (Need.TOTAL,)
    approximation: ClassVar[str] = ""
    on_non_finite: ClassVar[str] = (
        "a NaN makes every gradient NaN, an Inf multiplies every gradient by 0; "
        "the steps after it are clipped as ever"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "max_norm": Parameter(
            default=1.0, low=1e-12, high=1e12,
            meaning="the largest norm let through; PyTorch has no default, 1 is the usual choice",
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._max_norm = values["max_norm"]

    def judge(self, norms: Norms) -> Judgement:
        """One factor for all gradients."""
        total = norms.total
        if total is None or not math.isfinite(total):
            return Judgement(non_finite=total is not None)
        if total <= self._max_norm * (1.0 + SLACK):
            return Judgement()
        return Judgement(factor=self._max_norm / (total + 1e-6))
