"""Optimizer health: updates that leave what the optimizer makes of its gradients, and why.

Per weight matrix x = log2(rms of update / learning rate) and y = x - log2(rms of gradient), each
against its own level of about 64 rows, which learns nothing that lies 2 octaves below it. Where no
rate is logged the median fall of all matrices is taken out: a schedule moves them all.

- `update_too_small`, fallen: x of an optimizer that scales its updates (the Adam family, Adagrad,
  RMSprop) is down by 4 octaves, y of SGD by 5, while the gradients are within 1.5 octaves, on 10
  rows; the cause is a rate that only some matrices lost, or, where x fell in 3 rows, a second
  moment that still holds larger gradients. x down by 4 together with all gradients, which fell
  alike, is a loss that is scaled otherwise than before, unless next to nothing is left of it. Up to
  half of the matrices are named.
- The same of a look-up table that is down by 8 octaves, its gradient by less than 2.5: each batch
  looks other rows up.
- `update_too_small`, momentum: of SGD that had momentum, updates are the rate times the gradient to
  3.5 % in 80 % of the matrices, on 10 rows.
- `update_too_large`, reset: 80 % of the matrices have at once the size of an optimizer's very first
  update (one rate for Adam and Adagrad, 1 / sqrt(1 - alpha) for RMSprop) to 0.1 octaves, an octave
  above their level and the row before, their gradients within 2.5: its state was lost, as at a
  resume.

Steps that loss scaling skipped count for nothing, nor do rows without a rate where one is logged.
Source: Kingma & Ba 2015, sections 2 and 2.1, and Hinton's RMSprop, for the sizes; Molybog et al.
2023 (arXiv 2304.09871) for second moments that are out of date.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import Indices
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.progress import NEXT_TO_NOTHING
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, Row, all_of, any_of, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import (
    OF_THEIR_OWN_SIZE,
    LoggedRate,
    MatrixSizes,
    is_one_of,
    is_sgd,
    matrix_sizes,
    pairs_of,
    tables_of,
)
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "optimizer_health"

_FIRST_IS_RATE: Final = ("adam", "amsgrad", "adagrad")
_RMSPROP_ALPHA: Final = 0.99
"""PyTorch's default, for runs that do not say theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerHealthThresholds(Thresholds):
    """The numbers of the rules above."""

    level_rows: int = threshold(64, "rows", "rows that make a matrix' level")
    first_rows: int = threshold(32, "rows", "rows before a level is known")
    learn_octaves: float = threshold(
        2.0, "octaves", "what lies further below its level does not move it", guard=True
    )
    fall_octaves: float = threshold(
        4.0, "octaves", "an update per rate below its level, of optimizers that scale it"
    )
    plain_fall_octaves: float = threshold(5.0, "octaves", "an SGD update per gradient below it")
    table_octaves: float = threshold(
        8.0, "octaves", "the same of a look-up table, of which each batch moves other rows"
    )
    steady_octaves: float = threshold(
        1.5, "octaves", "gradients within so much of their level did not fall", guard=True
    )
    alike_octaves: float = threshold(
        0.7, "octaves", "falls of all gradients within so much are one change of scale", guard=True
    )
    fallen_rows: int = threshold(10, "rows", "so long must an update stay down")
    sudden_rows: int = threshold(3, "rows", "a fall within so many rows is no rate that decays")
    exact_octaves: float = threshold(
        0.05, "octaves", "an SGD update within so much of rate times gradient has no momentum"
    )
    momentum_octaves: float = threshold(
        0.6, "octaves", "the level of one with momentum above that", guard=True
    )
    reset_octaves: float = threshold(
        0.1, "octaves", "an update within so much of an optimizer's first one"
    )
    leap_octaves: float = threshold(
        1.0, "octaves", "and above its level, and above the row before, by so much"
    )
    same_octaves: float = threshold(
        2.5, "octaves", "with a gradient within so much of its own", guard=True
    )
    of_matrices: float = threshold(
        0.8, "share", "of the matrices, for a reset or a momentum that is lost"
    )


