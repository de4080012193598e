"""Two processes that look at the same runs are killed again and again: each run is told once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery, incident
from sqlalchemy import select

from tests.factories import START_SECONDS
from tests.silent_client.runs import Place

ROOT = Path(__file__).resolve().parents[2]
RUNS = 40
KILLS = 5


def _start(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.silent_client.worker", url, str(START_SECONDS)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_that_are_killed_tell_each_silent_run_once(
    store: Store, database_url: str
) -> None:
    """Forty runs, forty incidents, each with an alert for its opening and one for its worsening."""
    place = Place(store)
    for number in range(RUNS):
        place.send(f"r{number}")
    workers = [_start(database_url), _start(database_url)]
    query = select(delivery.c.run_id, delivery.c.transition)
    kills = 0
    try:
        while True:
            with store.read() as session:
                told = session.connection.execute(query).all()
            if len(told) >= 2 * RUNS:
                break
            # Kill one somewhere inside its work, once there is more than at the last kill.
            if kills < KILLS and len(told) > kills * 2 * RUNS // KILLS:
                workers[kills % 2].kill()
                workers[kills % 2].wait(30)
                workers[kills % 2] = _start(database_url)
                kills += 1
            time.sleep(0.001 * (1 + kills % 5))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(30)
    with store.read() as session:
        found = session.connection.execute(select(incident.c.run_id, incident.c.number)).all()
        told = session.connection.execute(query).all()
    assert Counter(found) == Counter({(f"r{number}", 1): 1 for number in range(RUNS)})
    assert Counter(told) == Counter(
        {(f"r{n}", word): 1 for n in range(RUNS) for word in ("opened", "escalated")}
    )
    assert kills >= 3
