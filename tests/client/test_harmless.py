"""Whatever goes wrong in the monitor, training goes on and the service is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import foreshock
import pytest
import torch
from foreshock.errors import SettingError
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer
from foreshock.watching import Watch
from torch import nn

from tests.client.conftest import Attach
from tests.client.models import loss_of, perceptron, train


def _errors(transport: RecordingTransport) -> list[str]:
    return [e.data["part"] for e in transport.events if e.kind == "client_error"]


@pytest.mark.parametrize("value", ["text", None, object(), torch.ones(3), [1.0], 1j, 10**400])
def test_a_scalar_that_is_none_is_reported_once(value: Any, attach: Attach) -> None:
    """An unusable scalar is left out, told once, and takes no other scalar with it."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    for _ in range(3):
        watch.step(loss=1.0, odd=value, even=2.0)
    watch.close()
    assert _errors(transport) == ["scalar odd"]
    assert transport.scalar("even") == {0: 2.0, 1: 2.0, 2: 2.0}
    assert transport.batches[-1].counters.errors == 1


@pytest.mark.parametrize("value", ["text", None, torch.ones(2, dtype=torch.int64)], ids=str)
def test_observing_what_is_no_float_tensor_is_reported(value: Any, attach: Attach) -> None:
    """observe() of anything else is an event, never an exception."""
    watch, transport = attach(perceptron())
    watch.observe("x", value)
    watch.close()
    assert _errors(transport) == ["observe x"]


def test_observing_under_a_modules_name_is_reported(attach: Attach) -> None:
    """Two different tensors in one row would be a wrong number, so the second is refused."""
    model = perceptron()
    watch, transport = attach(model)
    model(torch.ones(1, 5))
    watch.observe("0", torch.ones(2, 2))
    watch.step()
    watch.close()
    assert _errors(transport) == ["observe 0"]
    assert transport.statistic("activation", "0", "count") == {0: 7.0}


def test_strange_outputs_are_measured_where_they_hold_floats(attach: Attach) -> None:
    """None, text, nested containers, integers and empty tensors in an output harm nothing."""

    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self) -> Any:
            kept = self.weight * 2
            return {"kept": kept, "text": "x", "none": None, "ids": torch.arange(3)}, (
                torch.zeros(0),
                [kept * 3],
            )

    model = Strange()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    model()[0]["kept"].sum().backward()
    optimizer.step()
    watch.close()
    assert _errors(transport) == []
    assert transport.statistic("activation", "(model)[0][kept]", "mean") == {0: 2.0}
    assert transport.statistic("activation", "(model)[1][1][0]", "mean") == {0: 6.0}


def test_a_part_that_fails_is_switched_off_alone(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When measuring updates breaks, gradients and the losses still arrive."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    assert watch._parts is not None
    reducer = type(watch._parts.recorder._meter.reducer)

    def broken(*args: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(reducer, "measure_update", broken)
    train(model, optimizer, watch, num_steps=3)
    watch.close()
    assert _errors(transport) == ["weight"]
    assert len(transport.scalar("grad_norm")) == 3


def test_more_series_than_allowed_are_left_out(attach: Attach) -> None:
    """max_series bounds the table; the run goes on with the series that fit."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, max_series=5)
    train(model, optimizer, watch, num_steps=2)
    watch.close()
    assert [len(s.series) for s in transport.schemas.values()] == [5]
    assert _errors(transport) == ["series"]


def test_closing_twice_and_using_it_afterwards_is_harmless(attach: Attach) -> None:
    """A closed watch ignores every call."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    watch.close()
    num_posts = transport.num_posts
    _use_everything(watch)
    watch.close()
    assert (transport.num_posts, watch.url) == (num_posts, None)


def test_a_disabled_watch_does_nothing(spool_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FORESHOCK_ENABLED=0 leaves no hook, no thread and no file."""
    monkeypatch.setenv("FORESHOCK_ENABLED", "0")
    model = perceptron()
    with foreshock.watch(model, torch.optim.SGD(model.parameters(), lr=0.1)) as watch:
        _use_everything(watch)
    assert not spool_dir.exists()
    assert not any(module._forward_hooks for module in model.modules())


def _use_everything(watch: Watch) -> None:
    watch.step(loss=1.0)
    watch.log(a=1)
    watch.observe("x", torch.ones(2))
    watch.note("text")
    watch.checkpoint("path")
    watch.grads_ready()
    assert watch.flush(0.1)


def test_a_refusal_of_everything_ends_in_time(attach: Attach) -> None:
    """close() returns although the service never takes a batch."""
    transport = RecordingTransport(answers=[Answer(status=503)] * 10_000)
    watch, _ = attach(perceptron(), transport=transport, close_timeout_seconds=0.2)
    watch.step(loss=1.0)
    watch.close()
    assert transport.batches == []


FORKING = """
import os, torch, foreshock
from foreshock.testing import RecordingTransport
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
transport = RecordingTransport()
watch = foreshock.watch(model, optimizer, transport=transport)
def step():
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    watch.step(loss=1.0)
step()
pid = os.fork()
if pid == 0:
    step()
    watch.close()
    os._exit(0 if not transport.batches else 3)
assert os.waitpid(pid, 0)[1] == 0
step()
watch.close()
assert transport.steps == [0, 1], transport.steps
print("fine")
"""


def test_a_forked_child_stays_out_of_it(spool_dir: Path) -> None:
    """A data loader's fork neither sends nor ends its parent's run."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr


def test_importing_foreshock_loads_the_standard_library_only() -> None:
    """`import foreshock` costs a trainer neither numpy nor torch."""
    code = "import sys, foreshock; print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("wrong", [None, "model", torch.ones(3)], ids=str)
def test_what_is_no_model_is_refused_at_once(wrong: Any) -> None:
    """A mistake in the call is an error there, before training begins."""
    with pytest.raises(SettingError, match=r"torch\.nn\.Module"):
        foreshock.watch(wrong)


def test_a_compiled_model_keeps_its_graph_whole(attach: Attach) -> None:
    """Watching adds no graph break; gradients, weights and updates of a compiled model arrive."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for index in range(3):
        loss_of(model, index)
        compiled(torch.randn(4, 5)).square().mean().backward()
        optimizer.step()
        watch.step()
    watch.close()
    assert _errors(transport) == []
    assert len(transport.statistic("update", "0.weight", "std")) == 3
