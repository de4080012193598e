"""Every detector, one a line; their order is the order of a row's findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from foreshock_service.detectors.growth import Growth
from foreshock_service.detectors.loss import Loss
from foreshock_service.detectors.non_finite import NonFinite
from foreshock_service.detectors.protocol import Detector
from foreshock_service.detectors.spike import Spike
from foreshock_service.detectors.vanishing import Vanishing

DETECTORS: Final[dict[str, Callable[[], Detector]]] = {
    "non_finite": NonFinite,
    "growth": Growth,
    "spike": Spike,
    "vanishing": Vanishing,
    "loss": Loss,
}
