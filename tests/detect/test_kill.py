"""Detection is exactly once: a worker that is killed again and again changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from foreshock_service.pipeline.detect import Detection
from foreshock_service.store.detection import backlogs, next_ord
from foreshock_service.store.session import Store
from foreshock_service.store.tables import baseline_snapshot, delivery, finding, incident
from sqlalchemy import Table, select

from tests.detect.runs import drain, settings_with_webhook, store_run

ROOT = Path(__file__).resolve().parents[2]
VOLATILE = {
    "finding_id", "incident_id", "delivery_id", "version", "opened_at", "updated_at", "run_id",
    "created_at", "next_attempt_at", "payload",
}  # fmt: skip


def _rows(store: Store, table: Table, run: str) -> list[dict[str, Any]]:
    with store.read() as session:
        found = session.connection.execute(select(table).where(table.c.run_id == run))
        rows = [
            {k: v for k, v in row._mapping.items() if k not in VOLATILE}
            | {"sentence": dict(row._mapping).get("payload", {}).get("sentence")}
            for row in found
        ]
    return sorted(rows, key=str)


def test_a_worker_killed_again_and_again_changes_nothing(store: Store, database_url: str) -> None:
    """Findings, incidents, alerts and snapshots equal those of a worker that was left alone."""
    for run in ("calm", "killed"):
        store_run(store, run, num_frames=480, grow_from=100, nan_from=430)
    drain(Detection(store, settings_with_webhook(), frames_a_commit=512))
    expected = {
        table.name: _rows(store, table, "calm")
        for table in (finding, incident, delivery, baseline_snapshot)
    }
    with store.write() as session:
        for name in ("finding", "incident", "delivery", "baseline_snapshot", "detector_state"):
            session.connection.exec_driver_sql(f"DELETE FROM {name} WHERE run_id = 'killed'")
        session.connection.exec_driver_sql("UPDATE run_lease SET expires_at = 0")
    kills = 0
    while kills < 40:
        with store.read() as session:
            waiting = backlogs(session)
            before = next_ord(session, "killed", 0)
        if not waiting:
            break
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.detect.worker", database_url, "7"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        # Kill it somewhere inside its work, once it has committed anything at all.
        while worker.poll() is None:
            with store.read() as session:
                if next_ord(session, "killed", 0) >= before + 119:
                    break
            time.sleep(0.001 * (1 + kills % 5))
        worker.kill()
        worker.wait(30)
        kills += 1
    assert kills >= 3
    for table in (finding, incident, delivery, baseline_snapshot):
        assert expected[table.name] == _rows(store, table, "killed"), table.name
    assert expected["incident"]
