"""The seam between rows and rules: what a detector is given, gives back, and must remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.thresholds import Thresholds
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame

State = Mapping[str, Any]
"""What a detector remembers: JSON values and numpy arrays, nothing else."""


class Detector(Protocol):
    """Reads rows one by one, in order, without looking ahead; touches no clock, store or network.

    The same rows and state give the same findings, in the server, in `scan` and in `replay`.
    """

    name: str

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row; `baselines` have not absorbed it yet.

        Called with numpy's floating-point warnings off, since NaN is what was not measured.
        """
        ...

    def state(self) -> State:
        """All that `restore` needs to go on as if there had been no restart."""
        ...

    def restore(self, state: State) -> None:
        """Take up a state that `state` returned."""
        ...


class DetectorClass(Protocol):
    """A detector as the registry has it: made from its thresholds, which have a type of their own.

    Without thresholds it takes the defaults.
    """

    @property
    def thresholds(self) -> type[Thresholds]:
        """The type of the argument."""
        ...

    def __call__(self, limits: Any = None) -> Detector:
        """A detector that has seen nothing yet."""
        ...
