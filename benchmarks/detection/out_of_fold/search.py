"""Coordinate search over the grid, for all folds at once: what one fold asks for, others share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final

from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Departure

from benchmarks.detection.collections import Collection, Labelled
from benchmarks.detection.logs import ScoredLog, log_figures, score_log
from benchmarks.detection.out_of_fold.folds import Folds
from benchmarks.detection.out_of_fold.grid import (
    Axis,
    Point,
    axes,
    document_of,
    middle,
    moved,
    values_of,
)
from benchmarks.detection.out_of_fold.listening import (
    Request,
    Table,
    key_of,
    listen,
    retell,
    rows_without_statistics,
)
from benchmarks.zoo.score import Scored, figures, score_run

MAX_ROWS: Final = 4000
"""The search reads so many rows of a run; the fold is scored on all of it."""
MARGIN: Final = 0.002
"""Composites that differ by less are equal: of equal values the one in their middle is taken."""
OF_LOGS: Final = frozenset(
    ("non_finite", "rate", "early", "spike", "plasticity", "plateau", "loss", "windfall")
)
"""What can speak where there are only losses, norms and rates."""

Progress = Callable[[str], None]


@dataclass(slots=True)
class _Known:
    """What was heard of one run: findings by number, and their numbers by request."""

    labelled: Labelled
    frames: list[Frame]
    tables: list[Table] = field(default_factory=list)
    numbers: dict[Request, int] = field(default_factory=dict)
    by_key: dict[tuple[Any, ...], int] = field(default_factory=dict)
    departures: dict[int, tuple[Departure, ...]] = field(default_factory=dict)
    scored: dict[tuple[int, ...], Scored | ScoredLog] = field(default_factory=dict)


class Search:
    """The runs of one collection, and what is known of them under the points looked at so far."""

    def __init__(
        self, collection: Collection, pool: ProcessPoolExecutor, progress: Progress
    ) -> None:
        self._pool = pool
        self._progress = progress
        self._is_logs = collection.is_logs
        self.detectors = [d for d in DETECTORS if not collection.is_logs or d in OF_LOGS]
        self.grid = axes(self.detectors)
        self.start = middle(self.grid)
        paths = [labelled.path for labelled in collection.runs]
        rows = pool.map(rows_without_statistics, paths, repeat(MAX_ROWS))
        self._runs = [
            _Known(labelled=labelled, frames=frames)
            for labelled, frames in zip(collection.runs, rows, strict=True)
        ]

    @property
    def num_runs(self) -> int:
        """How many runs there are, in all folds."""
        return len(self._runs)

    def look(self, points: Iterable[Point]) -> None:
        """Learn what the detectors find at these points, where it is not known yet."""
        known = self._runs[0].numbers
        wanted = {(d, values_of(p, d)): None for p in points for d in self.detectors}
        requests = [request for request in wanted if request not in known]
        if not requests:
            return
        self._progress(f"{len(requests)} rules with other thresholds over {len(self._runs)} runs")
        document = {
            **document_of(self.start),
            "disabled": [name for name in DETECTORS if name not in self.detectors],
        }
        paths = [run.labelled.path for run in self._runs]
        heard = self._pool.map(listen, paths, repeat(MAX_ROWS), repeat(document), repeat(requests))
        for run, one in zip(self._runs, heard, strict=True):
            for request, table in one.tables.items():
                key = key_of(table)
                if key not in run.by_key:
                    run.by_key[key] = len(run.tables)
                    run.tables.append(table)
                run.numbers[request] = run.by_key[key]
            run.departures.update(one.departures)

    def numbers(self, point: Point) -> tuple[tuple[int, ...], ...]:
        """What is found at a point, as numbers [runs][detectors]: equal ones are equal findings."""
        requests = [(d, values_of(point, d)) for d in self.detectors]
        return tuple(tuple(run.numbers[r] for r in requests) for run in self._runs)

    def composite(self, point: Point, which: Sequence[int]) -> float:
        """The composite of these runs at a point."""
        requests = [(d, values_of(point, d)) for d in self.detectors]
        traces: list[Scored] = []
        logs: list[ScoredLog] = []
        for place in which:
            run = self._runs[place]
            one = self._score(run, tuple(run.numbers[request] for request in requests))
            if isinstance(one, ScoredLog):
                logs.append(one)
            else:
                traces.append(one)
        return (log_figures(logs) if self._is_logs else figures(traces))["composite"]

    def _score(self, run: _Known, numbers: tuple[int, ...]) -> Scored | ScoredLog:
        if numbers not in run.scored:
            tables = [run.tables[number] for number in numbers]
            alerts = retell(run.labelled.run.id, run.frames, tables, run.departures)
            run.scored[numbers] = (
                score_log(run.labelled, alerts)
                if self._is_logs
                else score_run(run.labelled.run, alerts)
            )
        return run.scored[numbers]

    def telling(self, start: Point) -> list[Axis]:
        """The thresholds that change a finding of any run when moved alone from `start` to an end
        of their axis; the others are left where they are."""
        ends = [
            (axis, moved(start, axis, value))
            for axis in self.grid
            for value in {axis.values[0], axis.values[-1]}
        ]
        self.look([start, *(point for _, point in ends)])
        here = self.numbers(start)
        found = {id(axis) for axis, point in ends if self.numbers(point) != here}
        return [axis for axis in self.grid if id(axis) in found]

    def choose(self, folds: Folds, start: Point, *, num_sweeps: int = 1) -> dict[str, Point]:
        """The point chosen for each fold on the runs outside it."""
        telling = self.telling(start)
        self._progress(f"{len(telling)} of {len(self.grid)} thresholds change a finding")
        rounds = _rounds(telling)
        points = dict.fromkeys(folds, start)
        for sweep in range(num_sweeps):
            before = dict(points)
            for number, parallel in enumerate(rounds):
                self.look(
                    moved(point, axis, value)
                    for point in points.values()
                    for axis in parallel
                    for value in axis.values
                )
                for name, outside in _training(folds, len(self._runs)).items():
                    for axis in parallel:
                        points[name] = self._best(points[name], axis, outside)
                self._progress(f"sweep {sweep + 1}, round {number + 1} of {len(rounds)}")
            if points == before:
                break
        return points

    def _best(self, point: Point, axis: Axis, training: Sequence[int]) -> Point:
        choices = [moved(point, axis, value) for value in axis.values]
        reached = [self.composite(choice, training) for choice in choices]
        best = [i for i, value in enumerate(reached) if value >= max(reached) - MARGIN]
        if len(best) == len(choices):
            return point
        plateau = max(_neighbours(best), key=len)
        return choices[plateau[len(plateau) // 2]]


def _neighbours(places: Sequence[int]) -> list[list[int]]:
    """Runs of consecutive numbers."""
    groups: list[list[int]] = []
    for place in places:
        if groups and groups[-1][-1] == place - 1:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _rounds(telling: Sequence[Axis]) -> list[list[Axis]]:
    """One axis of each detector a round: findings of different detectors do not depend on one
    another, so that these can be looked at together."""
    by_detector: dict[str, list[Axis]] = {}
    for axis in telling:
        by_detector.setdefault(axis.detector, []).append(axis)
    longest = max((len(mine) for mine in by_detector.values()), default=0)
    return [[m[i] for m in by_detector.values() if i < len(m)] for i in range(longest)]


def _training(folds: Folds, num_runs: int) -> Mapping[str, list[int]]:
    return {
        name: [i for i in range(num_runs) if i not in set(left_out)]
        for name, left_out in folds.items()
    }
