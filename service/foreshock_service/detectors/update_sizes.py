"""The sizes of a row's weight matrices that a rule about optimizers compares."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.layout import GRADIENT, Indices, Layout
from foreshock_service.detectors.row import Floats, Row, all_of, any_of, middle
from foreshock_service.detectors.window import Window
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

OF_ADAM_FAMILY: Final = (
    "adam", "amsgrad", "adabelief", "adan", "adopt", "lamb", "lion", "muon", "rmsprop", "signsgd",
    "signum", "soap", "tiger", "yogi",
)  # fmt: skip
"""Optimizers whose updates are about as large as the rate."""
OF_THEIR_OWN_SIZE: Final = (
    *OF_ADAM_FAMILY, "adafactor", "adagrad", "novograd", "prodigy", "rprop", "shampoo", "sophia",
)  # fmt: skip
"""Optimizers that divide by the size of the gradient, so that no gradient makes updates grow."""

_SGD: Final = re.compile(r"\bsgd")
BY_LINE_SEARCH: Final = ("lbfgs",)
"""Optimizers whose steps are as long as a search along a line finds: of any size."""
WARM_ROWS: Final = 32
"""A rate that has not risen for so many rows has warmed up."""
CARRIED_ROWS: Final = 16
"""Over which an average carries a large gradient on."""
EXPLAINED: Final = 0.3
"""Of a rise of the updates: what gradients explain of it, as those near the end of learning do."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixSizes:
    """One row's matrices that moved and have a gradient; every array is [matrices].

    `update` and `gradient` are indices of series. `by_rate` is log2 of the update's rms over the
    learning rate (1 where none is logged), `gradients` that of the gradient's rms, `by_gradient`
    the difference.
    """

    update: Indices
    gradient: Indices
    by_rate: Floats
    by_gradient: Floats
    gradients: Floats


@dataclass(frozen=True, slots=True, eq=False)
class MedianUpdate:
    """The median log2(update / weight) of a row's matrices, the indices of their updates, and the
    median log2 rms of the matrices' gradients, NaN where none is known."""

    size: float
    updates: Indices
    gradient: float


def median_update(baselines: Baselines) -> MedianUpdate | None:
    """That of the row; None where no matrix moved, or where steps are of any size. Two rules ask,
    so it is worked out once."""
    return baselines.once("median update", lambda: _median_update(baselines))


def _median_update(baselines: Baselines) -> MedianUpdate | None:
    if is_one_of(baselines.facts, BY_LINE_SEARCH):
        return None
    logs, weights = baselines.logs(), baselines.layout.updated_matrices
    updates = baselines.layout.update_of[weights]
    ratios = logs[updates] - logs[weights]
    alive = np.isfinite(ratios)
    if not all_of(alive):
        ratios, updates = ratios[alive], updates[alive]
    if not ratios.size:
        return None
    gradients = logs[baselines.layout.matrices[GRADIENT]]
    if not math.isfinite(np.add.reduce(gradients)):
        gradients = gradients[np.isfinite(gradients)]
    return MedianUpdate(middle(ratios), updates, middle(gradients) if gradients.size else math.nan)


class UsualRate:
    """The largest rate of the warm-up, which is over once no larger one came for 32 rows.

    What a schedule does below it is divided out of updates. A rate beyond it makes them grow.
    """

    def __init__(self) -> None:
        self._peak, self._rows = 0.0, 0

    def of(self, rate: float) -> float:
        """Take in the rate of the next row, above zero; it, or the usual one where that is less."""
        if rate <= self._peak:
            self._rows += 1
        elif self._rows < WARM_ROWS:
            self._peak, self._rows = rate, 0
        return min(rate, self._peak)

    def state(self) -> list[float]:
        """The rate and the rows since."""
        return [self._peak, self._rows]

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._peak, self._rows = float(state[0]), int(state[1])


class GradientLevels:
    """The median gradients of the newest rows, which say whether they made updates rise.

    Updates go the way of their gradients, and averages carry a large one on for some rows. A row
    without gradients counts as the one before it.
    """

    def __init__(self, num_rows: int) -> None:
        self._rows = Window(num_rows)

    def add(self, update: MedianUpdate) -> None:
        """Take in that of the next row."""
        if math.isfinite(update.gradient):
            self._rows.add(update.gradient)
        elif len(self._rows):
            self._rows.add(self._rows[-1])

    def explain(self, rise: float, start: int, end: int) -> bool:
        """Whether the gradients, by the mean square of the newest 16 rows over that of the rows
        from `start` to `end`, rose by more than 0.3 of the octaves that the updates did."""
        gradients = self._rows.array()
        newest, before = gradients[-CARRIED_ROWS:], gradients[start:end]
        if before.size < end - start:
            return False
        squares = np.mean(np.exp2(2.0 * newest)) / np.mean(np.exp2(2.0 * before))
        return 0.5 * float(np.log2(squares)) > EXPLAINED * rise

    def state(self) -> list[float]:
        """The rows."""
        return self._rows.state()

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._rows.restore(state)


