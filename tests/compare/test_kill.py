"""Comparison is exactly once: workers that are killed again and again change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from foreshock_service.pipeline.compare import RUN_WIDE, Compare
from foreshock_service.pipeline.comparison import Comparison
from foreshock_service.store.detection import load_state
from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery, finding, incident
from sqlalchemy import select

from tests.compare.runs import drain, store_ranks
from tests.detect.runs import settings_with_webhook

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 320
SHOWN = {
    "finding": (finding.c.incident_number, finding.c.ord, finding.c.document),
    "incident": (incident.c.number, incident.c.rank, incident.c.sentence, incident.c.document),
    "delivery": (delivery.c.incident_number, delivery.c.transition, delivery.c.step),
}


def _rows(store: Store, run: str) -> dict[str, list[Any]]:
    with store.read() as session:
        return {
            name: sorted(
                (tuple(row) for row in session.connection.execute(
                    select(*columns).where(columns[0].table.c.run_id == run))),
                key=str,
            )
            for name, columns in SHOWN.items()
        }  # fmt: skip


def _cursor(store: Store, run: str) -> int:
    """The frame up to which rank 0 has been compared."""
    with store.read() as session:
        stored = load_state(session, run, RUN_WIDE)
    comparison = Comparison()
    if stored is not None:
        comparison.restore(stored[1])
    return comparison.cursors.get(0, 0)


def _start(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.compare.worker", url, "12"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_workers_killed_again_and_again_change_nothing(store: Store, database_url: str) -> None:
    """What two of them find, open and tell equals what one did that was left alone."""
    store_ranks(store, "calm", num_frames=FRAMES, odd=2, since=100)
    drain(Compare(store, settings_with_webhook(), rows_a_unit=12))
    store_ranks(store, "killed", num_frames=FRAMES, odd=2, since=100)
    workers = [_start(database_url), _start(database_url)]
    kills = 0
    deadline = time.monotonic() + 300
    try:
        while _cursor(store, "killed") < FRAMES:
            assert time.monotonic() < deadline
            if _cursor(store, "killed") > 60 * (kills + 1):
                # Somewhere inside their work, both of them in turn.
                workers[kills % 2].kill()
                workers[kills % 2].wait(30)
                workers[kills % 2] = _start(database_url)
                kills += 1
            time.sleep(0.001 * (1 + kills % 5))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(30)
    assert kills >= 3
    assert _rows(store, "killed") == _rows(store, "calm")
    assert len(_rows(store, "calm")["incident"]) == 1
