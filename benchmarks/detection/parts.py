"""The parts of the benchmark: each measures something and adds a section to the report."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks.detection.collections import Collection
from benchmarks.detection.judging import OURS, judge_all
from benchmarks.detection.out_of_fold.evaluate import LeftOut, leave_out
from benchmarks.detection.peers.registry import OF_TENSORS
from benchmarks.detection.report import Report
from benchmarks.detection.scoring import SAME, Scores, others_composite, score_method
from benchmarks.detection.speed import measure, speed_table
from benchmarks.detection.suites import run_suites, suite_tables
from benchmarks.detection.tables import kind_table, method_table, missed_table, table

REASONS: Final = Path(__file__).with_name("missed.toml")
"""Why something is missed, by the run's name: written by a person."""

Part = Callable[[Report, Sequence[Collection], ProcessPoolExecutor], None]


def runs(report: Report, found: Sequence[Collection], pool: ProcessPoolExecutor) -> None:
    """Each collection: all methods beside one another, what is missed; then kinds of faults."""
    reasons = tomllib.loads(REASONS.read_text())
    ours: dict[str, Scores] = {}
    for collection in found:
        report.progress(f"{collection.name}: {len(collection.runs)} runs")
        told = judge_all(collection, pool)
        scores = [
            score_method(method, collection, alerts)
            for method, alerts in told.items()
            if not (collection.is_logs and method in OF_TENSORS)
        ]
        if not scores or not collection.runs:
            report.wrong.append(f"{collection.name}: no run was scored")
            continue
        own, other = scores[0].figures["composite"], others_composite(collection, told[OURS])
        if other is not None and abs(other - own) > SAME:
            report.wrong.append(f"{collection.name}: its own scorer says {other:.4f}, we {own:.4f}")
        report.add("runs", _head(collection, scores[0]))
        report.add("runs", method_table(collection, scores))
        if not collection.hidden:
            report.add("runs", missed_table(collection, scores[0], reasons))
        report.document[collection.name] = {
            s.method: {**s.figures, "composite_interval": list(s.interval)} for s in scores
        }
        if not collection.is_logs:
            ours[collection.title] = scores[0]
    if ours:
        report.add(
            "runs", ["Our detectors by kind of fault: detected, and how well that fits.", ""]
        )
        report.add("runs", kind_table(ours))


def _head(collection: Collection, ours: Scores) -> list[str]:
    healthy, events = (int(ours.figures[n]) for n in ("num_healthy_runs", "num_events"))
    return [f"**{collection.title}**: {healthy} healthy runs, {events} faults.", ""]


def suites(report: Report, found: Sequence[Collection], pool: ProcessPoolExecutor) -> None:
    """Healthy runs made odd, and with faults spliced in; those of `held` are left alone."""
    seen = [c for c in found if not c.hidden and not c.is_logs]
    paths = [one.path for c in seen for one in c.runs if not one.run.events]
    report.progress(f"{len(paths)} healthy runs are made odd and spliced")
    counts = run_suites(paths, pool)
    if not counts.odd.total() or not counts.spliced.total():
        report.wrong.append("no healthy run was made odd or spliced")
    report.add("suites", suite_tables(counts))
    report.document["suites"] = {n: dict(c) for n, c in counts.by_name().items()}


def speed(report: Report, found: Sequence[Collection], pool: ProcessPoolExecutor) -> None:
    """The cost of a row and of the state."""
    report.progress("1000 series through all detectors")
    measured = measure()
    if measured.num_alerts:
        report.wrong.append(f"the run that is timed is not quiet: {measured.num_alerts} alerts")
    report.add("speed", speed_table(measured))
    report.document["speed"] = asdict(measured)


def out_of_fold(report: Report, found: Sequence[Collection], pool: ProcessPoolExecutor) -> None:
    """Thresholds chosen without a fold, for the corpus (else the zoo's `look`) and the logs."""
    traces = [c for c in found if not c.hidden and not c.is_logs]
    chosen = [c for c in traces if c.name == "corpus"] or traces
    reached = [
        one
        for collection in [*chosen, *(c for c in found if c.is_logs)]
        for one in leave_out(collection, pool, report.progress)
    ]
    if not reached:
        report.wrong.append("there is nothing to leave out: record the zoo's `look`")
    report.add("out-of-fold", _left_out(reached))
    report.document["out-of-fold"] = [
        {
            "collection": one.collection,
            "folds_by": one.folds_by,
            "num_folds": one.num_folds,
            "figures": dict(one.scores.figures),
            "at_start": dict(one.at_start.figures),
        }
        for one in reached
    ]


def _left_out(reached: Sequence[LeftOut]) -> Iterator[str]:
    yield from table(
        (
            "Runs",
            "Left out by",
            "Folds",
            "Composite (95 %)",
            "The same without a search",
            "Thresholds, and how many moved",
        ),
        [
            [
                one.collection,
                one.folds_by,
                str(one.num_folds),
                _composite(one.scores),
                _composite(one.at_start),
                f"{one.num_thresholds}, {one.num_moved:.0f}",
            ]
            for one in reached
        ],
    )


def _composite(scores: Scores) -> str:
    low, high = scores.interval
    return f"{scores.figures['composite']:.2f} ({low:.2f} to {high:.2f})"


PARTS: Final[dict[str, Part]] = {
    "runs": runs,
    "suites": suites,
    "speed": speed,
    "out-of-fold": out_of_fold,
}
QUICK: Final = ("runs", "suites", "speed")
"""Without being asked for more."""
