"""The gradient norm of a row."""

from __future__ import annotations

import math

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.layout import GRADIENT
from foreshock_service.domain.frames import Frame


def num_gradients(baselines: Baselines) -> int:
    """How many tensors have a gradient on the row."""
    return int(np.count_nonzero(baselines.row.measured[baselines.layout.indices[GRADIENT]]))


def gradient_norm(frame: Frame, baselines: Baselines) -> float | None:
    """The logged one, else that of the measured gradients; None where it is not above zero, or no
    number."""
    norm = frame.scalars.get("grad_norm")
    if norm is None:
        squares = baselines.row.l2[baselines.layout.of_kind(GRADIENT)] ** 2
        squares = squares[np.isfinite(squares)]
        norm = math.sqrt(float(squares.sum())) if squares.size else None
    return norm if norm is not None and 0.0 < norm < math.inf else None
