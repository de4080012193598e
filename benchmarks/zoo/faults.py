"""What a label says of a fault, and the closed list of kinds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.zoo.rules import Rule

KINDS: Final = (
    "loss_spike",
    "gradient_spike",
    "explosion",
    "divergence",
    "vanishing_gradient",
    "dead_units",
    "saturation",
    "non_finite",
    "attention_logit_growth",
    "output_logit_drift",
    "update_too_small",
    "update_too_large",
    "weight_corruption",
    "bad_batch",
    "precision_underflow",
    "precision_overflow",
    "replica_divergence",
    "representation_collapse",
    "plateau",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one run.

    `at` is the first step on which its cause acts: 0 for a configuration that is wrong from the
    start. `onset` None means that the fault is present as soon as its cause acts; otherwise the
    rule's first step is the onset, and alerts count from `at` on. `shows` is what must be true of
    the sick run and false of its twin for the label to stand; None is the onset's rule, or else
    that some series of `layers` (any series where there are none) or the loss leaves the twin's.
    `layers` are modules, whose series and whose submodules' series are the truth. A fault that
    is not `lasting` is over once the loss is back in the twin's band.
    """

    kind: str
    at: int = 0
    onset: Rule | None = None
    shows: Rule | None = None
    layers: tuple[str, ...] = ()
    severity: Literal["warning", "critical"] = "critical"
    pace: Literal["fast", "slow"] = "slow"
    lasting: bool = True
    accept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises: ValueError: a kind is unknown."""
        for kind in (self.kind, *self.accept):
            if kind not in KINDS:
                raise ValueError(f"kind {kind!r}: the kinds are {', '.join(KINDS)}")
