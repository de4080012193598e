"""Every detector, one a line; their order is the order of a row's findings."""

from __future__ import annotations

from typing import Final

from foreshock_service.detectors.cliff import Cliff
from foreshock_service.detectors.climb import Climb
from foreshock_service.detectors.clipped import Clipped
from foreshock_service.detectors.collapse import Collapse
from foreshock_service.detectors.doubled import Doubled
from foreshock_service.detectors.drift import Drift
from foreshock_service.detectors.early import Early
from foreshock_service.detectors.epsilon import Epsilon
from foreshock_service.detectors.experts import Experts
from foreshock_service.detectors.fading import Fading
from foreshock_service.detectors.formats import Formats
from foreshock_service.detectors.grid import Grid
from foreshock_service.detectors.growth import Growth
from foreshock_service.detectors.identity import Identity
from foreshock_service.detectors.inputs import Inputs
from foreshock_service.detectors.lone import Lone
from foreshock_service.detectors.loss import Loss
from foreshock_service.detectors.massive import Massive
from foreshock_service.detectors.non_finite import NonFinite
from foreshock_service.detectors.offset import Offset
from foreshock_service.detectors.optimizer_health import OptimizerHealth
from foreshock_service.detectors.outliers import Outliers
from foreshock_service.detectors.overwrite import Overwrite
from foreshock_service.detectors.plasticity import Plasticity
from foreshock_service.detectors.plateau import Plateau
from foreshock_service.detectors.precision import Precision
from foreshock_service.detectors.protocol import DetectorClass
from foreshock_service.detectors.rate import Rate
from foreshock_service.detectors.replicas import Replicas
from foreshock_service.detectors.runaway import Runaway
from foreshock_service.detectors.saturation import Saturation
from foreshock_service.detectors.shift import Shift
from foreshock_service.detectors.spike import Spike
from foreshock_service.detectors.steady import Steady
from foreshock_service.detectors.stopped import Stopped
from foreshock_service.detectors.swell import Swell
from foreshock_service.detectors.symmetry import Symmetry
from foreshock_service.detectors.unreached import Unreached
from foreshock_service.detectors.updates import Updates
from foreshock_service.detectors.vanishing import Vanishing
from foreshock_service.detectors.windfall import Windfall

DETECTORS: Final[dict[str, DetectorClass]] = {
    "non_finite": NonFinite,
    "identity": Identity,
    "replicas": Replicas,
    "rate": Rate,
    "early": Early,
    "growth": Growth,
    "steady": Steady,
    "spike": Spike,
    "swell": Swell,
    "inputs": Inputs,
    "lone": Lone,
    "outliers": Outliers,
    "optimizer_health": OptimizerHealth,
    "clipped": Clipped,
    "stopped": Stopped,
    "epsilon": Epsilon,
    "updates": Updates,
    "shift": Shift,
    "overwrite": Overwrite,
    "vanishing": Vanishing,
    "unreached": Unreached,
    "experts": Experts,
    "precision": Precision,
    "grid": Grid,
    "formats": Formats,
    "saturation": Saturation,
    "collapse": Collapse,
    "fading": Fading,
    "symmetry": Symmetry,
    "massive": Massive,
    "plasticity": Plasticity,
    "drift": Drift,
    "offset": Offset,
    "runaway": Runaway,
    "plateau": Plateau,
    "doubled": Doubled,
    "loss": Loss,
    "climb": Climb,
    "windfall": Windfall,
    "cliff": Cliff,
}
