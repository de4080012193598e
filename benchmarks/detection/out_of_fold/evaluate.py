"""Scores the detectors on each fold with the thresholds that were chosen without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreshock_service.detectors.config import EngineConfig

from benchmarks.detection.collections import Collection
from benchmarks.detection.out_of_fold.folds import Folds, by_kind, by_source
from benchmarks.detection.out_of_fold.grid import Point, anywhere, document_of
from benchmarks.detection.out_of_fold.search import Progress, Search
from benchmarks.detection.reading import read
from benchmarks.detection.scoring import Scores, score_method
from benchmarks.detection.told import Alert, alerts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What was reached on runs that the thresholds had not seen, pooled over the folds.

    `at_start` is the same without a search: the middle of the grid everywhere.
    """

    collection: str
    folds_by: str
    num_folds: int
    num_thresholds: int
    num_moved: float
    scores: Scores
    at_start: Scores


def alerts_with(path: Path, document: Mapping[str, Any]) -> list[Alert]:
    """The alerts on a run under a configuration."""
    return alerts_of(read(path), EngineConfig.from_document(document))


def leave_out(
    collection: Collection,
    pool: ProcessPoolExecutor,
    progress: Progress,
    *,
    num_starts: int = 1,
) -> Iterator[LeftOut]:
    """Choose and score: by architecture and by kind of fault, or by publisher for logs."""
    search = Search(collection, pool, progress)
    groupings = {"publisher" if collection.is_logs else "architecture": by_source(collection.runs)}
    if not collection.is_logs:
        groupings["kind of fault"] = by_kind(collection.runs)
    starts = [search.start, *(anywhere(search.grid, seed=n) for n in range(1, num_starts))]
    at_start = _score("middle of the grid", collection, pool, {"": search.start}, None)
    for folds_by, folds in groupings.items():
        points = _chosen(search, folds, starts)
        progress(f"{collection.name} by {folds_by}: the folds are scored")
        moved = [
            sum(
                point[axis.detector][axis.name] != search.start[axis.detector][axis.name]
                for axis in search.grid
            )
            for point in points.values()
        ]
        yield LeftOut(
            collection=collection.title,
            folds_by=folds_by,
            num_folds=len(folds),
            num_thresholds=len(search.grid),
            num_moved=sum(moved) / len(moved),
            scores=_score("left out", collection, pool, points, folds),
            at_start=at_start,
        )


def _chosen(search: Search, folds: Folds, starts: list[Point]) -> dict[str, Point]:
    """For each fold the point that is best on the runs outside it, over all starts."""
    best: dict[str, tuple[float, Point]] = {}
    for start in starts:
        for name, point in search.choose(folds, start).items():
            outside = [i for i in range(search.num_runs) if i not in folds[name]]
            reached = search.composite(point, outside)
            if name not in best or reached > best[name][0]:
                best[name] = (reached, point)
    return {name: point for name, (_, point) in best.items()}


def _score(
    method: str,
    collection: Collection,
    pool: ProcessPoolExecutor,
    points: Mapping[str, Point],
    folds: Folds | None,
) -> Scores:
    """All runs, each under the point of the fold that it is in."""
    fold_of = {i: name for name, which in (folds or {}).items() for i in which}
    documents = [
        document_of(points[fold_of[i] if folds else ""]) for i in range(len(collection.runs))
    ]
    told = pool.map(alerts_with, [labelled.path for labelled in collection.runs], documents)
    return score_method(method, collection, [alert for alerts in told for alert in alerts])
