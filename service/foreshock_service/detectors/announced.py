"""Announced changes: what was normal before is no measure for what follows on purpose.

A client that says that learning rate, batch size, data, loss or weights change at a step marks that
step's frame. From it on, for 32 rows, nothing is said of the sizes that such a change moves, while
they are learned anew: the rules that compare with levels begin as in a new run, and baselines of
all but the weights move fast. Weights that were written with the change, as a head that is drawn
anew or what is pruned, are no corruption on its first row. What no such change explains is told as
ever: what is not finite, weights that are corrupted later, replicas that differ, a negative rate,
and whatever is critical but a loss's own course.
Source: ours; 32 rows are those after which `loss` and `updates` judge a new run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.layout import WEIGHT, Layout
from foreshock_service.detectors.protocol import Detector
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

GRACE_ROWS: Final = 32
MOVED: Final = frozenset(
    {
        "loss_spike",
        "gradient_spike",
        "update_too_large",
        "update_too_small",
        "explosion",
        "plateau",
    }
)
"""Kinds whose warnings wait, but for those of a weight: no such change moves weights at once."""
COURSE: Final = ("loss", "divergence")
"""The detector and the kind that wait although they are critical."""
WRITTEN: Final = "weight_corruption"
"""The kind of weights that were written between two steps."""
BEGIN_ANEW: Final[Mapping[str, tuple[str, ...]]] = {
    "loss": (),
    "spike": (),
    "swell": (),
    "plateau": (),
    "inputs": (),
    "lone": (),
    "outliers": (),
    "updates": ("learned",),
    "shift": (),
    "optimizer_health": (),
    "clipped": (),
    "windfall": (),
    "cliff": (),
    "unreached": (),
}
"""Detectors that compare with levels, and what of their state a change does not touch."""


class Announced:
    """How many rows of grace are left."""

    def __init__(self) -> None:
        self._rows_left = 0

    def begin(
        self, frame: Frame, baselines: Baselines, pairs: Iterable[tuple[Detector, Detector]]
    ) -> None:
        """Count the row, which `baselines` have read; `pairs` are detectors and fresh ones."""
        self._rows_left = max(0, self._rows_left - 1)
        if not frame.announced:
            return
        self._rows_left = GRACE_ROWS
        layout = baselines.layout
        baselines.relearn(~layout.kind_masks[WEIGHT])
        for detector, fresh in pairs:
            kept = BEGIN_ANEW.get(detector.name)
            if kept is not None:
                old = detector.state()
                detector.restore({**fresh.state(), **{name: old[name] for name in kept}})

    def told(self, findings: list[Finding], layout: Layout) -> list[Finding]:
        """Those that are told on this row."""
        if not self._rows_left:
            return findings
        weights, begins = layout.kind_masks[WEIGHT], self._rows_left == GRACE_ROWS
        return [
            f
            for f in findings
            if not (begins and f.kind == WRITTEN)
            and (not _waits(f) or (f.series is not None and weights[f.series]))
        ]

    def state(self) -> int:
        """The rows that are left."""
        return self._rows_left

    def restore(self, state: int) -> None:
        """Take up a state."""
        self._rows_left = int(state)


def _waits(finding: Finding) -> bool:
    if (finding.detector, finding.kind) == COURSE:
        return True
    return finding.kind in MOVED and finding.severity is Severity.WARNING
