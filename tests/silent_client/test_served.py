"""A real training is killed before a real service."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.fixtures.server import ServeApp

TRAINING = """
import time, torch, foreshock
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
watch = foreshock.watch(model, optimizer, run="killed", batch_seconds=0.1)
for step in range(10_000):
    inputs = torch.randn(8, 3)
    loss = (model(inputs) - inputs[:, :2]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    watch.step(loss=loss)
    if step == 20:
        print("stepping", flush=True)
    time.sleep(0.01)
"""


def _train(client: httpx.Client, spool: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        env={
            **os.environ,
            "FORESHOCK_URL": str(client.base_url),
            "FORESHOCK_RUN_ID": "killed",
            "FORESHOCK_SPOOL_DIR": str(spool),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stepping\n"
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)


def _wait(client: httpx.Client, state: str) -> dict[str, Any]:
    """The run's silence, once it is in that state."""
    deadline = time.monotonic() + 120
    while True:
        answer = client.get("/api/v1/runs/killed/incidents").raise_for_status().json()
        listed: list[dict[str, Any]] = answer["incidents"]
        for incident in listed:
            if incident["kind"] == "silent_client" and incident["state"] == state:
                return incident
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)


def test_a_killed_training_is_told_and_its_next_start_ends_that(
    serve_app: ServeApp, tmp_path: Path
) -> None:
    """Nothing says how the first attempt ended, and the second says that there is one."""
    client = serve_app(silent_seconds=2.0)
    first = _train(client, tmp_path / "first")
    time.sleep(1)
    _kill(first)
    silent = _wait(client, "open")
    assert silent["sentence"].startswith("The run has sent nothing since step ")
    second = _train(client, tmp_path / "second")
    back = _wait(client, "recovered")
    _kill(second)
    assert back["sentence"].startswith("The run started again after ")
