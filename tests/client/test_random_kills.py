"""Trainers that are killed at any moment, and a service that is: what was acknowledged is stored
once, and what was spooled arrives once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from foreshock.__main__ import main
from foreshock.demo.server import free_port
from foreshock.wire import decode_batch
from foreshock_service.api.envelope import unpack

from tests.main_job.service import KillableService

NUM_KILLS = 25
NUM_AT_ONCE = 5
KILL_THE_SERVICE_DURING = (1, 3)
"""The groups of trainers during which the service is killed; it comes back after them."""

TRAINERS = """
import os, signal, sys, time, torch, foreshock
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
torch.optim.SGD(torch.nn.Linear(3, 2).parameters(), lr=0.1)
foreshock.watch(torch.nn.Linear(3, 2), enabled=False)
def train(run_id):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = foreshock.watch(model, optimizer, url=sys.argv[1], run_id=run_id, batch_frames=4,
                            batch_seconds=0.02, retry_first_seconds=0.02, retry_max_seconds=0.2,
                            overhead_budget=0)
    for step in range(1 << 30):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        watch.step(loss=float(step))
        time.sleep(0.01)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        train(line.strip())
    print(child, flush=True)
"""
"""Processes that train until they are killed, forked from one that has imported everything: one a
line of input, answered with its process id."""


def _start(trainers: subprocess.Popen[str], run_id: str) -> int:
    assert trainers.stdin is not None
    assert trainers.stdout is not None
    print(run_id, file=trainers.stdin, flush=True)
    return int(trainers.stdout.readline())


def _kill(process_id: int) -> None:
    os.kill(process_id, signal.SIGKILL)
    while True:
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return
        time.sleep(0.001)


def _spooled(spool_dir: Path, run_id: str) -> set[int]:
    """The steps of a dead run that lie in the spool; another trainer may be sending them."""
    steps: set[int] = set()
    for path in spool_dir.glob(f"{run_id}.*/*.batch"):
        try:
            steps.update(int(step) for step in decode_batch(path.read_bytes()).steps)
        except FileNotFoundError:
            continue
    return steps


def _stored(client: httpx.Client, run_id: str) -> tuple[list[int], list[float]]:
    if client.get(f"/api/v1/runs/{run_id}").status_code == httpx.codes.NOT_FOUND:
        return [], []  # killed before anything was spooled
    query: dict[str, str | int] = {"names": "loss", "columns": 4096}
    scalars = client.get(f"/api/v1/runs/{run_id}/scalars", params=query)
    _, arrays = unpack(scalars.raise_for_status().content)
    return arrays["steps"].tolist(), arrays["mean"][0].tolist()


def test_twenty_five_kills_lose_nothing_that_was_spooled(tmp_path: Path, spool_dir: Path) -> None:
    """After `foreshock flush` each run has its first steps without a gap or a repetition: those
    that were acknowledged, and every one that lay in the spool when its trainer died."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  # pytest shows it when the test fails
    moments = random.Random(seed)
    service = KillableService(tmp_path, port=free_port(), webhook_url="http://127.0.0.1:9/hook")
    spooled: dict[str, set[int]] = {}
    trainers = subprocess.Popen(
        [sys.executable, "-c", TRAINERS, service.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)},
        text=True,
    )
    with trainers:
        try:
            service.start()
            for group in range(NUM_KILLS // NUM_AT_ONCE):
                names = [f"run-{group}-{i}" for i in range(NUM_AT_ONCE)]
                running = {name: _start(trainers, name) for name in names}
                if group in KILL_THE_SERVICE_DURING:
                    time.sleep(moments.uniform(0.0, 0.3))
                    service.kill()
                for run_id, process_id in running.items():
                    time.sleep(moments.uniform(0.0, 0.3))
                    _kill(process_id)
                    spooled[run_id] = _spooled(spool_dir, run_id)
                if group in KILL_THE_SERVICE_DURING:
                    service.start()
            assert main(["flush", "--url", service.url, "--timeout", "120"]) == 0
            assert not list(spool_dir.rglob("*.batch"))
            assert sum(map(len, spooled.values())) > 0, "no kill found anything in the spool"
            num_stored = 0
            with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
                for run_id, steps in spooled.items():
                    stored, losses = _stored(client, run_id)
                    num_stored += len(stored)
                    assert stored == list(range(len(stored))), run_id
                    assert losses == [float(step) for step in stored], run_id
                    assert steps <= set(stored), run_id
            assert num_stored > 100
        finally:
            service.kill()
            trainers.kill()
