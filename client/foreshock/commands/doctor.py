"""`foreshock doctor`: would a training that is started here be seen, and if not, why."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

from foreshock import __version__
from foreshock.commands import Command
from foreshock.doctor.check import Check, Status
from foreshock.doctor.configuration import check_settings
from foreshock.doctor.machine import check_compression, check_measuring, check_versions
from foreshock.doctor.service import check_service
from foreshock.doctor.spool import check_spool
from foreshock.errors import SettingError
from foreshock.settings import load_with_sources

_WIDTH: Final = 16


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Look at what a training on this machine would use, and change nothing. "
        "Exit status 0: frames would arrive; 1: they would not; 2: a setting cannot be used."
    )
    parser.add_argument("--url", help="address of the service (FORESHOCK_URL)")
    parser.add_argument("--token", help="token with the scope ingest (FORESHOCK_TOKEN)")
    parser.add_argument("--spool-dir", help="folder of the spool (FORESHOCK_SPOOL_DIR)")
    parser.add_argument(
        "--timeout", type=float, help="seconds that the service may take to answer (10)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _run(args: argparse.Namespace) -> int:
    given = {
        "url": args.url,
        "token": args.token,
        "spool_dir": args.spool_dir,
        "request_timeout_seconds": args.timeout,
    }
    try:
        loaded = load_with_sources(given)
    except SettingError as error:
        print(f"foreshock doctor: {error}", file=sys.stderr)
        return 2
    settings = loaded.settings
    checks = [
        check_versions(__version__),
        *check_measuring(),
        *check_settings(loaded),
        *check_service(settings),
        check_compression(settings),
        *check_spool(settings),
    ]
    print(_document(checks) if args.json else _page(checks))
    return 1 if _worst(checks) is Status.PROBLEM else 0


def _worst(checks: Sequence[Check]) -> Status:
    order = list(Status)
    return max((check.status for check in checks), key=order.index)


def _document(checks: Sequence[Check]) -> str:
    items = [
        {"name": c.name, "status": c.status.value, "found": c.found, "advice": c.advice}
        for c in checks
    ]
    return json.dumps({"status": _worst(checks).value, "checks": items}, indent=2)


def _page(checks: Sequence[Check]) -> str:
    lines = []
    for check in checks:
        lines.append(f"{check.status.value:8} {check.name:{_WIDTH}} {check.found}")
        if check.advice:
            lines.append(f"{'':8} {'':{_WIDTH}} -> {check.advice}")
    return "\n".join(lines)


command = Command(
    name="doctor",
    help="say whether a training started here would be seen, and if not, why",
    add_arguments=_add_arguments,
    run=_run,
)
