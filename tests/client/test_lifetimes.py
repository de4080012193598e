"""What a watch keeps alive: no tensor past its step, no model that its user has let go of; and how
a run ends with its process."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreshock
import pytest
import torch
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.client.conftest import Attach
from tests.client.models import perceptron
from tests.client.service import little_service


class Checkpointed(nn.Module):
    """Two blocks, the first of which is computed again in the backward pass."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second = perceptron(), nn.Linear(2, 2)
        self._reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 2] of x [N, 5]."""
        hidden = checkpoint(self.first, x, use_reentrant=self._reentrant)
        output: torch.Tensor = self.second(hidden)
        return output


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": perceptron,
    "checkpointed": lambda: Checkpointed(reentrant=False),
    "checkpointed, reentrant": lambda: Checkpointed(reentrant=True),
}


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("raises", [False, True], ids=["", "a hook that raises"])
def test_no_tensor_outlives_its_step(
    name: str, raises: bool, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations, their gradients, parameters' gradients and the loss die when the loop lets go
    of them, without a garbage collection."""
    model = MODELS[name]()
    optimizer = _sgd(model)
    watch, _ = attach(model, optimizer)
    assert watch._parts is not None
    if raises:

        def broken(*args: object, **kwargs: object) -> None:
            raise RuntimeError("no measure today")

        monkeypatch.setattr(watch._parts.recorder._meter, "measure", broken)
    gc.collect()
    gc.disable()
    try:
        alive: list[weakref.ref[torch.Tensor]] = []

        def remember(gradient: torch.Tensor) -> None:
            alive.append(weakref.ref(gradient))

        for _ in range(3):
            inputs = torch.randn(4, 5, requires_grad=True)
            output = model(inputs)
            output.register_hook(remember)
            loss = output.square().mean()
            alive += [weakref.ref(output), weakref.ref(loss), weakref.ref(inputs)]
            loss.backward()
            alive += [weakref.ref(p.grad) for p in model.parameters() if p.grad is not None]
            optimizer.step()
            watch.log(also=loss)
            watch.step(loss=loss)
            optimizer.zero_grad(set_to_none=True)
            del output, loss, inputs
        left = [ref() for ref in alive if ref() is not None]
    finally:
        gc.enable()
    assert left == []


def test_a_model_that_is_let_go_of_is_freed_and_its_run_ends() -> None:
    """Without a close: once handle, model and optimizer are gone, the last frame arrives and the
    run is finished; nobody waits for that, and its threads end."""
    before = threading.active_count()
    model = perceptron()
    optimizer = _sgd(model)
    transport = RecordingTransport()
    watch = foreshock.watch(model, optimizer, transport=transport, batch_seconds=0.05)
    for _ in range(3):
        model(torch.ones(1, 5)).sum().backward()
        optimizer.step()
    freed: list[weakref.ref[Any]] = [weakref.ref(model), weakref.ref(next(model.parameters()))]
    del model, optimizer, watch
    gc.collect()
    assert [ref() for ref in freed] == [None, None]
    for thread in threading.enumerate():
        if thread.name.startswith("foreshock"):
            thread.join(20)
    assert threading.active_count() == before
    assert transport.steps == [0, 1, 2]
    assert transport.events[-1].data == {"status": "finished"}
    assert transport.batches[-1].counters.frames_measured == 3


def test_many_dropped_runs_leave_no_thread_behind() -> None:
    """A search over many models in one process, with the service away, does not pile up."""

    class Away(RecordingTransport):
        def post_frames(self, message: bytes) -> Answer:
            return Answer(status=0)

    before = threading.active_count()
    for _ in range(10):
        model = perceptron()
        foreshock.watch(model, transport=Away(), batch_seconds=0.05, close_timeout_seconds=0.2)
        del model
        gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("foreshock"):
            thread.join(20)
    assert threading.active_count() == before


def test_what_is_logged_after_the_last_step_joins_it(attach: Attach) -> None:
    """A validation after the loop has no step of its own; its result is not lost."""
    model = perceptron()
    watch, transport = attach(model, _sgd(model))
    watch.step(loss=1.0)
    watch.step(loss=2.0)
    watch.log(accuracy=0.5, loss=9.0)
    watch.close()
    assert transport.scalar("accuracy") == {1: 0.5}
    assert transport.scalar("loss") == {0: 1.0, 1: 2.0}


ENDING = """
import os, signal, sys, torch, foreshock
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = foreshock.watch(model, optimizer, url=sys.argv[1], run_id="ending",
                        batch_seconds=0.02, close_timeout_seconds=float(sys.argv[3]))
for _ in range(3):
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    watch.step(loss=1.0)
{"returns": lambda: None,
 "exits": lambda: sys.exit(0),
 "raises": lambda: 1 / 0,
 "is interrupted": lambda: signal.raise_signal(signal.SIGINT),
 "is terminated": lambda: (watch.flush(5), signal.raise_signal(signal.SIGTERM)),
 "just exits": lambda: (watch.flush(5), os._exit(7)),
}[sys.argv[2]]()
"""


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        ("returns", 0, "finished"),
        ("exits", 0, "finished"),
        ("raises", 1, "crashed"),
        ("is interrupted", -signal.SIGINT, "crashed"),
        ("is terminated", -signal.SIGTERM, None),
        ("just exits", 7, None),
    ],
)
def test_a_process_ends_as_it_would_and_its_frames_arrive(
    how: str, status: int, told: str | None, spool_dir: Path
) -> None:
    """The exit status is the loop's own; what was flushed, and what an orderly end can still say,
    is at the service."""
    env = {**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)}
    with little_service() as service:
        done = subprocess.run(
            [sys.executable, "-c", ENDING, service.url, how, "5"],
            env=env,
            capture_output=True,
            check=False,
        )
    ends = [e.data["status"] for e in service.store.events if e.kind == "finished"]
    assert done.returncode == status
    assert service.store.steps == [0, 1, 2]
    assert ends == ([] if told is None else [told])


QUIET_END = """
import os, sys, torch, foreshock
model = torch.nn.Linear(3, 2)
watch = foreshock.watch(model, url="http://127.0.0.1:9", batch_seconds=0.02,
                        retry_first_seconds=0.02, close_timeout_seconds=0.2)
if sys.argv[1] == "closed":
    sys.stdout.close(), sys.stderr.close()
else:
    os.close(1), os.close(2)
for _ in range(3):
    watch.step(loss="no number", odd=object())
    watch.observe("x", None)
    watch.flush(0.1)
watch.close()
os._exit(42)
"""


@pytest.mark.parametrize("how", ["closed", "pulled away"])
def test_a_log_that_nobody_takes_does_not_raise(how: str, spool_dir: Path) -> None:
    """With stdout and stderr closed, what there is to say is lost, and nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", QUIET_END, how],
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 42, done.stderr
