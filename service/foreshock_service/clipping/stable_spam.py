"""Stable-SPAM's threshold: elements beyond the usual largest element are scaled down to it.

    m_i <- 0.999 m_i + 0.001 max|g|;  limit = m_i / (1 - 0.999^t)
    elements above the limit are multiplied by limit / max|g|

t counts the steps on which the tensor had a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from foreshock_service.clipping.carried import Carried
from foreshock_service.clipping.protocol import SLACK, Floats, Judgement, Need, Norms, Parameter


class StableSpam:
    """Only the threshold is clipping: the optimizer then rescales every gradient's norm, clipped or
    not, and resets its momenta."""

    name: ClassVar[str] = "stable_spam"
    source: ClassVar[str] = "Huang et al. 2025 (arXiv 2502.17055)"
    needs: ClassVar[tuple[Need, ...]] = (Need.ABS_MAX,)
    approximation: ClassVar[str] = (
        "the factor is that of the largest element, the share of elements that it meets is not "
        "recorded; the count t runs on, where the authors' code begins it again every 1000 steps, "
        "which lifts the limit for some hundred steps"
    )
    on_non_finite: ClassVar[str] = (
        "a NaN or Inf enters the tensor's average for ever, and nothing is clipped then"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "theta": Parameter(
            default=0.999, low=0.0, high=0.999999, meaning="share of the old average kept"
        ),
    }

    def __init__(self, values: Mapping[str, float]) -> None:
        self._theta = values["theta"]
        self._carried = Carried()

    @property
    def average(self) -> Floats:
        """The running mean of each tensor's largest element."""
        return self._carried.values

    def judge(self, norms: Norms) -> Judgement:
        """A factor for each tensor: that of its largest element."""
        self._carried.make_room(norms)
        present, largest = norms.present, norms.abs_max
        learned = self._theta * self.average + (1.0 - self._theta) * largest
        self._carried.carry(learned, present)
        factors = np.ones(norms.num_tensors)
        judged = present & np.isfinite(largest) & np.isfinite(self.average)
        limit = self.average[judged] / (1.0 - self._theta ** self._carried.steps[judged])
        over = largest[judged] > limit * (1.0 + SLACK)
        which = np.flatnonzero(judged)[over]
        factors[which] = limit[over] / largest[which]
        return self._carried.judgement(factors, largest, present)