def is_one_of(facts: RunFacts, words: tuple[str, ...]) -> bool:
    """Whether the class of the run's optimizer has one of the words in its name. Beside SGD none
    counts: whose a matrix is nobody says."""
    return _is_named(facts.optimizer, words)


def is_sgd(facts: RunFacts) -> bool:
    """Whether it is SGD, and there is no other beside it."""
    return _names_sgd(facts.optimizer) and not _is_any(facts.optimizer, OF_THEIR_OWN_SIZE)


@lru_cache(maxsize=256)
def _is_named(optimizer: str, words: tuple[str, ...]) -> bool:
    return not _names_sgd(optimizer) and _is_any(optimizer, words)


@lru_cache(maxsize=256)
def _names_sgd(optimizer: str) -> bool:
    return _SGD.search(optimizer.lower()) is not None


def _is_any(optimizer: str, words: tuple[str, ...]) -> bool:
    return any(word in optimizer.lower() for word in words)


class LoggedRate:
    """Whether the run logs a learning rate: sizes with and without it have not one scale."""

    def __init__(self) -> None:
        self._is_logged = False

    def begins(self, rate: float | None) -> bool:
        """Whether it is logged for the first time: what was learned before is no measure then."""
        first = rate is not None and not self._is_logged
        self._is_logged = self._is_logged or first
        return first

    def is_missing(self, rate: float | None) -> bool:
        """Whether a row has to be passed over, because others have a rate and it has none."""
        return self._is_logged and rate is None

    def state(self) -> bool:
        """Whether one was logged."""
        return self._is_logged

    def restore(self, state: bool) -> None:
        """Take up a state."""
        self._is_logged = bool(state)


@dataclass(frozen=True, slots=True, eq=False)
class MatrixPairs:
    """Update and gradient of each weight matrix that has both, as indices [matrices] of series."""

    update: Indices
    gradient: Indices


def pairs_of(layout: Layout) -> MatrixPairs:
    """The pairs of a layout. Look-up tables are left out."""
    return _pairs(layout, layout.updated_matrices[~layout.is_look_up[layout.updated_matrices]])


def tables_of(layout: Layout) -> MatrixPairs:
    """The pairs of its look-up tables, of which a step moves the rows that a batch looks up."""
    return _pairs(layout, layout.updated_matrices[layout.is_look_up[layout.updated_matrices]])


def _pairs(layout: Layout, weights: Indices) -> MatrixPairs:
    weights = weights[layout.gradient_of[weights] >= 0]
    return MatrixPairs(layout.update_of[weights], layout.gradient_of[weights])


def matrix_sizes(pairs: MatrixPairs, row: Row, rate: float | None) -> MatrixSizes | None:
    """The matrices that moved and have a gradient on this row; None where no matrix is left."""
    update, gradient = pairs.update, pairs.gradient
    by_rate, gradients = row.log_rms[update], row.log_rms[gradient]
    alive = np.isfinite(by_rate + gradients)
    if not all_of(alive):
        if not any_of(alive):
            return None
        update, gradient = update[alive], gradient[alive]
        by_rate, gradients = by_rate[alive], gradients[alive]
    elif not alive.size:
        return None
    if rate is not None:
        by_rate = by_rate - math.log2(rate)
    return MatrixSizes(update, gradient, by_rate, by_rate - gradients, gradients)


def size_finding(
    frame: Frame,
    *,
    detector: str,
    kind: str,
    statistic: str,
    size: float,
    usual: float,
    onset_step: int | None = None,
    evidence: dict[str, float | int | str] | None = None,
) -> Finding:
    """The run's updates have left `usual` for `size`, both in octaves, which are the score."""
    return run_finding(
        frame,
        detector=detector,
        kind=kind,
        severity=Severity.WARNING,
        statistic=statistic,
        value=2.0**size,
        baseline=2.0**usual,
        score=abs(size - usual),
        onset_step=onset_step,
        evidence=evidence,
    )
