"""The processes of a distributed run are one run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRAINING = """
import os, sys, torch, torch.distributed as dist, foreshock
from foreshock.testing import RecordingTransport
rank = int(os.environ["RANK"])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
transport = RecordingTransport()
with foreshock.watch(model, optimizer, run="ddp", transport=transport) as watch:
    for _ in range(2):
        model(torch.full((1, 3), rank + 1.0)).sum().backward()
        optimizer.step()
        watch.step()
origin = transport.batches[0].origin
names = sorted({s.name for schema in transport.schemas.values() for s in schema.series})
print(origin.run, origin.attempt, origin.world, transport.steps, names, sep="|")
dist.destroy_process_group()
"""


def test_ranks_agree_on_the_run_without_being_told(tmp_path: Path) -> None:
    """Two DDP processes send frames of one run and one attempt, with the inner model's names."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(tmp_path / "store")],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "FORESHOCK_SPOOL_DIR": str(tmp_path / "spool"),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    assert said[0] == said[1]
    assert said[0].split("|")[2:] == ["2", "[0, 1]", "['(model)', 'bias', 'weight']\n"]
