"""Children of a watched training: the run stays with its parent, and a child may have its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.service import little_service

WATCHED = """
import os, sys, torch, foreshock
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 12

    def __getitem__(self, index):
        with torch.no_grad():
            self.model(torch.ones(1, 3))
        return torch.full((3,), float(index))

def step(model, optimizer, watch, batch):
    optimizer.zero_grad()
    model(batch).sum().backward()
    optimizer.step()
    watch.step(loss=1.0)

def begin(**settings):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    how = {"url": sys.argv[1], "batch_seconds": 0.02, "retry_first_seconds": 0.02, **settings}
    return model, optimizer, foreshock.watch(model, optimizer, **how)
"""

TRAINS_ON = """
    parts = begin(run_id="parent")
    for index in range(6):
        step(*parts, torch.ones(2, 3))
        if index == 2:
            pid = os.fork()
            if pid == 0:
                for _ in range(4):
                    step(*parts, torch.ones(2, 3))
                parts[2].note("of the child")
                parts[2].close()
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
    parts[2].close()
"""

LOADS = """
    model, optimizer, watch = begin(run_id="parent")
    how = sys.argv[2]
    for batch in DataLoader(Data(model), batch_size=2, num_workers=2, multiprocessing_context=how):
        step(model, optimizer, watch, batch)
    watch.close()
"""

ITS_OWN = """
    parts = begin(run_id="parent")
    step(*parts, torch.ones(2, 3))
    pid = os.fork()
    if pid == 0:
        own = begin(run_id="child")
        for _ in range(4):
            step(*own, torch.ones(2, 3))
        own[2].close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    step(*parts, torch.ones(2, 3))
    parts[2].close()
"""


def _run(tmp_path: Path, body: str, *arguments: str) -> None:
    """Run a program in a process of its own, as a file: what is spawned imports it again."""
    program = tmp_path / "training.py"
    program.write_text(f'{WATCHED}\nif __name__ == "__main__":{body}')
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(program), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_child_that_trains_on_says_nothing(tmp_path: Path, spool_dir: Path) -> None:
    """The parent's six frames arrive and no other, though the child ends as a program does."""
    with little_service() as service:
        _run(tmp_path, TRAINS_ON, service.url)
    assert service.store.steps == list(range(6))
    assert [event.kind for event in service.store.events] == ["started", "finished"]
    assert list(spool_dir.iterdir()) == []


def test_a_child_deletes_nothing_of_the_spool(tmp_path: Path, spool_dir: Path) -> None:
    """While nobody takes the parent's batches they wait, and the end of a child removes none."""
    with little_service(*[503] * 10_000) as service:
        program = TRAINS_ON.replace('"parent"', '"parent", close_timeout_seconds=0.2')
        _run(tmp_path, program, service.url)
        assert service.store.batches == []
        frames = [int(path.stem.split("-")[1]) for path in spool_dir.rglob("*.batch")]
    assert sum(frames) == 6


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_loaders_that_reach_the_model_stay_out(how: str, tmp_path: Path, spool_dir: Path) -> None:
    """Workers may call the watched model: the frames are those of the training alone."""
    with little_service() as service:
        _run(tmp_path, LOADS, service.url, how)
    assert service.store.steps == list(range(6))
    assert {event.kind for event in service.store.events} == {"started", "finished"}
    assert list(spool_dir.iterdir()) == []


def test_a_child_that_watches_has_a_run_of_its_own(tmp_path: Path, spool_dir: Path) -> None:
    """Each run has its own frames, once, and both folders are gone afterwards."""
    with little_service() as service:
        _run(tmp_path, ITS_OWN, service.url)
    steps: dict[str, list[int]] = {}
    for batch in service.store.batches:
        steps.setdefault(batch.origin.run, []).extend(int(step) for step in batch.steps)
    assert steps == {"parent": [0, 1], "child": [0, 1, 2, 3]}
    assert list(spool_dir.iterdir()) == []
