"""Watching changes no bit of a training, whatever happens to the model, the loop and the watch."""

from __future__ import annotations

import copy
import io
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # in C, untyped
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from tests.client.identity import Case, Loop, assert_comparison_tells, assert_unchanged
from tests.client.models import TiedTransformer, convolutional, loss_of, perceptron


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW with a learning rate at which something happens."""
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def train_one(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """A step of its own batch; the loss."""
    optimizer.zero_grad()
    loss = loss_of(model, 0)
    loss.backward()
    optimizer.step()
    return loss


def evaluated(loop: Loop) -> None:
    """An evaluation between steps, with and without gradients, and batch norm's averages."""
    model = convolutional()
    optimizer = adamw(model)
    loop.watch(model, optimizer)
    for _ in range(4):
        loop.step(train_one(model, optimizer))
        model.eval()
        with torch.no_grad():
            loop.keep(loss_of(model, 0))
        with torch.inference_mode():
            loop.keep(loss_of(model, 0))
        loop.keep(loss_of(model, 0))
        model.train()


def evaluated_transformer(loop: Loop) -> None:
    """An evaluation by PyTorch's fused path, which a module with hooks does not take."""
    model = TiedTransformer()
    optimizer = adamw(model)
    loop.watch(model, optimizer)
    for _ in range(4):
        loop.step(train_one(model, optimizer))
        model.eval()
        with torch.no_grad():
            assert loss_of(model, 0).isfinite()  # not kept: it may differ by rounding
        model.train()


class Fragile(nn.Module):
    """A model that fails between two layers when it is told to, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 2)
        self.fails: str | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 2] of x [N, 5]."""
        hidden = self.first(x)
        if self.fails == "forward":
            raise RuntimeError("forward")
        if self.fails == "backward":
            hidden.register_hook(self._fail)
        return torch.as_tensor(self.second(hidden))

    def _fail(self, gradient: torch.Tensor) -> None:
        raise RuntimeError("backward")


def failing(loop: Loop) -> None:
    """Forwards, backwards and closures that raise, which the loop catches before it goes on."""
    model = Fragile()
    optimizer = adamw(model)
    loop.watch(model, optimizer)

    def refuse() -> float:
        raise RuntimeError("closure")

    for fails in (None, "forward", "backward", "closure", None):
        model.fails = fails
        with pytest.raises(RuntimeError) if fails else _nothing():
            if fails == "closure":
                optimizer.step(refuse)
            loop.step(train_one(model, optimizer))


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def watched_twice(loop: Loop) -> None:
    """Two watches of one model, of which the first is closed in the midst."""
    model = convolutional()
    optimizer = adamw(model)
    first = loop.watch(model, optimizer, run_id="first")
    loop.watch(model, optimizer, run_id="second")
    for index in range(5):
        if index == 3:
            loop.close(first)
        loop.step(train_one(model, optimizer))


def attached_again(loop: Loop) -> None:
    """Steps under a watch, steps without one, and steps under another."""
    model = TiedTransformer()
    optimizer = adamw(model)
    watch = loop.watch(model, optimizer, run_id="before")
    for index in range(6):
        if index == 2:
            loop.close(watch)
        if index == 4:
            loop.watch(model, optimizer, run_id="after")
        loop.step(train_one(model, optimizer))


def copied(loop: Loop) -> None:
    """A deep copy in the midst of the run, which then trains beside the original."""
    model = convolutional()
    optimizer = adamw(model)
    loop.watch(model, optimizer)
    loop.step(train_one(model, optimizer))
    twin = copy.deepcopy(model)
    its_optimizer = adamw(twin)
    its_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    loop.keep(copy.deepcopy(optimizer).state_dict())
    loop.keep(twin, its_optimizer)
    for _ in range(3):
        loop.keep(train_one(twin, its_optimizer))
        loop.step(train_one(model, optimizer))


