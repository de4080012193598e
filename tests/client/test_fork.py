"""Forked and spawned children: the run stays with its process, and a child may have its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from foreshock.__main__ import main

from tests.client.service import little_service

LOADING = """
import sys, torch, foreshock
from torch.utils.data import DataLoader, Dataset

class Encoded(Dataset):
    def __init__(self, model):
        self.model = model
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return self.model(torch.full((3,), float(index))).detach()

if __name__ == "__main__":
    encoder, head = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
    model = torch.nn.ModuleDict({"encoder": encoder, "head": head})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch = foreshock.watch(model, optimizer, url=sys.argv[1], run_id="loader", activation_every=1)
    data = DataLoader(Encoded(encoder), batch_size=2, num_workers=2,
                      multiprocessing_context=sys.argv[2])
    for epoch in range(2):
        for batch in data:
            optimizer.zero_grad()
            head(batch).sum().backward()
            optimizer.step()
            watch.step(loss=1.0)
    watch.close()
"""

FORKING = """
import gc, os, sys, torch, foreshock
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = foreshock.watch(model, optimizer, url=sys.argv[1], run_id="parent", batch_seconds=0.02)
def step():
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    watch.step(loss=1.0)
for turn in range(4):
    step()
    child = os.fork()
    if child == 0:
        step()
        watch.note("from the child")
        del watch
        gc.collect()
        {"exits": sys.exit, "just exits": lambda: os._exit(0)}[sys.argv[2]]()
    assert os.waitpid(child, 0)[1] == 0
watch.close()
"""

OWN_RUN = """
import multiprocessing, os, sys, torch, foreshock

def train(url, run_id):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    foreshock.watch(model, optimizer, url=url, run_id=run_id, batch_seconds=0.02)
    for _ in range(3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return model, optimizer

if __name__ == "__main__":
    kept = train(sys.argv[1], "parent")
    child = multiprocessing.get_context("fork").Process(target=train, args=(sys.argv[1], "child"))
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


def _run(script: str, *arguments: str, tmp_path: Path, spool_dir: Path) -> None:
    path = tmp_path / "script.py"  # a file, because a spawned child imports it
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_watched_model_in_a_data_loader(method: str, tmp_path: Path, spool_dir: Path) -> None:
    """Workers run the encoder's forward; none of it is in the run, and no frame is lost."""
    with little_service() as service:
        _run(LOADING, service.url, method, tmp_path=tmp_path, spool_dir=spool_dir)
    assert service.store.steps == list(range(8))
    assert {batch.origin.run for batch in service.store.batches} == {"loader"}
    names = {series.name for schema in service.store.schemas.values() for series in schema.series}
    assert not any(name == "encoder" for name in names)
    assert list(spool_dir.iterdir()) == []


@pytest.mark.parametrize("how", ["exits", "just exits"])
def test_a_forked_child_sends_closes_and_deletes_nothing(
    how: str, tmp_path: Path, spool_dir: Path
) -> None:
    """The parent's run has the parent's steps alone, and ends when the parent does."""
    with little_service() as service:
        _run(FORKING, service.url, how, tmp_path=tmp_path, spool_dir=spool_dir)
    assert service.store.steps == [0, 1, 2, 3]
    assert [e.kind for e in service.store.events] == ["started", "finished"]


def test_a_child_that_watches_has_a_run_of_its_own(tmp_path: Path, spool_dir: Path) -> None:
    """Both runs are whole and finished, although the child ends as multiprocessing does it."""
    with little_service() as service:
        _run(OWN_RUN, service.url, tmp_path=tmp_path, spool_dir=spool_dir)
    steps = {
        run: [int(s) for b in service.store.batches if b.origin.run == run for s in b.steps]
        for run in ("parent", "child")
    }
    ends = [b.origin.run for b in service.store.batches for e in b.events if e.kind == "finished"]
    assert steps == {"parent": [0, 1, 2], "child": [0, 1, 2]}
    assert sorted(ends) == ["child", "parent"]


OUTLIVED = """
import os, signal, sys, time, torch, foreshock
model = torch.nn.Linear(3, 2)
watch = foreshock.watch(model, url="http://127.0.0.1:9", run_id="outlived", batch_seconds=0.02)
child = os.fork()
if child == 0:
    time.sleep(600)
watch.step(loss=1.0)
watch.flush(1.0)
print(child, flush=True)
signal.pause()
"""


def test_a_child_that_outlives_a_killed_trainer_holds_nothing_back(spool_dir: Path) -> None:
    """A worker that lives on does not make the spool of its dead parent look like one in use."""
    env = {**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)}
    with subprocess.Popen(
        [sys.executable, "-c", OUTLIVED], env=env, stdout=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout is not None
        child = int(trainer.stdout.readline())
        trainer.kill()
        try:
            with little_service() as service:
                assert main(["flush", "--url", service.url, "--timeout", "20"]) == 0
            assert service.store.steps == [0]
        finally:
            os.kill(child, signal.SIGKILL)
