"""The client keeps nothing of a training: what the loop lets go of dies, as without it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import foreshock
import pytest
import torch
from foreshock.testing import RecordingTransport
from foreshock.watching import Watch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from tests.client.conftest import Attach


class Network(nn.Module):
    """Two blocks, each with an activation that it can tell of; `how` runs a block."""

    def __init__(self, how: Callable[..., Any]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))
        self.out = nn.Linear(4, 1)
        self.how = how
        self.made: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 1] of x [N, 4]."""
        for block in self.blocks:
            x = self.how(block, x)
            self.made.append(x)
        output: torch.Tensor = self.out(x)
        return output


def _plainly(block: nn.Module, x: torch.Tensor) -> Any:
    return block(x)


def _recomputed(block: nn.Module, x: torch.Tensor) -> Any:
    return checkpoint(block, x, use_reentrant=False)


def _recomputed_reentrantly(block: nn.Module, x: torch.Tensor) -> Any:
    return checkpoint(block, x.requires_grad_(), use_reentrant=True)


WAYS = {
    "plain": _plainly,
    "checkpointed": _recomputed,
    "reentrantly checkpointed": _recomputed_reentrantly,
}


@pytest.fixture(autouse=True)
def few_to_collect() -> Iterator[None]:
    """Have each collection look at the objects of the test only, not at all of PyTorch's."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=WAYS)
def model(request: pytest.FixtureRequest) -> Network:
    """The network, once for each way to run a block."""
    return Network(WAYS[request.param])


def _sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


class _BrokenError(Exception):
    """What goes wrong in a loop."""


class Followed:
    """Tensors by name, none of them kept: which of them live, and whether their memory does. A
    detached alias would keep the second without the first."""

    def __init__(self) -> None:
        self._tensors: dict[str, weakref.ref[torch.Tensor]] = {}
        self._storages: dict[str, StorageWeakRef] = {}

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Follow one more."""
        self._tensors[name] = weakref.ref(tensor)
        self._storages[f"memory of {name}"] = StorageWeakRef(tensor.untyped_storage())

    @property
    def alive(self) -> list[str]:
        """What is still there once garbage is collected."""
        gc.collect()
        tensors = [name for name, ref in self._tensors.items() if ref() is not None]
        return tensors + [name for name, ref in self._storages.items() if not ref.expired()]


def _step(
    model: Network, optimizer: torch.optim.Optimizer, watch: Watch, *, fail_at: str = ""
) -> Followed:
    """One step, of which nothing is kept, up to where it fails."""
    followed = Followed()
    with suppress(_BrokenError):
        _run_step(model, optimizer, watch, followed, fail_at)
    model.made.clear()
    optimizer.zero_grad()
    return followed


def _run_step(
    model: Network,
    optimizer: torch.optim.Optimizer,
    watch: Watch,
    followed: Followed,
    fail_at: str,
) -> None:
    batch = torch.randn(3, 4)
    followed.add("batch", batch)
    output = model(batch)
    for index, tensor in enumerate(model.made):
        followed.add(f"activation {index}", tensor)
    observed = output * 2
    watch.observe("observed", observed)
    loss = observed.square().mean()
    for name, tensor in (("output", output), ("observed", observed), ("loss", loss)):
        followed.add(name, tensor)
    if fail_at == "backward":
        raise _BrokenError
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        followed.add(f"gradient of {name}", parameter.grad)
    if fail_at == "optimizer":
        raise _BrokenError
    optimizer.step()
    watch.step(loss=loss, aux=output.mean())


def test_what_a_step_made_is_gone_after_the_next(model: Network, attach: Attach) -> None:
    """Batch, activations, gradients, observed tensors and the loss that `step` was given."""
    optimizer = _sgd(model)
    watch, transport = attach(model, optimizer)
    for _ in range(3):
        followed = _step(model, optimizer, watch)
        _step(model, optimizer, watch)
        assert followed.alive == []
    watch.close()
    measured = transport.statistic("activation_grad", "blocks.0.1", "count")
    assert measured == dict.fromkeys(range(6), 12.0)


