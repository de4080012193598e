"""A loss that became too easy, by its data or by itself; the shallowest activation, which sees the
input, says by which."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import ACTIVATION, Layout
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.window import Window, median, spread
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

SAME_OCTAVES: Final = 0.25
"""The spread over the batch moved by so much at the most: the data are the same."""
REPEATED: Final = 0.3
"""Of its differences from row to row: where less of them is left, one batch is repeated."""
SEEN_ROWS: Final = 12
"""Rows of the first layer, to say so."""


class FirstLayer:
    """The spread over the batch of the shallowest activation, of the newest rows."""

    def __init__(self, num_rows: int) -> None:
        self._spreads = Window(num_rows)
        self._index = PerLayout(_shallowest)

    def follow(self, baselines: Baselines) -> None:
        """Take in the row, if that layer was measured on it."""
        share = baselines.once("share of the first layer", lambda: self._share(baselines))
        if share > 0 and math.isfinite(share):
            self._spreads.add(math.log2(share))

    def _share(self, baselines: Baselines) -> float:
        first, row = self._index.of(baselines.layout), baselines.row
        return float(row.batch_std[first] / row.rms[first]) if first >= 0 else math.nan

    def is_as_before(self) -> bool:
        """Whether samples differ as they did, and still do so from row to row."""
        spreads = self._spreads.values()
        if len(spreads) < SEEN_ROWS:
            return False
        newest = max(3, len(spreads) // 12)
        now, before = spreads[-newest:], spreads[: len(spreads) // 2]
        usual = median(before)
        differs = max(now) - min(now) > REPEATED * spread(before, usual)
        return differs and abs(median(now) - usual) < SAME_OCTAVES

    def state(self) -> list[float]:
        """The rows."""
        return self._spreads.state()

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._spreads.restore(state)


def easier(
    frame: Frame,
    baselines: Baselines,
    *,
    detector: str,
    kind: str,
    usual: float,
    level: float,
    onset_step: int,
    evidence: dict[str, float | int | str],
) -> list[Finding]:
    """The loss fell from `usual` to `level`, more than learning explains. Of data that are too easy
    nobody is named, and the output where a `representation_collapse` is all that pays for it."""
    found = [
        run_finding(
            frame,
            detector=detector,
            kind=kind,
            severity=Severity.WARNING,
            statistic="loss",
            value=level,
            baseline=usual,
            score=usual / level if level > 0 else 1.0,
            onset_step=onset_step,
            evidence=evidence,
        )
    ]
    if kind != "representation_collapse":
        return found
    layout = baselines.layout
    return found + series_findings(
        frame,
        layout.is_output,
        order=layout.flow,
        detector=detector,
        kind=kind,
        severity=Severity.WARNING,
        statistic="rms",
        value=baselines.row.rms,
        baseline=np.exp2(baselines.value("slow")),
        since=np.full(layout.num_series, onset_step, np.int64),
    )


def _shallowest(layout: Layout) -> int:
    """The index of the shallowest activation, -1 where there is none."""
    outputs = layout.indices[ACTIVATION]
    return int(outputs[np.argmin(layout.depth[outputs])]) if outputs.size else -1
