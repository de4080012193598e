"""Trainings killed with SIGKILL at random moments, against a service that is killed as well."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from foreshock.__main__ import main
from foreshock.wire import decode_batch
from foreshock_service.api.envelope import unpack

from tests.main_job.service import KillableService

NUM_KILLS = 25
LONGEST_SECONDS = 0.4

# One process imports torch and forks a fresh one for every training: no thread runs in it yet.
TRAININGS = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)
url = sys.argv[1]
moments = [float(moment) for moment in sys.argv[2:]]
for number, moment in enumerate(moments):
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        import foreshock
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        watch = foreshock.watch(model, optimizer, run_id=f"killed-{number}", url=url,
                                batch_seconds=0.02, batch_frames=4, retry_first_seconds=0.05,
                                retry_max_seconds=0.2)
        os.write(tell, b".")
        while True:
            loss = model(torch.ones(1, 3)).square().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step(loss=loss)
            time.sleep(0.002)
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(number, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[KillableService]:
    """A real service on a port that stays its own while it is down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "service"
    folder.mkdir()
    service = KillableService(folder, port=port, webhook_url="http://127.0.0.1:9")
    service.start()
    yield service
    service.kill()


def _spooled(folder: Path) -> dict[str, set[int]]:
    """The steps that lie in the spool, by run."""
    found: dict[str, set[int]] = {}
    for path in folder.rglob("*.batch"):
        batch = decode_batch(path.read_bytes())
        found.setdefault(batch.origin.run, set()).update(int(step) for step in batch.steps)
    return found


def _stored(client: httpx.Client, run: str) -> list[int]:
    answer = client.get(f"/api/v1/runs/{run}/scalars", params={"names": "loss", "columns": 4096})
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []
    _, arrays = unpack(answer.raise_for_status().content)
    steps: list[int] = arrays["steps"].tolist()
    return steps


@pytest.mark.timeout(300)
def test_what_was_spooled_or_stored_at_a_kill_is_there_once_in_the_end(
    service: KillableService, spool_dir: Path
) -> None:
    """After 25 kills of the trainer and 4 of the service, `foreshock flush` brings the rest: no
    step that was stored or spooled is missing, none is there twice, and there are no gaps."""
    seed = int(os.environ.get("FORESHOCK_TEST_SEED", "") or random.SystemRandom().getrandbits(32))
    moments = random.Random(seed)
    sys.stdout.write(f"FORESHOCK_TEST_SEED={seed}\n")
    waits = [str(moments.uniform(0.0, LONGEST_SECONDS)) for _ in range(NUM_KILLS)]
    owed: dict[str, set[int]] = {}
    with subprocess.Popen(
        [sys.executable, "-c", TRAININGS, service.url, *waits],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir), "OMP_NUM_THREADS": "1"},
        text=True,
    ) as trainings:
        assert trainings.stdout is not None
        assert trainings.stdin is not None
        for number in range(NUM_KILLS):
            assert trainings.stdout.readline() == f"{number}\n"
            for run, steps in _spooled(spool_dir).items():
                owed.setdefault(run, set()).update(steps)
            with httpx.Client(base_url=service.url, trust_env=False) as client:
                if number % 6 != 5:
                    run = f"killed-{number}"
                    owed.setdefault(run, set()).update(_stored(client, run))
            if number % 6 == 4:
                service.kill()
            elif number % 6 == 5:
                service.start()
            trainings.stdin.write("\n")
            trainings.stdin.flush()
    assert main(["flush", "--url", service.url, "--timeout", "60"]) == 0
    assert list(spool_dir.iterdir()) == []
    with httpx.Client(base_url=service.url, trust_env=False) as client:
        stored = {f"killed-{n}": _stored(client, f"killed-{n}") for n in range(NUM_KILLS)}
    assert sum(map(len, stored.values())) > 10 * NUM_KILLS
    for run, there in stored.items():
        assert there == list(range(len(there))), run
        assert owed.get(run, set()) <= set(there), run
