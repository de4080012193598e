"""`foreshock scan`: the detectors over logs and traces that are already there."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

from foreshock.commands import Command

from foreshock_service.commands.arguments import INTERRUPTED, closed, detection_config
from foreshock_service.commands.scan_output import Output
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.errors import NoRun, NotTaken, Unprocessable, Unreadable
from foreshock_service.importers.discovery import Found, discover
from foreshock_service.importers.names import LOSS
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.pipeline.scan import Scan, Tally
from foreshock_service.pipeline.upload import PROJECT, Service, Upload, run_id_of
from foreshock_service.settings import SenderSettings

QUIET, INCIDENTS, UNREADABLE = 0, 1, 2


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the service's detectors, row by row, over runs that lie on this disk. Exit status: 0 "
        "nothing found, 1 incidents, 2 something could not be read, 130 interrupted, 141 nobody "
        "reads the output any more."
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="files of any format, or folders"
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="write one line of JSON a notification; - for stdout, sentences then go to stderr",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="sensitivity, disabled detectors and thresholds, as TOML; of this scan alone",
    )
    parser.add_argument(
        "--import",
        dest="service",
        metavar="URL",
        help="also send the runs to a running service (FORESHOCK_TOKEN: its token)",
    )


def _run(args: argparse.Namespace) -> int:
    try:
        config = None if args.config is None else detection_config(args.config)
    except Unprocessable as error:
        return _refuse(str(error))
    try:
        with ExitStack() as stack:
            try:
                output = stack.enter_context(Output.to(args.jsonl))
            except OSError as error:
                return _refuse(f"{args.jsonl}: {error.strerror or error}")
            service = None
            if args.service is not None:
                token = SenderSettings().token
                secret = None if token is None else token.get_secret_value()
                service = stack.enter_context(Service(args.service, secret))
                service.check()
            written = None if args.jsonl in (None, "-") else Path(args.jsonl)
            found = discover(args.paths, leave_out=written)
            return _scan_all(found, output, config, service)
    except BrokenPipeError:
        return closed()
    except KeyboardInterrupt:
        return INTERRUPTED
    except NotTaken as error:
        return _refuse(f"{args.service}: {error}")
    except OSError as error:
        return _refuse(str(error))


def _refuse(reason: str) -> int:
    print(f"foreshock scan: {reason}", file=sys.stderr)
    return UNREADABLE


def _scan_all(
    found: Found, output: Output, config: EngineConfig | None, service: Service | None
) -> int:
    for failure in found.failures:
        output.failed(str(failure.path), failure.reason)
    num_failed, num_skipped = len(found.failures), found.num_skipped
    tallies: list[Tally] = []
    with output.progress(len(found.runs)):
        for run in found.runs:
            scan = Scan(run.facts, config)
            try:
                _scan(run, scan, output, _upload(run, service))
            except Unreadable as error:
                if isinstance(error, NoRun) and run.files not in found.named:
                    num_skipped += 1
                else:
                    num_failed += 1
                    output.failed(str(run.files[0]), str(error))
                if isinstance(error, NoRun):
                    continue
            if scan.tally.num_rows:
                tallies.append(scan.tally)
                output.finished(run.name, scan.tally)
    output.summary(tallies, num_failed=num_failed, num_skipped=num_skipped)
    if num_failed:
        return UNREADABLE
    return INCIDENTS if any(tally.severities for tally in tallies) else QUIET


def _upload(run: ImportedRun, service: Service | None) -> Upload | None:
    if service is None:
        return None
    about: dict[str, Any] = {"name": run.name, "project": PROJECT}
    if run.facts.optimizer:
        about["optimizers"] = [{"class": run.facts.optimizer}]
    try:
        run_id = run_id_of(run.name, run.files)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    return Upload(service, run_id, about)


def _scan(run: ImportedRun, scan: Scan, output: Output, upload: Upload | None) -> None:
    """Tell and send what the run brings as it comes, once it has shown that it has a loss at all.

    Of a run that breaks off, what came before is told and sent. A scan that is ended amid a run
    says to the service that it has ended.
    """
    held: list[IncidentChange] = []
    has_loss = False
    with nullcontext() if upload is None else upload:
        for frame in run.frames():
            held += scan.push(frame)
            has_loss = has_loss or LOSS in frame.scalars
            output.at(run.name, scan.tally.num_rows)
            if upload is not None:
                upload.push(frame)
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
