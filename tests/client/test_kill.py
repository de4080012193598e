"""A run that is killed leaves its frames in the spool, and `foreshock flush` delivers them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from foreshock.__main__ import main

from tests.client.service import little_service

TRAINING = """
import sys, torch, foreshock
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = foreshock.watch(model, optimizer, run_id="killed", url="http://127.0.0.1:9",
                        batch_seconds=0.02)
for step in range(7):
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    watch.step(loss=1.0)
watch.flush(0.5)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(spool_dir: Path) -> Path:
    """The spool of a training that SIGKILL has ended."""
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)},
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGKILL)
    return spool_dir


def test_flush_delivers_what_a_killed_run_left(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every frame that was batched before SIGKILL arrives, and the folder is gone."""
    with little_service() as service:
        status = main(["flush", "--url", service.url, "--timeout", "20"])
    assert (status, service.store.steps) == (0, [0, 1, 2, 3, 4, 5, 6])
    assert "sent" in capsys.readouterr().out
    assert list(killed.iterdir()) == []


def test_flush_without_a_service_keeps_everything(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed flush says so with its exit status and deletes nothing."""
    before = sorted(killed.rglob("*.batch"))
    status = main(["flush", "--url", "http://127.0.0.1:9", "--timeout", "0.2"])
    assert (status, sorted(killed.rglob("*.batch"))) == (1, before)
    assert "stays in the spool" in capsys.readouterr().err


def test_flush_refuses_a_wrong_address(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting that cannot be used ends with status 2 and its name."""
    assert main(["flush", "--url", "localhost:8712"]) == 2
    assert "url 'localhost:8712'" in capsys.readouterr().err
