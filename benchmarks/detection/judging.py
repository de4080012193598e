"""Every method over every run of a collection, in processes side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.detection.collections import Collection
from benchmarks.detection.peers.registry import peers_alerts
from benchmarks.detection.reading import read
from benchmarks.detection.told import Alert, alerts_of

OURS: Final = "**Foreshock**"

Progress = Callable[[str], None]


def judge(path: Path, with_peers: bool = True) -> dict[str, list[Alert]]:
    """Alerts on one run by the name of each method, ours first."""
    recording = read(path)
    found = {OURS: alerts_of(recording)}
    return {**found, **(peers_alerts(recording) if with_peers else {})}


def judge_all(
    collection: Collection, pool: ProcessPoolExecutor, *, with_peers: bool = True
) -> dict[str, list[Alert]]:
    """Alerts on all runs of a collection by the name of each method."""
    paths = [labelled.path for labelled in collection.runs]
    told: dict[str, list[Alert]] = {}
    for found in pool.map(judge, paths, [with_peers] * len(paths)):
        for method, alerts in found.items():
            told.setdefault(method, []).extend(alerts)
    return told


def largest_first(paths: Iterable[Path]) -> list[Path]:
    """By size: a long run that begins last is waited for."""
    return sorted(paths, key=lambda path: -path.with_suffix(path.suffix).stat().st_size)
