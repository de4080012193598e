"""Disks that are full, and folders that nobody can write to: the training never notices."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from foreshock.testing import RecordingTransport

from tests.client.conftest import Attach
from tests.client.models import perceptron, train
from tests.client.service import little_service

NUM_STEPS = 60

TRAINING = """
import ctypes, os, resource, sys, torch
spool, url, num_steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(spool, exist_ok=True)
# A tiny disk of its own where the kernel lets us mount one; else every file's size is bounded.
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_PRIVATE_ALL = 0x00020000, 0x40000 | 0x4000
mounted = libc.unshare(CLONE_NEWNS) == 0
mounted = mounted and libc.mount(b"none", b"/", None, MS_PRIVATE_ALL, None) == 0
mounted = mounted and libc.mount(b"tmpfs", spool.encode(), b"tmpfs", 0, b"size=64k") == 0
if not mounted:
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))
import foreshock
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
watch = foreshock.watch(model, optimizer, run_id="full", url=url, spool_dir=spool, batch_frames=1,
                        batch_seconds=0.01, retry_first_seconds=0.05, retry_max_seconds=0.1,
                        overhead_budget=0)
for _ in range(num_steps):
    loss = model(torch.ones(2, 8)).square().sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    watch.step(loss=loss)
    watch.flush(0.01)
print("full", mounted, flush=True)
sys.stdin.readline()
assert watch.flush(30)
watch.close()
"""


def test_a_disk_that_fills_up_loses_nothing_while_memory_has_room(tmp_path: Path) -> None:
    """Batches that a full disk refuses are kept in memory, and arrive once the service is there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [str(tmp_path / "tiny"), f"http://127.0.0.1:{port}", str(NUM_STEPS)]
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    ) as training:
        assert training.stdout is not None
        told = training.stdout.readline()
        with little_service(port=port) as service:
            _, errors = training.communicate("\n", timeout=60)
        assert told.startswith("full"), errors
    assert training.returncode == 0, errors
    assert "spool" in errors
    assert sorted(service.store.steps) == list(range(NUM_STEPS))
    assert any(event.kind == "client_error" for event in service.store.events)


@pytest.mark.parametrize("place", ["below a file", "a read-only system folder"])
def test_a_spool_that_cannot_be_made_does_not_stop_the_training(
    place: str, attach: Attach, tmp_path: Path
) -> None:
    """The watch goes on in memory, and the service is told why."""
    (tmp_path / "file").write_text("")
    folder = {"below a file": tmp_path / "file" / "spool", "a read-only system folder": "/proc/x"}
    model = perceptron()
    transport = RecordingTransport()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, _ = attach(model, optimizer, transport=transport, spool_dir=str(folder[place]))
    train(model, optimizer, watch, num_steps=5)
    assert watch.flush(20)
    assert transport.steps == [0, 1, 2, 3, 4]
    assert [e.data["part"] for e in transport.events if e.kind == "client_error"] == ["spool"]