class OptimizerHealth:
    """Watches each matrix' update against its rate, its gradient and its own past."""

    name = NAME
    thresholds = OptimizerHealthThresholds

    def __init__(self, limits: OptimizerHealthThresholds | None = None) -> None:
        self._limits = limits or OptimizerHealthThresholds()
        self._pairs = PerLayout(pairs_of)
        self._tables = PerLayout(tables_of)
        self._rate = LoggedRate()
        self._plain_since = 0
        self._clear()

    def _clear(self) -> None:
        self._memory = SeriesMemory("rows", "x", "y", "g", "slow", "last")
        self._fallen = Streaks()
        self._fallen_tables = Streaks()
        self._plain = 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row = baselines.layout, baselines.row
        self._memory.align(layout)
        if frame.skipped:
            return []
        rate = frame.scalars.get("lr")
        known_rate = rate is not None and rate > 0
        if rate is not None and not known_rate:
            return []
        sizes = matrix_sizes(self._pairs.of(layout), row, rate if known_rate else None)
        if sizes is None:
            return []
        if self._rate.begins(rate):
            self._clear()
            self._memory.align(layout)
        if self._rate.is_missing(rate):
            return []
        facts = baselines.facts
        found = self._tables_fall(frame, baselines, rate) if known_rate else []
        if self._learns_calmly(sizes, facts):
            return found
        found += self._fall(frame, baselines, sizes, known_rate=known_rate)
        if known_rate:
            found += self._without_momentum(frame, sizes, facts)
            found += self._reset(frame, row, sizes, facts)
        self._learn(sizes)
        return found

    def _tables_fall(self, frame: Frame, baselines: Baselines, rate: float | None) -> list[Finding]:
        """Look-up tables whose updates fell and whose gradients did not."""
        layout, limits, memory = baselines.layout, self._limits, self._memory
        pairs = self._tables.of(layout)
        if not pairs.update.size:
            return []
        tables = matrix_sizes(pairs, baselines.row, rate)
        if tables is None or not is_one_of(baselines.facts, OF_THEIR_OWN_SIZE):
            return []
        i = tables.update
        fall, holds, measured = np.zeros(layout.num_series), *np.zeros((2, layout.num_series), bool)
        fall[i] = memory["x"][i] - tables.by_rate
        steady = memory["g"][i] - tables.gradients < limits.same_octaves
        holds[i] = (memory["rows"][i] >= limits.first_rows) & (fall[i] > limits.table_octaves)
        holds[i] &= steady
        measured[i] = True
        self._fallen_tables.update(layout, holds=holds, measured=measured, step=frame.step)
        self._learn(tables)
        mask = self._fallen_tables.lasting(limits.fallen_rows)
        if not mask.any():
            return []
        return self._told(
            frame,
            mask,
            fall=fall,
            since=self._fallen_tables.since,
            total=layout.updated_matrices.size,
            cause=self._cause(mask, scaling=True),
        )

    def _learns_calmly(self, sizes: MatrixSizes, facts: RunFacts) -> bool:
        """A row on which nothing is near any limit, as most are: learned in a tenth of the time."""
        memory, i = self._memory, sizes.update
        rows = memory["rows"][i]
        if not all_of(rows > 0) or self._fallen.running:
            return False
        scaling = is_one_of(facts, OF_THEIR_OWN_SIZE)
        levels = [memory[name][i] for name in ("x", "y", "g")]
        fall = levels[0] - sizes.by_rate
        far = fall if scaling else levels[1] - sizes.by_gradient
        near = self._limits.leap_octaves if scaling else self._limits.momentum_octaves / 2
        if any_of((np.abs(far) > near) | (fall > self._limits.learn_octaves)):
            return False
        weight = 1.0 / np.minimum(rows + 1.0, self._limits.level_rows)
        values = (sizes.by_rate, sizes.by_gradient, sizes.gradients)
        for name, level, value in zip(("x", "y", "g"), levels, values, strict=True):
            memory[name][i] = level + weight * (value - level)
        memory["rows"][i] = rows + 1.0
        memory["slow"][i] = 0.0
        memory["last"][i] = sizes.by_rate
        self._plain = 0
        return True

    def _fall(
        self, frame: Frame, baselines: Baselines, sizes: MatrixSizes, *, known_rate: bool
    ) -> list[Finding]:
        limits, memory, layout = self._limits, self._memory, baselines.layout
        facts = baselines.facts
        scaling = is_one_of(facts, OF_THEIR_OWN_SIZE)
        if not scaling and not is_sgd(facts):
            return []
        i = sizes.update
        known = memory["rows"][i] >= limits.first_rows
        fall_x = memory["x"][i] - sizes.by_rate
        fall_y = memory["y"][i] - sizes.by_gradient
        fall_g = memory["g"][i] - sizes.gradients
        if not known_rate and known.any():
            common = max(middle(np.minimum((fall_x if scaling else fall_y)[known], 99.0)), 0.0)
            fall_x, fall_y = fall_x - common, fall_y - common
        steady = np.abs(fall_g) < limits.steady_octaves
        if scaling:
            fallen = known & (fall_x > limits.fall_octaves)
            fallen &= steady & (fall_y > limits.fall_octaves - limits.steady_octaves)
            rescaled = known & (fall_x > limits.fall_octaves) & ~steady
        else:
            fallen = known & steady & (fall_y > limits.plain_fall_octaves)
            rescaled = np.zeros_like(fallen)
        is_over = baselines.progress.left() < NEXT_TO_NOTHING
        alike = rescaled.all() and np.std(fall_g) < limits.alike_octaves and fall_g.min() > 0
        alike = bool(alike) and not is_over
        holds = np.zeros(layout.num_series, np.bool_)
        holds[i] = rescaled if alike else fallen
        measured = np.zeros_like(holds)
        measured[i] = True
        self._fallen.update(layout, holds=holds, measured=measured, step=frame.step)
        mask = self._fallen.lasting(limits.fallen_rows)
        if not mask.any():
            return []
        fall = np.zeros(layout.num_series)
        fall[i] = fall_x if scaling else fall_y
        return self._told(
            frame,
            mask,
            fall=fall,
            since=self._fallen.since,
            total=i.size,
            cause="loss scale" if alike else self._cause(mask, scaling=scaling),
        )

    def _cause(self, mask: Bools, *, scaling: bool) -> str:
        """`slow` counts the rows that a matrix lay between its level and where it fell to."""
        sudden = bool((self._memory["slow"][mask] <= self._limits.sudden_rows).all())
        return "second moment" if sudden and scaling else "rate"

    def _told(
        self, frame: Frame, mask: Bools, *, fall: Floats, since: Indices, total: int, cause: str
    ) -> list[Finding]:
        share = np.exp2(-fall)
        evidence: dict[str, float | int | str] = {"cause": cause, "num_matrices": total}
        if 2 * int(mask.sum()) <= total:
            return series_findings(
                frame,
                mask,
                order=-fall,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="update_share",
                value=share,
                baseline=np.ones_like(share),
                score=fall,
                since=since,
                evidence=evidence,
            )
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="update_share",
                value=float(np.median(share[mask])),
                baseline=1.0,
                score=float(np.median(fall[mask])),
                onset_step=int(since[mask].min()),
                evidence=evidence,
            )
        ]

    def _without_momentum(self, frame: Frame, sizes: MatrixSizes, facts: RunFacts) -> list[Finding]:
        if not is_sgd(facts) or facts.momentum == 0:
            return []
        limits, memory, i = self._limits, self._memory, sizes.update
        lost = np.abs(sizes.by_gradient) < limits.exact_octaves
        lost &= memory["y"][i] > limits.momentum_octaves
        lost &= memory["rows"][i] >= limits.first_rows
        if lost.sum() < limits.of_matrices * i.size:
            self._plain = 0
            return []
        if self._plain == 0:
            self._plain_since = frame.step
        self._plain += 1
        if self._plain < limits.fallen_rows:
            return []
        level = float(np.median(memory["y"][i]))
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="update_share",
                value=2.0**-level,
                baseline=1.0,
                score=level,
                onset_step=self._plain_since,
                evidence={"cause": "momentum", "num_matrices": int(i.size)},
            )
        ]

    def _reset(self, frame: Frame, row: Row, sizes: MatrixSizes, facts: RunFacts) -> list[Finding]:
        if is_one_of(facts, _FIRST_IS_RATE):
            first = 0.0
        elif is_one_of(facts, ("rmsprop",)):
            alpha = _RMSPROP_ALPHA if facts.alpha is None else facts.alpha
            first = -0.5 * math.log2(1.0 - alpha) if 0 < alpha < 1 else 0.0
        else:
            return []
        limits, memory, i = self._limits, self._memory, sizes.update
        # Elements without a gradient, as the rows of a look-up table, have no first update.
        zeros = np.minimum(np.nan_to_num(row.zero_frac[sizes.gradient]), 0.999)
        reset = np.abs(sizes.by_rate - 0.5 * np.log2(1.0 - zeros) - first)
        lost = reset < limits.reset_octaves
        # At a new task updates grow to the same size, but row by row.
        for before in (memory["x"][i], memory["last"][i]):
            lost &= sizes.by_rate - before > limits.leap_octaves
        lost &= np.abs(sizes.gradients - memory["g"][i]) < limits.same_octaves
        lost &= memory["rows"][i] >= limits.first_rows
        if not lost.any() or lost.sum() < limits.of_matrices * i.size:
            return []
        leap = float(np.median((sizes.by_rate - memory["x"][i])[lost]))
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                severity=Severity.WARNING,
                statistic="update_by_rate",
                value=float(np.exp2(np.median(sizes.by_rate[lost]))),
                baseline=float(np.exp2(np.median(memory["x"][i][lost]))),
                score=leap,
                evidence={
                    "cause": "reset",
                    "leap": 2.0**leap,
                    "num_reset": int(lost.sum()),
                    "num_matrices": int(i.size),
                },
            )
        ]

    def _learn(self, sizes: MatrixSizes) -> None:
        limits, memory, i = self._limits, self._memory, sizes.update
        rows = np.fmax(memory["rows"], 0.0)
        fresh = rows[i] == 0
        level = np.where(fresh, sizes.by_rate, memory["x"][i])
        far = level - sizes.by_rate
        low = (far > limits.learn_octaves) & (rows[i] >= limits.first_rows)
        down = far > limits.fall_octaves
        slow = np.nan_to_num(memory["slow"])
        # Rows on the way down; those at the bottom do not count, nor do they once it is back.
        slow[i] = np.where(low & ~down, slow[i] + 1, np.where(low, slow[i], 0.0))
        memory["slow"] = slow
        memory["last"][i] = sizes.by_rate
        weight = np.where(low, 0.0, 1.0 / np.minimum(rows[i] + 1.0, limits.level_rows))
        for name, values in (
            ("x", sizes.by_rate),
            ("y", sizes.by_gradient),
            ("g", sizes.gradients),
        ):
            kept = memory[name].copy()
            before = np.where(fresh, values, kept[i])
            step = np.where(np.isfinite(values), values - before, 0.0)
            kept[i] = before + weight * step
            memory[name] = kept
        rows[i] += ~low
        memory["rows"] = rows

    def state(self) -> State:
        """Levels and streaks."""
        return {
            "memory": self._memory.state(),
            "fallen": self._fallen.state(),
            "fallen_tables": self._fallen_tables.state(),
            "rate": self._rate.state(),
            "plain": [self._plain, self._plain_since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._memory.restore(state["memory"])
        self._fallen.restore(state["fallen"])
        self._fallen_tables.restore(state["fallen_tables"])
        self._rate.restore(state["rate"])
        self._plain, self._plain_since = (int(n) for n in state["plain"])
