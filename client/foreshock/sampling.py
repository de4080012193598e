"""Which kinds are measured on which step."""

from __future__ import annotations

from dataclasses import dataclass

from foreshock.settings import ClientSettings
from foreshock.wire import KINDS


@dataclass(frozen=True, slots=True)
class Cadence:
    """Measures kind k on steps that are multiples of `every[k]`; 0 is never.

    It counts the steps of the attempt, not the steps' numbers, so that the first step of a resumed
    run is measured in full and the series are known from the start.
    """

    every: dict[str, int]
    histogram_every: int

    def due(self, index: int) -> frozenset[str]:
        """The kinds to measure on the attempt's step `index`, counted from 0."""
        return frozenset(k for k, n in self.every.items() if n and index % n == 0)

    def histogram_due(self, index: int) -> bool:
        """Whether the frame of step `index` carries its exponent histograms."""
        return self.histogram_every > 0 and index % self.histogram_every == 0


def cadence_of(settings: ClientSettings) -> Cadence:
    """The cadence that the settings ask for."""
    every = {kind: int(getattr(settings, f"{kind}_every")) for kind in KINDS}
    return Cadence(every, settings.histogram_every)
