"""`python -m benchmarks.detection`: scores the detectors and what others use.

It reads the zoo's recordings (and records the quick part if there are none), and, where they stand
beside the checkout, the labelled corpus and the public logs. Exits with 1 where the figures cannot
be believed: nothing was scored, or a collection's own scorer says something else.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.detection.collections import SHARED, ZOO, NoRunsError, collections
from benchmarks.detection.docs import PAGE, frozen_at, replaced
from benchmarks.detection.parts import PARTS, QUICK
from benchmarks.detection.report import Report
from benchmarks.processes import processes
from benchmarks.zoo.__main__ import main as zoo


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    parser.add_argument(
        "--part",
        nargs="+",
        choices=tuple(PARTS),
        default=QUICK,
        help=f"what to measure: {', '.join(QUICK)} unless told; out-of-fold takes 20 minutes",
    )
    parser.add_argument("--zoo", type=Path, default=ZOO, help=f"the zoo's recordings: {ZOO}")
    parser.add_argument("--shared", type=Path, default=SHARED, help="where corpus and logs are")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="zoo-held, zoo-look, corpus, logs"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side: 2")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--write-docs", action="store_true", help=f"write the tables into {PAGE}")
    given = parser.parse_args(arguments)
    report = Report()
    if not any(given.zoo.rglob("*.json")):
        report.progress(f"no recordings in {given.zoo}: the quick part of the zoo is recorded")
        _record_quick_zoo(given.zoo, given.jobs)
    try:
        found = collections(shared=given.shared, zoo=given.zoo)
    except NoRunsError as error:
        print(error, file=sys.stderr)
        return 1
    found = [c for c in found if not given.only or c.name in given.only]
    frozen = f"The rules are those of {frozen_at()}."
    with processes(given.jobs) as pool:
        for name in given.part:
            report.add(name, [frozen, ""])
            PARTS[name](report, found, pool)
    if not report.document:
        report.wrong.append("nothing was measured")
    if given.json:
        given.json.write_text(json.dumps(report.document, indent=1) + "\n")
    if given.write_docs and not report.wrong:
        page = PAGE.read_text()
        for section, lines in report.sections.items():
            page = replaced(page, section, lines)
        PAGE.write_text(page)
    print(*(f"NOT TO BE BELIEVED: {text}" for text in report.wrong), sep="\n", file=sys.stderr)
    return 1 if report.wrong else 0


def _record_quick_zoo(folder: Path, jobs: int) -> None:
    """Record the quick part of both halves of the zoo, which takes minutes."""
    # 1 means that a label is not true of its run, which is then left out.
    zoo(["run", "--split", "both", "--quick", "--out", str(folder), "--jobs", str(jobs)])


if __name__ == "__main__":
    sys.exit(main())
