"""Plateau: a run that learns nothing from its first step on.

`plateau`: 150 logged rows after the learning rate reached half of its largest value, the best level
of the loss (median of 16 rows) is less than 5 % below its start and less than 2 sigma of the noise
of single rows or 1 %; the last third of the rows is surely (2 standard errors) not 3 % better than
the first and not surely better than the second; and neither the gradient norm nor the spread of the
outputs has doubled since the first rows: something that is about to break out shows it there first.
A best level within 1 % of log K, for the K units of an output, is that of a guess: then the fall to
it in the first 32 rows is no progress. A slow start is given 200 rows: a gradient norm that has not
surely fallen still finds its way, unless the loss is one number.

Quiet: runs seen from their middle on (the first step is not near 0), after 400 rows (a run that has
learned once is not stuck), adversarial and reinforcement losses, whose level means little, and runs
of which most weights do not move.
Source: SageMaker Debugger's LossNotDecreasing for the idea; the conditions are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.layout import WEIGHT, units_of_outputs
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.progress import DIFFERENT_BATCHES
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "plateau"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateauThresholds(Thresholds):
    """The numbers of the rules above."""

    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    start_rows: int = threshold(10, "rows", "losses that make the start")
    level_rows: int = threshold(16, "rows", "losses that make a level")
    stuck_rows: int = threshold(150, "rows", "rows at the full rate before a run is stuck")
    slow_rows: int = threshold(
        200, "rows", "the same, while the gradient norm has not surely fallen"
    )
    fall: float = threshold(0.1, "share", "of it that is a fall at the least", guard=True)
    last_rows: int = threshold(400, "rows", "a run that is older has learned once")
    progress: float = threshold(0.05, "share", "less of the first losses is no progress")
    sure_progress: float = threshold(
        0.01, "share", "nor is less than this, in a loss without noise"
    )
    chance: float = threshold(
        0.01, "share", "so near to that of a guess among its units lies a level that is one"
    )
    chance_rows: int = threshold(32, "rows", "in which a run comes down to that")
    hidden: float = threshold(
        0.03, "share", "of the first losses at the most that noise may hide of progress"
    )
    sigmas: float = threshold(2.0, "sigmas", "nor is less than so much of the noise", guard=True)
    growth: float = threshold(
        2.0,
        "times",
        "a gradient norm or output spread that grew so is breaking out",
        guard=True,
    )
    risen: float = threshold(
        0.1, "share", "of the first losses: a loss that has risen by more is no plateau", guard=True
    )
    frozen_share: float = threshold(
        0.5, "share", "fewer weights that move are a probe or an adapter", guard=True
    )


class Plateau:
    """Watches the loss from the first row until it has once learned."""

    name = NAME
    thresholds = PlateauThresholds

    def __init__(self, limits: PlateauThresholds | None = None) -> None:
        self._limits = limits or PlateauThresholds()
        self._over = False
        self._rows = 0
        self._warm_rows = 0
        self._max_rate = 0.0
        self._start = Window(self._limits.start_rows)
        self._recent = Window(self._limits.level_rows)
        self._noise = Window(self._limits.last_rows)
        self._norms = Window(self._limits.last_rows)
        self._outputs = PerLayout(units_of_outputs)
        self._best = math.inf
        self._first = {"grad_norm": math.nan, "spread": math.nan}
        self._recent_norm = Window(self._limits.level_rows)
        self._recent_spread = Window(self._limits.level_rows)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row, for as long as nothing is learned."""
        loss = frame.scalars.get("loss")
        if self._over or loss is None or not math.isfinite(loss):
            return []
        if self._rows == 0 and (frame.step > self._limits.first_step):
            self._over = True
            return []
        self._rows += 1
        if self._rows > self._limits.last_rows or baselines.is_game:
            self._over = True
            return []
        if len(self._start) < self._limits.start_rows:
            self._start.add(loss)
        self._recent.add(loss)
        self._noise.add(loss)
        self._follow_rate(frame.scalars.get("lr"))
        grows = self._grows(frame, baselines)
        if self._rows < self._limits.level_rows:
            return []
        self._best = min(self._best, self._recent.median())
        return self._judge(frame, baselines, grows)

    def _follow_rate(self, rate: float | None) -> None:
        if rate is not None and math.isfinite(rate) and rate > 2.0 * self._max_rate:
            self._max_rate, self._warm_rows = rate, 0
        self._warm_rows += 1

    def _grows(self, frame: Frame, baselines: Baselines) -> bool:
        layout, row = baselines.layout, baselines.row
        norm = frame.scalars.get("grad_norm")
        outputs = row.std[layout.is_output]
        spread = float(outputs.max()) if outputs.size else math.nan
        grows = False
        if norm is not None and math.isfinite(norm):
            self._norms.add(norm)
        for name, value, recent in (
            ("grad_norm", norm, self._recent_norm),
            ("spread", spread, self._recent_spread),
        ):
            if value is None or not math.isfinite(value):
                continue
            recent.add(value)
            level = recent.median()
            if len(recent) == self._limits.level_rows and math.isnan(self._first[name]):
                self._first[name] = level
            grows |= level > self._limits.growth * self._first[name]
        return grows

    def _judge(self, frame: Frame, baselines: Baselines, grows: bool) -> list[Finding]:
        limits, start, noise = self._limits, self._start.median(), self._noise.array()
        chance = self._chance(baselines)
        if chance < start:
            # To come down to it takes no learning, but of the output's own size.
            start, noise = chance, noise[limits.chance_rows :]
        progress = start - self._best
        much = progress > 4 * self._limits.progress * abs(start)
        little = progress < self._limits.progress * abs(start)
        if not much and not (little and self._warm_rows >= self._limits.stuck_rows):
            return []
        sigma = self._noise.spread(self._noise.median())
        if much:
            if self._rows <= limits.chance_rows:
                return []
            self._over = progress > 2 * self._limits.sigmas * sigma
            return []
        stuck = progress < max(self._limits.sigmas * sigma, self._limits.sure_progress * abs(start))
        third = noise.size // 3
        if not third:
            return []
        better = float(noise[:third].mean() - noise[-third:].mean())
        error = sigma * math.sqrt(2.0 / third)
        lately = float(noise[third : 2 * third].mean() - noise[-third:].mean())
        stuck &= self._recent.median() - start < limits.risen * abs(start)
        stuck &= better + 2.0 * error < self._limits.hidden * abs(start) and lately <= 2.0 * error
        if not stuck or grows or self._mostly_frozen(baselines):
            return []
        if self._warm_rows < self._limits.slow_rows and self._may_start_late(sigma, start):
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="plateau",
                severity=Severity.WARNING,
                statistic="loss",
                value=self._best,
                baseline=start,
                score=float(self._rows),
                evidence={"rows": self._rows},
            )
        ]

    def _chance(self, baselines: Baselines) -> float:
        """The cross entropy of a guess among the units of an output, if the best level lies there;
        else infinite. One unit says yes or no."""
        for units in self._outputs.of(baselines.layout).values():
            chance = math.log(max(units, 2))
            if abs(self._best - chance) < self._limits.chance * chance:
                return chance
        return math.inf

    def _may_start_late(self, sigma: float, start: float) -> bool:
        """Whether gradients are as large as ever, of losses that are not all one number."""
        norms = self._norms.array()
        third = norms.size // 3
        if not third:
            return False
        then, now = float(norms[:third].mean()), float(norms[-third:].mean())
        error = self._norms.spread(self._norms.median()) * math.sqrt(2.0 / third)
        fell = then - now > max(2.0 * error, self._limits.fall * then)
        return not fell and sigma > DIFFERENT_BATCHES * abs(start)

    def _mostly_frozen(self, baselines: Baselines) -> bool:
        """Whether most weight matrices stay as they are: a probe or an adapter learns little."""
        layout, row = baselines.layout, baselines.row
        weights = layout.kind_masks[WEIGHT] & layout.is_matrix & (layout.update_of >= 0)
        moving = weights & (row.rms[layout.update_of] > 0)
        return bool(moving.sum() < self._limits.frozen_share * weights.sum())

    def state(self) -> State:
        """The windows and the counters."""
        return {
            "over": self._over,
            "numbers": [self._rows, self._warm_rows, self._max_rate, self._best],
            "first": dict(self._first),
            "windows": [
                w.state()
                for w in (
                    self._start,
                    self._recent,
                    self._noise,
                    self._recent_norm,
                    self._recent_spread,
                    self._norms,
                )
            ],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._over = bool(state["over"])
        self._rows, self._warm_rows, self._max_rate, self._best = state["numbers"]
        self._first = {name: float(value) for name, value in state["first"].items()}
        windows = (
            self._start,
            self._recent,
            self._noise,
            self._recent_norm,
            self._recent_spread,
            self._norms,
        )
        for window, values in zip(windows, state["windows"], strict=True):
            window.restore(values)
