"""How far a series stands above what growing in sound training explains, and how far is too far.

Excess growth is the octaves above the slow centre, beyond 8 times the row-to-row noise, with two
kinds of growth taken out that are no fault: updates that move with all the others (a schedule), and
weights that grow up from a start at zero and are still small among their peers. Vectors have none:
biases and gains start at 0 or 1 and go where they like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import SCALE_FLOOR, Baselines
from foreshock_service.detectors.layout import (
    ACTIVATION,
    ACTIVATION_GRAD,
    GRADIENT,
    UPDATE,
    WEIGHT,
    Indices,
    Layout,
)
from foreshock_service.detectors.row import Bools, Floats, any_of, middle
from foreshock_service.detectors.thresholds import Thresholds, threshold

ACTIVATION_GRAD_OCTAVES: Final = 9.0
"""No rule tells of the growth of one alone."""
SMALL_AMONG_PEERS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcessThresholds(Thresholds):
    """Limits by kind. Sound small models reach 3.3 octaves with inner activations (adapters that
    start at zero) and with gradients while the loss does not fall, 3.0 with updates above the
    median one; a grown weight stays grown, so little is enough. Output logits start near zero and
    grow by 5.8 in sound training, attention logits by 6.6."""

    activation_octaves: float = threshold(4.0, "octaves", "growth of an activation")
    output_octaves: float = threshold(7.0, "octaves", "growth of the deepest activation")
    logit_octaves: float = threshold(7.0, "octaves", "growth of attention logits")
    gradient_octaves: float = threshold(5.0, "octaves", "growth of a gradient")
    weight_octaves: float = threshold(1.5, "octaves", "growth of a weight")
    update_octaves: float = threshold(3.5, "octaves", "growth of an update above the median one's")
    noises: float = threshold(8.0, "sigmas", "growth beyond the noise from row to row")


def growth_limits(layout: Layout, limits: ExcessThresholds) -> Floats:
    """The octaves of excess growth that are too many [series]."""
    by_kind = np.zeros(len(layout.kind_masks))
    by_kind[ACTIVATION] = limits.activation_octaves
    by_kind[ACTIVATION_GRAD] = ACTIVATION_GRAD_OCTAVES
    by_kind[GRADIENT] = limits.gradient_octaves
    by_kind[WEIGHT] = limits.weight_octaves
    by_kind[UPDATE] = limits.update_octaves
    octaves = by_kind[layout.kind]
    octaves[layout.is_output] = limits.output_octaves
    octaves[layout.is_attention_logit] = limits.logit_octaves
    return octaves


def excess_growth(baselines: Baselines, limits: ExcessThresholds) -> Floats:
    """Octaves of growth that need an explanation [series]; -inf where there is none to explain."""
    return baselines.once(
        f"growth beyond {limits.noises} noises", lambda: _excess_growth(baselines, limits)
    )


def any_excess(baselines: Baselines, limits: ExcessThresholds) -> bool:
    """Whether there is any: on most rows there is none."""
    return any_of(_grown(baselines, limits))


def _grown(baselines: Baselines, limits: ExcessThresholds) -> Bools:
    """Matrices that have grown beyond their noise [series]."""

    def grown() -> Bools:
        noise = np.maximum(baselines.value("noise"), SCALE_FLOOR)
        return (baselines.growth() > limits.noises * noise) & baselines.layout.is_matrix

    return baselines.once(f"grown beyond {limits.noises} noises", grown)


def _excess_growth(baselines: Baselines, limits: ExcessThresholds) -> Floats:
    layout, growth, grown = baselines.layout, baselines.growth(), _grown(baselines, limits)
    if not any_of(grown):
        return np.full(layout.num_series, -np.inf)
    excess = np.where(grown, growth, -np.inf)
    excess[_still_small(baselines)] = -np.inf
    updates = layout.indices[UPDATE]
    updates = updates[np.isfinite(growth[updates])]
    if updates.size:
        excess[updates] -= max(middle(growth[updates]), 0.0)
    return excess


def _still_small(baselines: Baselines) -> Indices:
    layout, rms = baselines.layout, baselines.row.rms
    peers = rms[layout.matrices[WEIGHT]]
    peers = peers[np.isfinite(peers)]
    weights = layout.indices[WEIGHT]
    if not peers.size:
        return weights[:0]
    return weights[rms[weights] < SMALL_AMONG_PEERS * middle(peers)]
