"""Epsilon: gradients so small that what Adam adds to its denominator makes the update.

`update_too_small`: in a matrix the root of the second moment, worked out from the measured
gradients with the optimizer's own decay, is below 2 epsilon, on 20 rows. The update is then the
gradient over epsilon rather than over its own size: a third less at 2 epsilon, and ever less below.
Up to half of the matrices are named.

Only optimizers of the Adam family whose epsilon the run has told. Quiet once the loss is below a
tenth of its start, for a run that has converged has small gradients, and in a run that is seen from
its middle on, whose start nobody knows. Epsilon has the gradients' scale,
so this rule has one, too.
Source: Wortsman et al. 2023 (arXiv 2309.14322, section 3.4): gradients shrink with size and depth,
and epsilon at 1e-8 stops the layers below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import Layout
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import (
    MatrixSizes,
    is_one_of,
    matrix_sizes,
    pairs_of,
)
from foreshock_service.detectors.window import Window
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "epsilon"

_WITH_EPSILON: Final = ("adam", "amsgrad", "lamb")
_BETA: Final = 0.999
"""PyTorch's default, for runs that do not say theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonThresholds(Thresholds):
    """The numbers of the rule above."""

    times: float = threshold(2.0, "times", "a root of the second moment below so many epsilons")
    rows: int = threshold(20, "rows", "so long must it be that small")
    converged: float = threshold(
        0.1, "share", "of the first losses: what is below needs no updates", guard=True
    )
    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    start_rows: int = threshold(10, "rows", "losses that make the start, and the newest level")


class Epsilon:
    """Watches gradients against the optimizer's epsilon."""

    name = NAME
    thresholds = EpsilonThresholds

    def __init__(self, limits: EpsilonThresholds | None = None) -> None:
        self._limits = limits or EpsilonThresholds()
        self._memory = SeriesMemory("square", "rows")
        self._pairs = PerLayout(pairs_of)
        self._small = Streaks()
        self._start = Window(self._limits.start_rows)
        self._recent = Window(self._limits.start_rows)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, facts = baselines.layout, baselines.facts
        if facts.eps is None or facts.eps <= 0 or not is_one_of(facts, _WITH_EPSILON):
            return []
        self._follow_loss(frame.scalars.get("loss"))
        if frame.skipped:
            return []
        sizes = matrix_sizes(self._pairs.of(layout), baselines.row, None)
        if sizes is None:
            return []
        limits, i = self._limits, sizes.update
        small = self._second_moments(layout, sizes, facts) < (limits.times * facts.eps) ** 2
        if not small.any() and not self._small.running:
            return []
        measured, holds = np.zeros((2, layout.num_series), np.bool_)
        measured[i] = True
        if not (baselines.is_joined(limits.first_step) or self._has_converged()):
            holds[i] = small
        self._small.update(layout, holds=holds, measured=measured, step=frame.step)
        mask = self._small.lasting(limits.rows)
        if not mask.any():
            return []
        root = np.sqrt(self._memory["square"])
        evidence: dict[str, float | int | str] = {
            "cause": "epsilon",
            "eps": facts.eps,
            "num_matrices": int(i.size),
        }
        if 2 * int(mask.sum()) <= i.size:
            return series_findings(
                frame,
                mask,
                order=root,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="second_moment",
                value=root,
                since=self._small.since,
                evidence=evidence,
            )
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="second_moment",
                value=float(np.median(root[mask])),
                onset_step=int(self._small.since[mask].min()),
                evidence=evidence,
            )
        ]

    def _second_moments(self, layout: Layout, sizes: MatrixSizes, facts: RunFacts) -> Floats:
        """What the optimizer has of the squares by now, averaged over a matrix [matrices]."""
        memory, i = self._memory, sizes.update
        memory.align(layout)
        beta = facts.betas[1] if facts.betas else _BETA
        rows, before = memory["rows"][i], memory["square"][i]
        squares = np.exp2(2.0 * sizes.gradients)
        if not (rows > 0).all():
            fresh = ~(rows > 0)
            rows, before = np.where(fresh, 0.0, rows), np.where(fresh, squares, before)
        rows = rows + 1.0
        squares = before + np.maximum(1.0 - beta, 1.0 / rows) * (squares - before)
        memory["rows"][i], memory["square"][i] = rows, squares
        return np.asarray(squares)

    def _follow_loss(self, loss: float | None) -> None:
        if loss is None or not math.isfinite(loss):
            return
        if len(self._start) < self._limits.start_rows:
            self._start.add(loss)
        self._recent.add(loss)

    def _has_converged(self) -> bool:
        if len(self._start) < self._limits.start_rows:
            return False
        return abs(self._recent.median()) < self._limits.converged * abs(self._start.median())

    def state(self) -> State:
        """Second moments, streaks and losses."""
        return {
            "memory": self._memory.state(),
            "small": self._small.state(),
            "start": self._start.state(),
            "recent": self._recent.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._memory.restore(state["memory"])
        self._small.restore(state["small"])
        self._start.restore(state["start"])
        self._recent.restore(state["recent"])
