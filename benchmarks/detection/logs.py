"""Scores alerts on logs whose label is windows of steps, as the logs' own scorer does.

`must` windows need an alert, in `may` one is right, any other is false; in a `warning_only` run a
critical one is false everywhere. More than 5 in a window are spam, which counts as false warnings.
Recall is the share of `must` windows with an alert. Trust is the mean of the share of quiet runs
without a false alert and of `1 / (1 + critical + warning / 2)`, false alerts per 10000 rows. The
composite is their harmonic mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from benchmarks.detection.collections import Labelled
from benchmarks.detection.told import Alert

MAX_IN_WINDOW: Final = 5
PER_ROWS: Final = 10_000
NUM_RESAMPLES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredLog:
    """One log's share; a sum over logs is the whole."""

    run: str
    needed: int
    found: int
    rows: int
    critical: int
    warning: int
    lates: tuple[int, ...]

    @property
    def is_quiet(self) -> bool:
        """No alert was needed."""
        return self.needed == 0


def score_log(labelled: Labelled, alerts: Sequence[Alert]) -> ScoredLog:
    """Count one log's alerts."""
    label: Mapping[str, Any] = labelled.windows or {}
    told = [(int(a["step"]), str(a.get("severity", "warning"))) for a in alerts]
    must = [tuple(window) for window in label["must"]]
    windows = [*must, *(tuple(window) for window in label["may"])]
    false = [
        severity
        for step, severity in told
        if not any(low <= step <= high for low, high in windows)
        or (label.get("warning_only") and severity == "critical")
    ]
    within = [[step for step, _ in told if low <= step <= high] for low, high in windows]
    spam = sum(max(0, len(steps) - MAX_IN_WINDOW) for steps in within)
    hits = within[: len(must)]
    return ScoredLog(
        run=labelled.run.id,
        needed=len(must),
        found=sum(bool(steps) for steps in hits),
        rows=int(label["rows"]),
        critical=false.count("critical"),
        warning=len(false) - false.count("critical") + spam,
        lates=tuple(min(steps) - low for (low, _), steps in zip(must, hits, strict=True) if steps),
    )


def log_figures(scored: Sequence[ScoredLog]) -> dict[str, float]:
    """The figures over these logs."""
    needed, rows = sum(s.needed for s in scored), sum(s.rows for s in scored)
    quiet = [not (s.critical or s.warning) for s in scored if s.is_quiet]
    per = PER_ROWS / rows if rows else 0.0
    critical = per * sum(s.critical for s in scored)
    warning = per * sum(s.warning for s in scored)
    recall = sum(s.found for s in scored) / needed if needed else 1.0
    clean = sum(quiet) / len(quiet) if quiet else 1.0
    trust = 0.5 * clean + 0.5 / (1 + critical + 0.5 * warning)
    return {
        "num_events": float(needed),
        "num_healthy_runs": float(len(quiet)),
        "detected": recall,
        "false_critical_per_1000": critical / 10,
        "false_warning_per_1000": warning / 10,
        "healthy_runs_without_alert": clean if quiet else math.nan,
        "composite": 2 * recall * trust / (recall + trust) if recall + trust else 0.0,
    }


def log_interval(scored: Sequence[ScoredLog], *, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the composite over sets of logs drawn with replacement."""
    draw = np.random.default_rng(seed)
    composites = [
        log_figures([scored[i] for i in draw.integers(len(scored), size=len(scored))])["composite"]
        for _ in range(NUM_RESAMPLES)
    ]
    low, high = np.quantile(composites, (0.025, 0.975))
    return float(low), float(high)
