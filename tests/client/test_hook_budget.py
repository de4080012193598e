"""What a hook costs, counted in calls: the same number on every machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import foreshock
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.client.conftest import Attach

OURS = str(Path(foreshock.__file__).parent)
ROWS, WIDTH, DEPTH = 4, 5, 10


class Layer(nn.Module):
    """A leaf whose forward calls no Python function, so that every call counted is a hook's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, WIDTH] of x [N, WIDTH]."""
        return x @ self.weight


def _model() -> nn.Module:
    return nn.Sequential(*(Layer() for _ in range(DEPTH)))


def _calls_in(action: Callable[[], object]) -> Counter[str]:
    """Python functions that `action` calls, by name."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def _calls_a_hook(attach: Attach, **settings: Any) -> list[float]:
    """Calls that each hook adds to a forward on the steps 2 to 5, the first of a step apart."""
    model = _model()
    bare = _calls_in(lambda: model(torch.ones(ROWS, WIDTH))).total()
    watch, _ = attach(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1), **settings)
    calls = []
    for step in range(6):
        # The first training forward of a step tells the recorder, whatever is due.
        model(torch.ones(ROWS, WIDTH))
        second = _calls_in(lambda: model(torch.ones(ROWS, WIDTH)).sum())
        model(torch.ones(ROWS, WIDTH)).sum().backward()
        optimizer.step()
        watch.step()
        if step >= 2:
            calls.append((second.total() - bare) / DEPTH)
    return calls


def test_an_idle_hook_returns_after_three_calls(attach: Attach) -> None:
    """Where no activation is due: itself, and twice inside the question whether a compiler looks
    on. Three more are torch's own, which takes a longer way through modules that have hooks."""
    idle = _calls_a_hook(attach, activation_every=2, activation_grad_every=0)[1::2]
    assert idle == [3 + 3, 3 + 3]


def test_a_hook_that_is_due_stays_within_its_budget(attach: Attach) -> None:
    """Activations alone, and with the hook on the tensor that waits for its gradient."""
    assert max(_calls_a_hook(attach, activation_every=1, activation_grad_every=0)) <= 20
    assert max(_calls_a_hook(attach, activation_every=1, activation_grad_every=1)) <= 25


class _Dispatched(TorchDispatchMode):
    """Counts the operators that reach a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


def test_measuring_waits_for_no_device_and_copies_nothing(attach: Attach) -> None:
    """A step adds no read of a value and no copy of an activation; only the weights are kept."""
    counted = []
    for watched in (False, True):
        model = _model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch = attach(model, optimizer)[0] if watched else None
        for _ in range(2):
            dispatched = _Dispatched()
            with dispatched:
                optimizer.zero_grad()
                # A plain sum's gradient is one number, spread, which is no memory to read.
                model(torch.ones(ROWS, WIDTH)).square().sum().backward()
                optimizer.step()
                if watch is not None:
                    watch.step()
        counted.append(dispatched.names)
    added = counted[1] - counted[0]
    assert set(added) <= {"aten.detach"}


def test_a_step_ends_with_one_transfer(attach: Attach) -> None:
    """The statistics of all series leave the device together, once a step, due or not."""
    model = _model()
    watch, _ = attach(model, optimizer := torch.optim.SGD(model.parameters(), lr=0.1))

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(ROWS, WIDTH)).sum().backward()
        optimizer.step()
        watch.step()

    step()
    calls = _calls_in(step)
    assert calls["CpuReducer.finish"] == 1
    # One an activation and one a gradient of it; all gradients together; weights with updates.
    assert calls["CpuReducer.measure"] == DEPTH + DEPTH + 1
    assert calls["CpuReducer.measure_update"] == 1
