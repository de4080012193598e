"""Real trainings of several processes before a real service."""

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
import os, sys, torch, torch.distributed as dist, foreshock
from torch import nn
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=world)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))
if sys.argv[2] == "sharded":
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    mesh = init_device_mesh("cpu", (world,))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    watched = model
else:
    watched = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
torch.manual_seed(rank)
with foreshock.watch(
    watched, optimizer, run=sys.argv[2], overhead_budget=0, batch_seconds=0.2
) as watch:
    for step in range(48):
        loss = watched(torch.randn(8, 16)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if sys.argv[2] == "broken" and rank == 1 and step == 24:
            with torch.no_grad():
                model[2].weight[3, 5] += 1.0
        watch.step(loss=loss)
dist.destroy_process_group()
"""


def _train(client: httpx.Client, folder: Path, name: str, *, world: int) -> str:
    """Run it to its end; the run's id."""
    folder.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(folder / "store"), name],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(world),
                "FORESHOCK_URL": str(client.base_url),
                "FORESHOCK_SPOOL_DIR": str(folder / "spool"),
            },
        )
        for rank in range(world)
    ]
    try:
        assert [process.wait(540) for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()
            process.wait(30)
    runs = client.get("/api/v1/runs").raise_for_status().json()["runs"]
    return next(str(run["run_id"]) for run in runs if run["name"] == name)


def _incidents(client: httpx.Client, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/api/v1/runs/{run}/incidents").json()["incidents"]
    return [item for item in found if item["kind"] == "replica_divergence"]


def test_a_rank_whose_weights_were_changed_is_named(serve_app: ServeApp, tmp_path: Path) -> None:
    """One element of one layer of rank 1 of three, under DDP, changed once step 24 was measured;
    nothing of a sharded model (FSDP)."""
    client = serve_app()
    sharded = _train(client, tmp_path / "sharded", "sharded", world=2)
    broken = _train(client, tmp_path / "broken", "broken", world=3)
    deadline = time.monotonic() + 60
    while not _incidents(client, broken):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (found,) = _incidents(client, broken)
    host = os.uname().nodename
    assert found["sentence"].startswith(
        f"Rank 1 on {host} no longer holds the weights of the other ranks from step 25, first in 2 "
    )
    assert _incidents(client, sharded) == []