def averaged(loop: Loop) -> None:
    """A moving average of the weights, swapped in for an evaluation and out again."""
    model = convolutional()
    optimizer = adamw(model)
    loop.watch(model, optimizer)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    loop.keep(average)
    for _ in range(4):
        loop.step(train_one(model, optimizer))
        average.update_parameters(model)
        kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(average.module.state_dict())
        with torch.no_grad():
            loop.keep(loss_of(average.module, 0))
        model.load_state_dict(kept)


def saved(loop: Loop) -> None:
    """A model that is saved whole in the midst, loaded, watched again and trained on."""
    model: nn.Module = perceptron()
    optimizer = adamw(model)
    first = loop.watch(model, optimizer, run_id="before")
    for _ in range(2):
        loop.step(train_one(model, optimizer))
    file = io.BytesIO()
    torch.save({"model": model, "optimizer": optimizer.state_dict()}, file)
    loop.close(first)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    model = loaded["model"]
    optimizer = adamw(model)
    optimizer.load_state_dict(loaded["optimizer"])
    loop.watch(model, optimizer, run_id="after")
    for _ in range(2):
        loop.step(train_one(model, optimizer))


def loaded_by_workers(context: str) -> Case:
    """Batches made by worker processes that start while the model is watched."""

    def case(loop: Loop) -> None:
        model = perceptron()
        optimizer = adamw(model)
        loop.watch(model, optimizer)
        loader = DataLoader(
            TensorDataset(torch.randn(12, 5)),
            batch_size=4,
            shuffle=True,
            num_workers=1,
            multiprocessing_context=context,
        )
        for (batch,) in loader:
            optimizer.zero_grad()
            loss = torch.as_tensor(model(batch)).square().mean()
            loss.backward()
            optimizer.step()
            loop.step(loss)

    return case


def distributed(loop: Loop) -> None:
    """Data-parallel training in a group of one, with gradients that are views of its buckets."""
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(perceptron(), gradient_as_bucket_view=True)
        optimizer = adamw(model)
        loop.watch(model, optimizer)
        for _ in range(4):
            optimizer.zero_grad()
            with model.no_sync():
                torch.as_tensor(model(torch.randn(4, 5))).square().mean().backward()
            loss = torch.as_tensor(model(torch.randn(4, 5))).square().mean()
            loss.backward()
            optimizer.step()
            loop.step(loss)
    finally:
        # The group joins its threads with the interpreter's lock held: one that still lets go of a
        # tensor, for which it needs that lock, would never end.
        time.sleep(0.05)
        torch.distributed.destroy_process_group()


def with_a_failing_service(loop: Loop) -> None:
    """A service that fails again and again, and a loop that draws from every generator."""
    model = perceptron()
    optimizer = adamw(model)
    transport = RecordingTransport(answers=[Answer(status=503)] * 3)
    watch = loop.watch(model, optimizer, transport=transport, retry_first_seconds=0.01)
    for _ in range(4):
        loss = train_one(model, optimizer)
        loop.step(loss + random.random() + np.random.rand())
        watch.flush(5)


CASES: dict[str, Case] = {
    "evaluated": evaluated,
    "evaluated transformer": evaluated_transformer,
    "failing": failing,
    "watched twice": watched_twice,
    "attached again": attached_again,
    "copied": copied,
    "averaged": averaged,
    "saved and loaded": saved,
    "forked workers": loaded_by_workers("fork"),
    "spawned workers": loaded_by_workers("spawn"),
    "distributed": distributed,
    "failing service": with_a_failing_service,
}


@pytest.mark.parametrize("name", CASES)
def test_a_watched_loop_is_the_same(name: str) -> None:
    """Losses, weights, buffers, gradients, optimizer and generators are equal, and frames came."""
    assert_unchanged(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_change_is_seen(name: str) -> None:
    """One weight that is one unit in the last place off after the first step is not the same."""
    assert_comparison_tells(CASES[name])
