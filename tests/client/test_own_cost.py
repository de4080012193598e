"""What the monitor costs is accounted for, travels, and is kept within the budget."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch
from foreshock.hooks.guard import Guard
from foreshock.testing import RecordingTransport
from foreshock.watching import Watch
from foreshock.wire import FrameFlag

from tests.client.conftest import Attach
from tests.client.models import loss_of, perceptron

OWN_SECONDS = 0.004
"""What a step takes of itself: long enough that the monitor's real cost is well within budget."""


class SlowReducer:
    """The real reducer, which takes long over activations for as long as `seconds` is above 0."""

    def __init__(self, reducer: Any) -> None:
        self._reducer, self.seconds = reducer, 0.02

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reducer, name)

    def measure(self, rows: Any, tensors: Any, *, units: Any = None, scale: Any = 1.0) -> None:
        """Burn time, then measure; only activations come with their units."""
        if units is not None:
            time.sleep(self.seconds)
        self._reducer.measure(rows, tensors, units=units, scale=scale)


def _flags(transport: RecordingTransport) -> dict[int, FrameFlag]:
    return {
        int(step): FrameFlag(int(flag))
        for batch in transport.batches
        for step, flag in zip(batch.steps, batch.flags, strict=True)
    }


@pytest.mark.timeout(120)
def test_a_slow_monitor_thins_itself_says_so_and_returns(attach: Attach) -> None:
    """Activations that cost too much are measured less often, in frames that are marked, until
    they cost little again; the training is bit for bit what it is without a monitor."""

    def train(attached: bool, num_steps: int | None) -> tuple[list[bytes], int]:
        torch.manual_seed(3)
        model = perceptron()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        watch: Watch | None = None
        if attached:
            watch, transport = attach(model, optimizer, overhead_budget=0.5)
            assert watch._parts is not None
            recorder = watch._parts.recorder
            slow: Any = SlowReducer(recorder._meter.reducer)
            recorder._meter.reducer = slow
            seen.append(transport)
        step = 0
        while step < (num_steps or 5000):
            time.sleep(OWN_SECONDS if attached else 0)
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            optimizer.step()
            step += 1
            if watch is not None:
                watch.step(loss=loss)
                if slow.seconds and recorder._budget.thinned:
                    slow.seconds = 0
                elif not slow.seconds and not recorder._budget.thinned:
                    break
        if watch is not None:
            watch.close()
        return [p.detach().numpy().tobytes() for p in model.parameters()], step

    seen: list[RecordingTransport] = []
    watched, num_steps = train(True, None)
    assert watched == train(False, num_steps)[0]
    events = [event for event in seen[0].events if event.kind == "cadence"]
    assert events[0].data["every"]["activation"] > 1
    assert "measuring activations" in events[0].data["message"]
    assert events[-1].data["every"]["activation"] == 1
    assert [event.data["thinned"] for event in events] == [True] * (len(events) - 1) + [False]
    first, last = events[0].step, events[-1].step
    assert first is not None
    assert last is not None
    flags = _flags(seen[0])
    thinned = [step for step, flag in flags.items() if flag & FrameFlag.THINNED]
    assert thinned == list(range(first + 1, last + 1))
    every = events[0].data["every"]["activation"]
    measured = [
        step for step in thinned[: 2 * every] if flags[step] & FrameFlag.MEASURED_ACTIVATION
    ]
    assert measured == [step for step in thinned[: 2 * every] if step % every == 0]
    assert seen[0].batches[-1].counters.frames_thinned == len(thinned)


def test_an_update_between_thinned_steps_is_that_of_one_step(attach: Attach) -> None:
    """Where updates are measured rarely, the weights to compare with are those before the step."""
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    watch, transport = attach(model, optimizer, overhead_budget=1e-9)
    for _ in range(100):
        optimizer.zero_grad()
        (0.5 * model(torch.ones(1, 1))).sum().backward()
        optimizer.step()
        watch.step()
    watch.close()
    told = [event for event in transport.events if event.kind == "cadence"]
    assert told[0].data["every"]["update"] > 1
    measured = {
        step: round(value, 3)
        for step, value in transport.statistic("update", "weight", "mean").items()
        if value == value
    }
    assert set(measured.values()) == {-0.5}
    assert 0 < len([step for step in measured if step > 64]) < 10


def test_the_time_of_two_threads_is_counted_for_each() -> None:
    """A backward pass on a device runs its hooks in a thread of autograd's: that the training's
    own thread is in a part, or another one is, must not hide them."""
    guard = Guard(lambda part, error: None)
    inside, leave = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        leave.wait()

    other = threading.Thread(target=guard.run, args=("long", wait))
    other.start()
    inside.wait()
    guard.run("short", time.sleep, 0.01)
    counted = guard.seconds
    leave.set()
    other.join()
    assert counted >= 0.01


def test_a_part_within_a_part_is_counted_once() -> None:
    """An activation hook that ends a step is one stretch of time."""
    guard = Guard(lambda part, error: None)
    started = time.perf_counter()
    guard.run("outer", guard.run, "inner", time.sleep, 0.05)
    assert 0.05 <= guard.seconds <= time.perf_counter() - started


def test_the_account_travels_with_the_batches(attach: Attach) -> None:
    """Time in the training's thread, CPU time of the others, and the bytes that arrived."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, batch_frames=1)
    for index in range(8):
        loss_of(model, index).backward()
        optimizer.step()
        watch.step()
    assert watch.flush(10)
    watch.note("after")
    watch.close()
    told = transport.batches[-1].counters
    assert 0 < told.overhead_seconds < told.training_seconds
    assert told.background_seconds > 0
    assert told.bytes_sent > 0
    assert told.frames_measured == 8
