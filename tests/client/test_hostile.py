"""What loops do with a watched model besides training it, and arguments that nobody foresaw."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from foreshock.sender.orphans import open_orphan
from foreshock.spool import Spool
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer
from foreshock.wire import FrameFlag
from torch import nn

from tests.client.conftest import Attach
from tests.client.models import loss_of, perceptron, train
from tests.client.service import little_service


class Unspeakable:
    """Something that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class UnspeakableError(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_a_closure_has_its_own_gradients_measured(attach: Attach) -> None:
    """The gradient of a step that gets a closure is that of this step, not of the one before."""
    model = perceptron()
    optimizer = _sgd(model)
    watch, transport = attach(model, optimizer)
    norms = {}
    for index in range(3):

        def closure(index: int = index) -> float:
            optimizer.zero_grad()
            loss = loss_of(model, index) * 10**index
            loss.backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            norms[index] = nn.utils.get_total_norm(grads).item()
            return float(loss.item())

        optimizer.step(closure)
        watch.step()
    watch.close()
    assert transport.scalar("grad_norm") == pytest.approx(norms, rel=1e-5)
    assert len(transport.statistic("update", "0.weight", "std")) == 3


@pytest.mark.parametrize("by_name", [False, True])
def test_a_line_search_is_measured_where_it_starts(by_name: bool, attach: Attach) -> None:
    """LBFGS calls its closure many times a step: one frame, its first gradient, its result."""
    model = perceptron()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    watch, transport = attach(model, optimizer)
    first: dict[int, float] = {}
    num_calls = 0
    inputs = torch.randn(4, 5)
    for index in range(2):

        def closure(index: int = index) -> float:
            nonlocal num_calls
            num_calls += 1
            optimizer.zero_grad()
            loss = torch.as_tensor(model(inputs)).square().mean()
            loss.backward()
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            first.setdefault(index, nn.utils.get_total_norm(grads).item())
            return float(loss.item())

        assert isinstance(
            optimizer.step(closure=closure) if by_name else optimizer.step(closure), float
        )
    watch.close()
    assert num_calls > 2
    assert transport.scalar("grad_norm") == pytest.approx(first, rel=1e-5)


def test_gradients_after_a_skipped_step_are_measured(attach: Attach) -> None:
    """`grads_ready` before a step that the loss scaler skips does not hide the next gradients."""
    model = perceptron()
    optimizer = _sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watch, transport = attach(model, optimizer)
    for index in range(3):
        optimizer.zero_grad()
        loss = loss_of(model, index) * (float("inf") if index == 1 else 1.0)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        watch.grads_ready()
        scaler.step(optimizer)
        scaler.update()
        watch.step()
    watch.close()
    flags = [FrameFlag(int(f)) for batch in transport.batches for f in batch.flags]
    assert [FrameFlag.MEASURED_GRADIENT in f for f in flags] == [True, True, True]
    assert [FrameFlag.SKIPPED in f for f in flags] == [False, True, False]


def test_a_skip_in_a_loop_that_never_calls_step_joins_the_next_frame(attach: Attach) -> None:
    """Nobody tells of the skip: the frame has both forwards, and the gradient that was taken."""
    model = perceptron()
    optimizer = _sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watch, transport = attach(model, optimizer)
    for index in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, index) * (float("inf") if index == 1 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
    watch.close()
    assert transport.statistic("activation", "0", "count") == {0: 28.0, 1: 56.0}
    assert transport.statistic("gradient", "0.weight", "inf_count") == {0: 0.0, 1: 0.0}


def test_forwards_that_do_not_train_are_not_measured(attach: Attach) -> None:
    """Evaluation, inference mode and deep copies leave the step's activations alone."""
    model = perceptron()
    optimizer = _sgd(model)
    watch, transport = attach(model, optimizer)
    average = copy.deepcopy(model)
    for index in range(2):
        optimizer.zero_grad()
        loss_of(model, index).backward()
        optimizer.step()
        model.eval()
        loss_of(model, index)
        model.train()
        with torch.inference_mode():
            loss_of(model, index)
        loss_of(average, index)
        watch.step()
    watch.close()
    assert transport.statistic("activation", "0", "count") == {0: 28.0, 1: 28.0}


def test_a_watched_model_can_be_saved_whole(attach: Attach, tmp_path: Path) -> None:
    """torch.save of the model works, and a process without Foreshock can load and run it."""
    model = perceptron()
    attach(model, _sgd(model))
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; sys.modules['foreshock'] = None\n"
        "model = torch.load(sys.argv[1], weights_only=False)\n"
        "print(tuple(model(torch.ones(1, 5)).shape))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(1, 2)\n", done.stderr


def test_a_copied_handle_watches_nothing(attach: Attach) -> None:
    """A trainer that holds the handle can be copied and pickled; the copy has no run."""
    watch, _ = attach(perceptron())
    assert copy.deepcopy(watch).run_id is None
    assert pickle.load(io.BytesIO(pickle.dumps(watch))).run_id is None
    assert watch.run_id is not None


def test_a_returned_parameter_does_not_gather_hooks(attach: Attach) -> None:
    """A module that returns its own parameter is measured each step, with one hook at a time."""

    class Prompt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Parameter(torch.ones(2, 3))

        def forward(self) -> torch.Tensor:
            return self.tokens

    model = Prompt()
    optimizer = _sgd(model)
    watch, transport = attach(model, optimizer)
    for _ in range(5):
        optimizer.zero_grad()
        model().sum().backward()
        optimizer.step()
        watch.step()
        assert len(model.tokens._backward_hooks or {}) <= 1
    watch.close()
    assert not model.tokens._backward_hooks
    assert transport.statistic("activation_grad", "(model)", "mean") == dict.fromkeys(range(5), 1.0)


@pytest.mark.parametrize(
    "arguments",
    [{"step": "x"}, {"step": 1 << 70}, {"step": float("nan")}, {"batch_id": Unspeakable()}],
    ids=["text", "too large", "nan", "no text"],
)
def test_an_unusable_argument_of_step_costs_no_frame(
    arguments: dict[str, Any], attach: Attach
) -> None:
    """The step keeps its own number, and the run goes on."""
    model = perceptron()
    watch, transport = attach(model, _sgd(model))
    for _ in range(3):
        watch.step(loss=1.0, **arguments)
    watch.close()
    assert transport.steps == [0, 1, 2]


def test_a_scalar_without_a_value_costs_no_frame(attach: Attach) -> None:
    """A tensor on the meta device is refused when it is given, not when the frame is made."""
    model = perceptron()
    watch, transport = attach(model, _sgd(model))
    for _ in range(3):
        watch.step(loss=torch.ones((), device="meta"), fine=1.0)
    watch.close()
    assert transport.scalar("fine") == {0: 1.0, 1: 1.0, 2: 1.0}


def test_remarks_that_cannot_be_read_do_not_raise(attach: Attach) -> None:
    """Remarks and an exception without a text harm neither training nor its end."""
    watch, transport = attach(perceptron())
    unspeakable: Any = Unspeakable()
    watch.note(unspeakable)
    watch.announce(unspeakable)
    watch.checkpoint(unspeakable)
    with pytest.raises(UnspeakableError), watch:
        raise UnspeakableError
    failed = [e.data["part"] for e in transport.events if e.kind == "client_error"]
    assert failed == ["note", "change", "checkpoint"]
    exceptions = [e.data["message"] for e in transport.events if e.kind == "exception"]
    assert exceptions == ["(UnspeakableError that has no text)"]
    assert transport.events[-1].data == {"status": "crashed"}


def test_new_names_for_bad_values_are_told_up_to_a_bound(attach: Attach) -> None:
    """A loop that makes up a name a step fills neither memory nor the log."""
    model = perceptron()
    watch, transport = attach(model, _sgd(model))
    for index in range(600):
        watch.log(**{f"bad{index}": "text"})
    watch.step(loss=1.0)
    watch.close()
    assert sum(e.kind == "client_error" for e in transport.events) == 256
    assert transport.batches[-1].counters.errors == 600


UNHELD = """
import sys, torch, foreshock, gc
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
foreshock.watch(model, optimizer, url=sys.argv[1], run_id="unheld", batch_seconds=60)
gc.collect()
for _ in range(3):
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
"""


def test_a_loop_that_keeps_no_handle_loses_nothing(spool_dir: Path) -> None:
    """The run of a handle that nobody holds is closed when the process ends."""
    from_env = {**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)}
    with little_service() as service:
        subprocess.run([sys.executable, "-c", UNHELD, service.url], env=from_env, check=True)
    assert service.store.steps == [0, 1, 2]
    assert [e.kind for e in service.store.events] == ["started", "finished"]


