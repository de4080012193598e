"""Fira's norm-growth limiter: a tensor's norm may grow by 1 % a step.

rho = max(S_t / (S_t-1 + 1e-8), 1.01) / 1.01;  factor = 1 / rho;  S_t is kept as S_t / rho
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from foreshock_service.clipping.carried import Carried
from foreshock_service.clipping.protocol import SLACK, Floats, Judgement, Need, Norms, Parameter


class Fira:
    """In Fira S is the norm of the part of an update that a low-rank projection leaves out."""

    name: ClassVar[str] = "fira"
    source: ClassVar[str] = "Chen et al. 2024 (arXiv 2410.01623); github.com/xichen-fy/Fira"
    needs: ClassVar[tuple[Need, ...]] = (Need.TENSORS,)
    approximation: ClassVar[str] = (
        "the norm of the gradient stands for S, the rescaled part outside Fira's low-rank "
        "projection, which exists only in Fira's optimizer"
    )
    on_non_finite: ClassVar[str] = "a NaN or Inf enters the tensor's kept norm for ever"
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "growth": Parameter(
            default=1.01, low=1.0, high=1e6, meaning="largest growth of a norm from step to step"
        ),
    }

    def __init__(self, values: Mapping[str, float]) -> None:
        self._growth = values["growth"]
        self._carried = Carried()

    @property
    def kept(self) -> Floats:
        """The limited norm of each tensor."""
        return self._carried.values

    def judge(self, norms: Norms) -> Judgement:
        """A factor for each tensor."""
        self._carried.make_room(norms)
        present, l2 = norms.present, norms.l2
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            growth = np.where(self._carried.steps > 0.0, l2 / (self.kept + 1e-8), 1.0)
            rho = np.where(growth > self._growth, growth, self._growth) / self._growth
            # A maximum with NaN is NaN, and Inf over Inf is too.
            rho = np.where(np.isnan(growth), np.nan, rho)
            limited = l2 / rho
        self._carried.carry(limited, present)
        factors = np.ones(norms.num_tensors)
        over = present & np.isfinite(rho) & np.isfinite(l2) & (rho > 1.0 + SLACK)
        factors[over] = 1.0 / rho[over]
        return self._carried.judgement(factors, l2, present)
