"""`python -m benchmarks.detection`: scores the detectors and what others use.

It reads the zoo's recordings (and records the quick part if there are none), and, where they stand
beside the checkout, the labelled corpus and the public logs. Exits with 1 where the figures cannot
be believed: nothing was scored, or a collection's own scorer says something else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.detection.collections import (
    SHARED,
    ZOO,
    Collection,
    NoRunsError,
    collections,
    record_quick_zoo,
)
from benchmarks.detection.docs import PAGE, frozen_at, replaced
from benchmarks.detection.judging import OURS, judge_all, processes
from benchmarks.detection.scoring import SAME, Scores, others_composite, score_method
from benchmarks.detection.tables import kind_table, method_table, missed_table

REASONS: Final = Path(__file__).with_name("missed.toml")


class Report:
    """Lines for the terminal and the page, figures for a file, and what is not to be believed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.document: dict[str, Any] = {}
        self.wrong: list[str] = []
        self._started = time.monotonic()

    def add(self, lines: Iterator[str] | Sequence[str]) -> None:
        """Keep lines and print them."""
        for line in lines:
            self.lines.append(line)
            print(line, flush=True)

    def progress(self, text: str) -> None:
        """Say what is being done."""
        print(f"{time.monotonic() - self._started:6.0f} s  {text}", file=sys.stderr, flush=True)


def score_collections(
    report: Report, found: Sequence[Collection], pool: ProcessPoolExecutor, *, with_peers: bool
) -> None:
    """The table of methods of each collection, what is missed, and the table of kinds."""
    reasons = tomllib.loads(REASONS.read_text()) if REASONS.exists() else {}
    ours: dict[str, Scores] = {}
    for collection in found:
        report.progress(f"{collection.name}: {len(collection.runs)} runs")
        told = judge_all(collection, pool, with_peers=with_peers)
        scores = [score_method(method, collection, alerts) for method, alerts in told.items()]
        if not scores:
            report.wrong.append(f"{collection.name}: no run was scored")
            continue
        other = others_composite(collection, told[OURS])
        own = scores[0].figures["composite"]
        if other is not None and abs(other - own) > SAME:
            report.wrong.append(f"{collection.name}: its own scorer says {other:.4f}, we {own:.4f}")
        report.add(_head(collection, scores[0]))
        report.add(method_table(collection, scores))
        if not collection.hidden:
            report.add(missed_table(collection, scores[0], reasons))
        report.document[collection.name] = {
            s.method: {**s.figures, "composite_interval": list(s.interval)} for s in scores
        }
        if not collection.is_logs:
            ours[collection.title] = scores[0]
    if ours:
        report.add(["Our detectors by kind of fault: detected, and mean credit.", ""])
        report.add(kind_table(ours))


def _head(collection: Collection, ours: Scores) -> list[str]:
    figures = ours.figures
    healthy, events = int(figures["num_healthy_runs"]), int(figures["num_events"])
    return [f"**{collection.title}**: {healthy} healthy runs, {events} faults.", ""]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument("--zoo", type=Path, default=ZOO, help=f"recordings of the zoo, {ZOO}")
    parser.add_argument("--shared", type=Path, default=SHARED, help="where corpus and logs are")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="zoo-held, zoo-look, corpus, logs"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, 2")
    parser.add_argument("--no-peers", action="store_true", help="our detectors alone")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--write-docs", action="store_true", help=f"write the tables into {PAGE}")
    given = parser.parse_args(arguments)
    report = Report()
    if not any(given.zoo.glob("*.json")):
        report.progress(f"no recordings in {given.zoo}: the quick part of the zoo is recorded")
        record_quick_zoo(given.zoo, jobs=given.jobs)
    try:
        found = collections(shared=given.shared, zoo=given.zoo)
    except NoRunsError as error:
        print(error, file=sys.stderr)
        return 1
    found = [c for c in found if not given.only or c.name in given.only]
    report.add([f"The rules are those of {frozen_at()}.", ""])
    with processes(given.jobs) as pool:
        score_collections(report, found, pool, with_peers=not given.no_peers)
    if not report.document:
        report.wrong.append("nothing was scored")
    if given.json:
        given.json.write_text(json.dumps(report.document, indent=1) + "\n")
    if given.write_docs and not report.wrong:
        PAGE.write_text(replaced(PAGE.read_text(), report.lines))
    print(*(f"NOT TO BE BELIEVED: {text}" for text in report.wrong), sep="\n", file=sys.stderr)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