def test_observing_under_ever_new_names_stays_bounded(attach: Attach) -> None:
    """Names beyond max_series are not remembered: a step number in a name fills no memory."""
    model = perceptron()
    watch, transport = attach(model, _sgd(model), max_series=6)
    assert watch._parts is not None
    for index in range(50):
        watch.observe(f"attention{index}", torch.ones(2))
        watch.step()
    series = watch._parts.recorder._meter.series
    assert len(series._forward_order) == 6
    watch.close()
    assert len(transport.schemas) == 6


def test_observing_in_a_compiled_forward_breaks_no_graph(attach: Attach) -> None:
    """With fullgraph the compiler raises on what it cannot trace: observe() must be nothing."""
    linear = nn.Linear(5, 2)
    watch, _ = attach(linear)

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        output = torch.as_tensor(linear(inputs))
        watch.observe("output", output)
        return output

    compiled = torch.compile(forward, backend="eager", fullgraph=True)
    assert compiled(torch.ones(1, 5)).shape == (1, 2)


def test_a_watch_that_closed_while_posting_frees_its_spool(attach: Attach, spool_dir: Path) -> None:
    """close() does not wait for a hanging post; once that ends the folder is free to be sent."""
    posting, go_on = threading.Event(), threading.Event()

    class Slow(RecordingTransport):
        def post_frames(self, message: bytes) -> Answer:
            posting.set()
            go_on.wait(20)
            return Answer(status=503)

    watch, _ = attach(perceptron(), transport=Slow(), close_timeout_seconds=0.2, run_id="slow")
    watch.step(loss=1.0)
    assert posting.wait(20)
    assert watch._parts is not None
    sender = watch._parts.outbox._sender
    watch.close()
    assert open_orphan(spool_dir, max_bytes=1 << 20) is None
    go_on.set()
    sender.join(20)
    orphan = open_orphan(spool_dir, max_bytes=1 << 20)
    assert orphan is not None
    orphan.close()


