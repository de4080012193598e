"""`foreshock flush`: send what runs that were killed left in the spool."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from foreshock.commands import Command
from foreshock.errors import SettingError, SpoolError
from foreshock.logs import OncePer
from foreshock.sender.orphans import open_orphan
from foreshock.sender.post import Backoff, Outcome, drain
from foreshock.settings import load_settings
from foreshock.spool import Spool
from foreshock.transport import HttpTransport


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="address of the service (FORESHOCK_URL)")
    parser.add_argument("--token", help="token with the scope ingest (FORESHOCK_TOKEN)")
    parser.add_argument("--spool-dir", help="folder of the spool (FORESHOCK_SPOOL_DIR)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to go on trying (default 60)"
    )


def _run(args: argparse.Namespace) -> int:
    """Exit status 0: nothing is left; 1: something is; 2: a setting is wrong."""
    given = {"url": args.url, "token": args.token, "spool_dir": args.spool_dir}
    try:
        settings = load_settings(given)
        transport = HttpTransport(settings)
    except SettingError as error:
        print(f"foreshock flush: {error}", file=sys.stderr)
        return 2
    deadline = time.monotonic() + args.timeout
    outcome = Outcome()
    backoff = Backoff(settings.retry_first_seconds, settings.retry_max_seconds)
    unusable: dict[str, None] = {}
    done: set[Path] = set()
    sent = True

    def refused(error: SpoolError) -> None:
        unusable[str(error)] = None

    def next_orphan() -> Spool | None:
        # A folder once only: a disk that deletes nothing would give it again for ever.
        return open_orphan(
            settings.spool_folder(),
            max_bytes=settings.spool_max_bytes,
            leave_out=frozenset(done),
            on_refusal=refused,
        )

    while sent and (orphan := next_orphan()) is not None:
        print(f"{orphan.folder.name}: {len(orphan)} batches")
        sent = drain(
            orphan,
            transport,
            backoff,
            lambda: time.monotonic() >= deadline,
            lambda seconds: time.sleep(max(0.0, min(seconds, deadline - time.monotonic()))),
            outcome,
            once_per=OncePer(),
        )
        done.add(orphan.folder)
        orphan.close()
    transport.close()
    print(f"sent {outcome.batches_sent} batches, {outcome.bytes_sent} bytes to {settings.url}")
    if outcome.batches_rejected:
        print(f"{outcome.batches_rejected} were refused and lie in the folders named rejected/")
    if not sent:
        print("the rest stays in the spool: the service did not answer in time", file=sys.stderr)
    for told in unusable:
        print(f"foreshock flush: {told}", file=sys.stderr)
    complete = sent and not unusable and not outcome.batches_rejected and not outcome.frames_lost
    return 0 if complete else 1


command = Command(
    name="flush",
    help="send what killed runs left in the spool",
    add_arguments=_add_arguments,
    run=_run,
)
