"""How far a series stands above what growing in sound training explains, and how far is too far.

Excess growth is the octaves above the slow centre, beyond 8 times the row-to-row noise, with two
kinds of growth taken out that are no fault: updates that move with all the others (a schedule), and
weights that grow up from a start at zero and are still small among their peers. Vectors have none:
biases and gains start at 0 or 1 and go where they like.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import SCALE_FLOOR, Baselines
from foreshock_service.detectors.layout import (
    ACTIVATION,
    ACTIVATION_GRAD,
    GRADIENT,
    UPDATE,
    WEIGHT,
    Layout,
)
from foreshock_service.detectors.row import Bools, Floats

OCTAVES: Final = {
    ACTIVATION: 4.0,
    ACTIVATION_GRAD: 9.0,
    GRADIENT: 7.0,
    WEIGHT: 1.5,
    UPDATE: 3.5,
}
"""Limits by kind. Sound small models reach 3.3 octaves with inner activations (adapters that start
at zero), 6.2 with gradients (recurrent ones early on), 3.0 with updates above the median one; a
grown weight stays grown, so little is enough."""
OUTPUT_OCTAVES: Final = 7.0
"""For the deepest activation: output logits start near zero and grow by 5.8 in sound training."""
LOGIT_OCTAVES: Final = 7.0
"""For attention logits, which sound training grows by 6.6; their own rule has an absolute limit."""
NOISES: Final = 8.0
SMALL_AMONG_PEERS: Final = 2.0


def growth_limits(layout: Layout) -> Floats:
    """The octaves of excess growth that are too many [series]."""
    limits = np.array([OCTAVES[kind] for kind in range(len(OCTAVES))])[layout.kind]
    activations = layout.kind == ACTIVATION
    if activations.any():
        deepest = layout.depth[activations].max()
        limits[activations & (layout.depth == deepest)] = OUTPUT_OCTAVES
    limits[layout.is_attention_logit] = LOGIT_OCTAVES
    return limits


def excess_growth(baselines: Baselines) -> Floats:
    """Octaves of growth that need an explanation [series]; -inf where there is none to explain."""
    layout = baselines.layout
    growth = baselines.growth()
    noise = np.maximum(baselines.value("noise"), SCALE_FLOOR)
    with np.errstate(invalid="ignore"):
        excess = np.where(growth > NOISES * noise, growth, -np.inf)
    excess[~layout.is_matrix] = -np.inf
    excess[_still_small(baselines)] = -np.inf
    updates = (layout.kind == UPDATE) & np.isfinite(growth)
    if updates.any():
        excess[updates] -= max(float(np.median(growth[updates])), 0.0)
    return excess


def _still_small(baselines: Baselines) -> Bools:
    layout, rms = baselines.layout, baselines.row.rms
    weights = layout.kind == WEIGHT
    peers = weights & layout.is_matrix & np.isfinite(rms)
    if not peers.any():
        return np.zeros_like(weights)
    with np.errstate(invalid="ignore"):
        return np.asarray(weights & (rms < SMALL_AMONG_PEERS * np.median(rms[peers])))
