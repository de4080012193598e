"""The sizes of a row's weight matrices that a rule about optimizers compares."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from foreshock_service.detectors.layout import Indices, Layout
from foreshock_service.detectors.row import Floats, Row
from foreshock_service.domain.facts import RunFacts


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


def is_one_of(facts: RunFacts, words: Iterable[str]) -> bool:
    """Whether the class of the run's optimizer has one of the words in its name."""
    optimizer = facts.optimizer.lower()
    return any(word in optimizer for word in words)


def matrix_sizes(layout: Layout, row: Row, rate: float | None) -> MatrixSizes | None:
    """Look-up tables are left out; None where no matrix is left."""
    weights = layout.updated[layout.is_matrix[layout.updated] & ~layout.is_look_up[layout.updated]]
    weights = weights[layout.gradient_of[weights] >= 0]
    update, gradient = layout.update_of[weights], layout.gradient_of[weights]
    alive = np.isfinite(row.log_rms[update]) & np.isfinite(row.log_rms[gradient])
    if not alive.any():
        return None
    update, gradient = update[alive], gradient[alive]
    by_rate = row.log_rms[update] - (0.0 if rate is None else math.log2(rate))
    gradients = row.log_rms[gradient]
    return MatrixSizes(update, gradient, by_rate, by_rate - gradients, gradients)
