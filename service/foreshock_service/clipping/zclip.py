"""ZClip: an outlier among recent norms is clipped to less than the usual spread above their mean.

The first 25 norms give the mean m and the population variance v; meanwhile the plain limit holds.
Then, with s = sqrt(v) and z = (G - m) / (s + 1e-6):

    z > 2.5:  x = f (m + 2.5 s / (z / 2.5)), else x = G
    limit = min(x, 1);  factor = limit / (G + 1e-6) where G > limit
    m <- 0.97 m + 0.03 x, then v <- 0.97 v + 0.03 (x - m)^2 with the new m
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from foreshock_service.clipping.protocol import SLACK, Judgement, Need, Norms, Parameter

BY_PLAIN = "the plain limit"
BY_SCORE = "the z-score"


class ZClip:
    """The mode `zscore` with `adaptive_scaling`, its defaults."""

    name: ClassVar[str] = "zclip"
    source: ClassVar[str] = "Kumar et al. 2025 (arXiv 2504.02507); github.com/bluorion-com/ZClip"
    needs: ClassVar[tuple[Need, ...]] = (Need.TOTAL,)
    approximation: ClassVar[str] = ""
    on_non_finite: ClassVar[str] = (
        "a NaN enters its mean and variance for ever, and so does an Inf of the first steps: from "
        "there on only its plain limit works; an Inf after the first steps is clipped to the mean, "
        "which multiplies every gradient by 0"
    )
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "alpha": Parameter(
            default=0.97, low=0.0, high=1.0, meaning="share of the old mean and variance kept"
        ),
        "z_threshold": Parameter(
            default=2.5, low=1e-3, high=1e6, meaning="standard deviations above the mean"
        ),
        "max_norm": Parameter(
            default=1.0, low=1e-12, high=1e30, meaning="the plain limit; a huge one switches it off"
        ),
        "warmup_steps": Parameter(
            default=25, low=1, high=100_000, whole=True,
            meaning="norms that make the first mean and variance",
        ),
        "clip_factor": Parameter(
            default=1.0, low=1e-3, high=1e3, meaning="f, what an outlier's limit is multiplied by"
        ),
    }  # fmt: skip

    def __init__(self, values: Mapping[str, float]) -> None:
        self._alpha, self._threshold = values["alpha"], values["z_threshold"]
        self._max_norm, self._clip_factor = values["max_norm"], values["clip_factor"]
        self._warmup = int(values["warmup_steps"])
        self._first: list[float] = []
        self.mean: float | None = None
        self.variance = 0.0

    def judge(self, norms: Norms) -> Judgement:
        """One factor for all gradients."""
        total = norms.total
        if total is None:
            return Judgement()
        x, scored = total, False
        if self.mean is None:
            self._collect(total)
        else:
            deviation = math.sqrt(self.variance)
            z = (total - self.mean) / (deviation + 1e-6)
            if z > self._threshold:
                scored = True
                spread = self._threshold * deviation / (z / self._threshold)
                x = (self.mean + spread) * self._clip_factor
            self._learn(x)
        poisoned = int(self.mean is not None and not math.isfinite(self.mean + self.variance))
        if not math.isfinite(total):
            return Judgement(non_finite=True, poisoned=poisoned)
        limit = min(x, self._max_norm)
        if total <= limit * (1.0 + SLACK):
            return Judgement(poisoned=poisoned)
        by = BY_SCORE if scored and x < self._max_norm else BY_PLAIN
        return Judgement(factor=max(limit, 0.0) / (total + 1e-6), by=by, poisoned=poisoned)

    def _collect(self, total: float) -> None:
        self._first.append(total)
        if len(self._first) < self._warmup:
            return
        count = len(self._first)
        self.mean = sum(self._first) / count
        self.variance = sum(_square(value - self.mean) for value in self._first) / count
        self._first = []

    def _learn(self, x: float) -> None:
        assert self.mean is not None
        self.mean = self._alpha * self.mean + (1.0 - self._alpha) * x
        self.variance = self._alpha * self.variance + (1.0 - self._alpha) * _square(x - self.mean)


def _square(value: float) -> float:
    # Not `value ** 2`, which raises where the square is beyond a float.
    return value * value
