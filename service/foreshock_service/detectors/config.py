"""The configuration of detection: what a user may set, for all runs, a project, or one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from foreshock_service.detectors.growth import GrowthThresholds
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.detectors.thresholds import Sensitivity, Thresholds

_KEYS: Final = ("sensitivity", "disabled", "thresholds")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How sensitive, which detectors to leave out, and single thresholds of the others.

    `disabled` has names of the registry; `thresholds` values by detector and by name, which count
    as they stand, whatever the sensitivity.
    """

    sensitivity: Sensitivity = Sensitivity.NORMAL
    disabled: frozenset[str] = frozenset()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted((self.disabled | self.thresholds.keys()) - DETECTORS.keys())
        if unknown:
            raise ValueError(
                f"no detector is called {', '.join(unknown)}; there are {', '.join(DETECTORS)}"
            )
        for name in self.thresholds:
            self.limits(name)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """From a TOML or JSON document:

            sensitivity = "low"          # or normal, high
            disabled = ["plateau"]
            [thresholds.loss]
            sigmas = 8

        Raises:
            ValueError: an unknown key, detector or threshold, or a value of the wrong kind.
        """
        for key in document:
            if key not in _KEYS:
                raise ValueError(f"unknown key {key}; a configuration has {', '.join(_KEYS)}")
        disabled = document.get("disabled", [])
        if not isinstance(disabled, list) or not all(isinstance(n, str) for n in disabled):
            raise ValueError(f"disabled must be a list of detectors' names, not {disabled!r}")
        thresholds = document.get("thresholds", {})
        if not isinstance(thresholds, Mapping) or not all(
            isinstance(values, Mapping) for values in thresholds.values()
        ):
            raise ValueError("thresholds must hold a table for each detector, as [thresholds.loss]")
        return cls(
            sensitivity=_sensitivity(document.get("sensitivity", Sensitivity.NORMAL)),
            disabled=frozenset(disabled),
            thresholds={str(name): dict(values) for name, values in thresholds.items()},
        )

    def to_document(self) -> dict[str, Any]:
        """What `from_document` takes."""
        return {
            "sensitivity": self.sensitivity.value,
            "disabled": sorted(self.disabled),
            "thresholds": {name: dict(values) for name, values in self.thresholds.items()},
        }

    def limits(self, detector: str) -> Thresholds:
        """The thresholds of a detector under this configuration."""
        limits = DETECTORS[detector].thresholds().at(self.sensitivity)
        try:
            return limits.changed(self.thresholds.get(detector, {}))
        except ValueError as error:
            raise ValueError(f"thresholds.{detector}: {error}") from None

    @property
    def growth_limits(self) -> GrowthThresholds:
        """Those of `growth`, which also say when a series counts as departed."""
        limits = self.limits("growth")
        assert isinstance(limits, GrowthThresholds)
        return limits


def _sensitivity(value: Any) -> Sensitivity:
    try:
        return Sensitivity(value)
    except (TypeError, ValueError):
        names = ", ".join(Sensitivity)
        raise ValueError(f"sensitivity must be one of {names}, not {value!r}") from None