def test_two_watches_of_a_model_are_two_runs(attach: Attach) -> None:
    """Each has every frame, and closing one leaves the other's hooks in place."""
    model = perceptron()
    optimizer = _sgd(model)
    first, one = attach(model, optimizer, run_id="first")
    second, two = attach(model, optimizer, run_id="second")
    train(model, optimizer, None, num_steps=2)
    first.close()
    train(model, optimizer, None, num_steps=1)
    second.close()
    assert (one.steps, two.steps) == ([0, 1], [0, 1, 2])
    assert not any(module._forward_hooks for module in model.modules())


def test_what_a_dead_run_left_does_not_hold_up_a_living_one(
    attach: Attach, spool_dir: Path
) -> None:
    """A left-over batch that the service fails on is put off as soon as there is one of ours."""
    orphan = Spool(spool_dir / "dead.1.0", max_bytes=1 << 20)
    orphan.put(0, 1, b"poison")
    orphan.abandon()

    class Choosy(RecordingTransport):
        def post_frames(self, message: bytes) -> Answer:
            return Answer(status=500) if message == b"poison" else super().post_frames(message)

    model = perceptron()
    watch, transport = attach(model, _sgd(model), transport=Choosy(), retry_first_seconds=0.01)
    assert watch.flush(10)
    for _ in range(3):
        watch.step(loss=1.0)
        assert watch.flush(10)
    assert transport.steps == [0, 1, 2]