@pytest.mark.parametrize("fail_at", ["backward", "optimizer"])
def test_what_a_failed_step_made_is_gone_after_the_next(
    fail_at: str, model: Network, attach: Attach
) -> None:
    """A loop that catches an exception and goes on does not pay for it in memory."""
    optimizer = _sgd(model)
    watch, transport = attach(model, optimizer)
    _step(model, optimizer, watch)
    followed = _step(model, optimizer, watch, fail_at=fail_at)
    _step(model, optimizer, watch)
    assert followed.alive == []
    watch.close()
    assert transport.steps == [0, 1]


def test_a_forward_that_never_comes_to_a_step_is_not_kept(model: Network, attach: Attach) -> None:
    """A loop that only ever fails keeps none of its failures, however many there are."""
    optimizer = _sgd(model)
    watch, _ = attach(model, optimizer)
    for _ in range(3):
        followed = _step(model, optimizer, watch, fail_at="backward")
        assert followed.alive == []


def _all_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Followed:
    followed = Followed()
    for name, parameter in model.named_parameters():
        followed.add(name, parameter)
    for index, state in enumerate(optimizer.state.values()):
        followed.add(f"state {index}", state["exp_avg"])
    return followed


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_keeps_its_outputs_dies(way: str) -> None:
    """What autograd holds is hidden from the garbage collector: the way from an output by its
    hooks to the model must not be a reference, or the two keep each other for ever."""
    model, optimizer, watch, _ = _trained(way)
    followed, ref = _all_of(model, optimizer), weakref.ref(model)
    kept = Followed()
    _run_step(model, optimizer, watch, kept, "")
    assert model.made != []
    watch.close()
    del model, optimizer
    assert (followed.alive, kept.alive, ref()) == ([], [], None)


def _trained(way: str) -> tuple[Network, torch.optim.Adam, Watch, RecordingTransport]:
    """A model that has trained for two steps, with all that a caller can hold of it."""
    model, transport = Network(WAYS[way]), RecordingTransport()
    optimizer = torch.optim.Adam(model.parameters())
    watch = foreshock.watch(
        model, optimizer, transport=transport, activation_every=1, activation_grad_every=1
    )
    for _ in range(2):
        _step(model, optimizer, watch)
    return model, optimizer, watch, transport


@pytest.mark.parametrize("way", WAYS)
def test_a_model_dies_after_its_run_is_closed(way: str) -> None:
    """A handle that is kept after `close` keeps neither the model nor the optimizer's state."""
    model, optimizer, watch, transport = _trained(way)
    followed, ref = _all_of(model, optimizer), weakref.ref(model)
    watch.close()
    del model, optimizer
    assert (followed.alive, ref()) == ([], None)
    assert (watch.run_id, transport.steps) == (None, [0, 1])


@pytest.mark.parametrize("way", WAYS)
def test_a_model_dies_with_the_last_reference_to_it(way: str) -> None:
    """Without a `close` the threads of the run keep nothing alive, and what was measured comes."""
    model, optimizer, watch, transport = _trained(way)
    followed, ref = _all_of(model, optimizer), weakref.ref(model)
    del model, optimizer, watch
    assert (followed.alive, ref()) == ([], None)
    for thread in threading.enumerate():
        if thread.name.startswith("foreshock-"):
            thread.join()
    assert transport.steps == [0, 1]


@pytest.mark.parametrize("fail_at", ["backward", "optimizer"])
def test_a_model_dies_after_an_exception_ended_its_run(fail_at: str) -> None:
    """The run tells of the exception, and keeps neither its traceback nor what that refers to."""
    model, optimizer, watch, transport = _trained("plain")
    followed, ref, made = _all_of(model, optimizer), weakref.ref(model), Followed()
    with suppress(_BrokenError), watch:
        _run_step(model, optimizer, watch, made, fail_at)
    del model, optimizer
    assert (followed.alive, made.alive, ref()) == ([], [], None)
    kinds = [event.kind for event in transport.events]
    assert kinds == ["started", "exception", "finished"]
