"""`foreshock scan`: the detectors over logs and traces that are already there."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from foreshock.commands import Command

from foreshock_service.commands.scan_output import Output
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.errors import Unreadable
from foreshock_service.importers.discovery import discover
from foreshock_service.importers.names import LOSS
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.pipeline.scan import Scan, Tally

QUIET, INCIDENTS, UNREADABLE = 0, 1, 2
INTERRUPTED: Final = 130
CLOSED: Final = 141
"""As shells say it: 128 and the number of the signal (SIGINT, SIGPIPE)."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the service's detectors, row by row, over runs that lie on this disk. Exit status: 0 "
        "nothing found, 1 incidents, 2 something could not be read."
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="files of any format, or folders"
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="write one line of JSON a notification; - for stdout, sentences then go to stderr",
    )


def _run(args: argparse.Namespace) -> int:
    try:
        with Output.to(args.jsonl) as output:
            return _scan_paths(args.paths, output)
    except BrokenPipeError:
        # Whoever read has enough; nothing more may be written, not even at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        print(f"foreshock scan: {args.jsonl}: {error.strerror or error}", file=sys.stderr)
        return UNREADABLE


def _scan_paths(paths: list[Path], output: Output) -> int:
    found = discover(paths)
    for failure in found.failures:
        output.failed(str(failure.path), failure.reason)
    num_failed, num_skipped = len(found.failures), found.num_skipped
    tallies: list[Tally] = []
    with output.progress(len(found.runs)):
        for run in found.runs:
            scan = Scan(run.facts)
            try:
                _scan(run, scan, output)
            except Unreadable as error:
                num_failed += 1
                output.failed(str(run.files[0]), str(error))
            if scan.tally.num_rows:
                tallies.append(scan.tally)
                output.finished(run.name, scan.tally)
    output.summary(tallies, num_failed=num_failed, num_skipped=num_skipped)
    if num_failed:
        return UNREADABLE
    return INCIDENTS if any(tally.severities for tally in tallies) else QUIET


def _scan(run: ImportedRun, scan: Scan, output: Output) -> None:
    """Tell what the run brings as it comes, once it has shown that it has a loss at all."""
    held: list[IncidentChange] = []
    has_loss = False
    for frame in run.frames():
        held += scan.push(frame)
        has_loss = has_loss or LOSS in frame.scalars
        output.at(run.name, scan.tally.num_rows)
        if has_loss and held:
            for change in held:
                output.told(run.name, change)
            held.clear()


command = Command(
    name="scan",
    help="look for incidents in logs and traces that are already there",
    add_arguments=_add_arguments,
    run=_run,
)
