"""From a mask over the series to findings, the foremost few, so that a row costs O(findings)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from foreshock_service.detectors.row import Bools, Floats, any_of
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

MAX_FINDINGS: Final = 8
"""Of one rule on one row. When a thousand series leave at once, the first eight tell the story."""
ALIKE_OCTAVES: Final = 1.0


def with_alike(mask: Bools, octaves: Floats, among: Bools) -> Bools:
    """The masked series, and of some others those that have moved as far to an octave, though noise
    or a row too few keeps a rule from telling of them yet [series]."""
    if not any_of(mask):
        return mask
    least = octaves[mask].max() - ALIKE_OCTAVES
    return np.asarray(mask | (among & (octaves > least)))


def by_size_then_flow(mask: Bools, octaves: Floats, flow: npt.NDArray[np.int64]) -> Floats:
    """An order for `series_findings` [series]: the masked series that have moved the furthest, and
    of those within an octave of them the first in the flow of a step, for what one layer does to
    its size comes with the same factor out of all that follow."""
    size = np.where(mask, np.nan_to_num(octaves), 0.0)
    largest = size.max(initial=0.0)
    # Below all sizes, in their own order.
    first = flow - flow.max(initial=0) - 1.0 - largest
    return np.where(size > largest - ALIKE_OCTAVES, first, -size)


def fall_of_all(
    frame: Frame, *, detector: str, kind: str, size: float, fall: float, onset_step: int
) -> Finding:
    """The median tensor of a kind, of a log2 rms of `size`, stands `fall` octaves below its own
    usual level: a warning of which nobody is named."""
    return run_finding(
        frame,
        detector=detector,
        kind=kind,
        severity=Severity.WARNING,
        statistic="rms",
        value=2.0**size,
        baseline=2.0 ** (size + fall),
        score=fall,
        onset_step=onset_step,
        evidence={"cause": "all"},
    )


def series_findings(
    frame: Frame,
    mask: Bools,
    *,
    order: npt.NDArray[np.int64] | Floats,
    detector: str,
    kind: str,
    severity: Severity,
    statistic: str,
    value: Floats,
    baseline: Floats | None = None,
    score: Floats | None = None,
    since: npt.NDArray[np.int64] | None = None,
    evidence: Mapping[str, float | int | str] | None = None,
) -> list[Finding]:
    """Findings of the masked series, smallest `order` first; all arrays are [series].

    `since` is the step at which each series' departure began; without it, this step. `evidence`
    is the same for all of them.
    """
    if not any_of(mask):
        return []
    which = np.flatnonzero(mask)
    which = which[np.argsort(order[which], kind="stable")][:MAX_FINDINGS]
    return [
        Finding(
            detector=detector,
            kind=kind,
            severity=severity,
            series=int(i),
            ord=frame.ord,
            step=frame.step,
            onset_step=frame.step if since is None else int(since[i]),
            statistic=statistic,
            value=float(value[i]),
            baseline=None if baseline is None else float(baseline[i]),
            score=0.0 if score is None else float(score[i]),
            evidence={"num_series": int(mask.sum()), **(evidence or {})},
        )
        for i in which
    ]


def run_finding(
    frame: Frame,
    *,
    detector: str,
    kind: str,
    severity: Severity,
    statistic: str,
    value: float,
    baseline: float | None = None,
    score: float = 0.0,
    onset_step: int | None = None,
    evidence: dict[str, float | int | str] | None = None,
) -> Finding:
    """A finding that is about the run as a whole."""
    return Finding(
        detector=detector,
        kind=kind,
        severity=severity,
        series=None,
        ord=frame.ord,
        step=frame.step,
        onset_step=frame.step if onset_step is None else onset_step,
        statistic=statistic,
        value=value,
        baseline=baseline,
        score=score,
        evidence=evidence or {},
    )
