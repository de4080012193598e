"""Where a step begins and ends, and what a frame says of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreshock.testing import RecordingTransport
from foreshock.wire import FrameFlag
from torch import nn

from tests.client.conftest import Attach
from tests.client.models import loss_of, perceptron, train


def _flags(transport: RecordingTransport) -> list[int]:
    return [int(f) for batch in transport.batches for f in batch.flags]


def test_an_announced_change_marks_the_step_under_way(attach: Attach) -> None:
    """Its frame carries the flag and the event its text; the steps around it carry none."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=2)
    watch.announce("batch size 32 -> 256")
    train(model, optimizer, watch, num_steps=3)
    watch.announce("after the last step")
    watch.close()
    announced = [bool(flags & FrameFlag.ANNOUNCED) for flags in _flags(transport)]
    assert announced == [False, False, True, False, False]
    told = [(e.step, dict(e.data)) for e in transport.events if e.kind == "change"]
    assert told == [(2, {"text": "batch size 32 -> 256"}), (5, {"text": "after the last step"})]


def test_without_step_the_optimizer_is_the_clock(attach: Attach) -> None:
    """A loop that calls nothing but watch gets one frame an optimizer step."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    for index in range(4):
        optimizer.zero_grad()
        loss_of(model, index).backward()
        optimizer.step()
    watch.close()
    assert transport.steps == [0, 1, 2, 3]
    assert transport.statistic("activation", "0", "count") == dict.fromkeys(range(4), 28.0)


def test_without_a_forward_of_ours_the_clock_still_ticks(attach: Attach) -> None:
    """Where no forward hook runs, as under torch.compile, steps are told by the optimizer alone."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    watch.close()
    assert transport.steps == [0, 1, 2]


def test_two_optimizers_make_one_step(attach: Attach) -> None:
    """A GAN's two optimizers share a frame, and both learning rates are recorded."""
    model = nn.ModuleDict({"d": nn.Linear(2, 1), "g": nn.Linear(2, 2)})
    optimizers = [
        torch.optim.SGD(model["d"].parameters(), lr=0.1),
        torch.optim.SGD(model["g"].parameters(), lr=0.2),
    ]
    watch, transport = attach(model, optimizers)
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
            model["d"](model["g"](torch.ones(1, 2))).sum().backward()
            optimizer.step()
        watch.step(loss=1.0)
    watch.close()
    assert transport.steps == [0, 1, 2]
    assert transport.scalar("lr/1") == dict.fromkeys(range(3), pytest.approx(0.2))
    for name in ("d.weight", "g.weight"):
        assert not np.isnan(list(transport.statistic("update", name, "count").values())).any()


def test_the_learning_rate_is_the_one_that_was_used(attach: Attach) -> None:
    """A scheduler that steps before step() is called does not change the record."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    watch, transport = attach(model, optimizer)
    for index in range(3):
        loss_of(model, index).backward()
        optimizer.step()
        schedule.step()
        watch.step()
    watch.close()
    assert transport.scalar("lr") == {0: 1.0, 1: 0.5, 2: 0.25}


def test_a_step_that_a_loss_scaler_skips_is_flagged(attach: Attach) -> None:
    """GradScaler does not call the optimizer on Inf: the frame is SKIPPED and has no gradient."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    watch, transport = attach(model, optimizer)
    for index in range(3):
        optimizer.zero_grad()
        loss = loss_of(model, index) * (float("inf") if index == 1 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        watch.step(loss=loss)
    watch.close()
    assert [bool(f & FrameFlag.SKIPPED) for f in _flags(transport)] == [False, True, False]
    measured = [bool(f & FrameFlag.MEASURED_GRADIENT) for f in _flags(transport)]
    assert measured == [True, False, True]


def test_a_fused_optimizer_is_unscaled_and_its_skip_is_seen(attach: Attach) -> None:
    """A fused optimizer gets scaled gradients and steps on Inf: both are put right."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch, transport = attach(model, optimizer)
    norms = []
    for index in range(2):
        optimizer.zero_grad()
        loss = loss_of(model, index) * (float("inf") if index == 1 else 1.0)
        scaler.scale(loss).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(nn.utils.get_total_norm(grads).item() / 1024.0)
        scaler.step(optimizer)
        scaler.update()
        watch.step()
    watch.close()
    assert transport.scalar("grad_norm")[0] == pytest.approx(norms[0], rel=1e-5)
    assert [bool(f & FrameFlag.SKIPPED) for f in _flags(transport)] == [False, True]


def test_steps_can_be_renumbered(attach: Attach) -> None:
    """A resumed loop begins at its own number, and may say a number outright."""
    model = perceptron()
    watch, transport = attach(model, torch.optim.SGD(model.parameters(), lr=0.1), first_step=100)
    watch.step(loss=1.0)
    watch.step(loss=1.0, step=205, batch_id="shard-7")
    watch.step(loss=1.0)
    watch.close()
    assert transport.steps == [100, 205, 206]
    assert [i for b in transport.batches for i in b.batch_ids or [None] * len(b.steps)] == [
        None,
        "shard-7",
        None,
    ]


def test_scalars_belong_to_the_step_in_which_they_were_logged(attach: Attach) -> None:
    """log() adds to the frame of its step; tensors and numbers are alike; absent stays absent."""
    model = perceptron()
    watch, transport = attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    watch.log(attn_logit_max=torch.tensor(3.0), log_z=2)
    watch.step(loss=torch.tensor([0.5], requires_grad=True))
    watch.step(loss=0.25)
    watch.close()
    assert transport.scalar("attn_logit_max") == {0: 3.0}
    assert transport.scalar("log_z") == {0: 2.0}
    assert transport.scalar("loss") == {0: 0.5, 1: 0.25}
    assert {"step_seconds", "monitor/seconds"} <= set(transport.batches[0].scalar_names)


def test_the_last_frame_of_a_run_is_marked(attach: Attach) -> None:
    """LAST stands on the last frame and on no other."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=3)
    watch.close()
    assert [bool(f & FrameFlag.LAST) for f in _flags(transport)] == [False, False, True]


def test_a_crash_leaves_its_step_and_its_exception(attach: Attach) -> None:
    """An exception in the block is recorded with what was measured of its step, and goes on."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)

    def crash() -> None:
        with watch:
            train(model, optimizer, watch, num_steps=2)
            loss_of(model, 2)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        crash()
    events = {event.kind: event for event in transport.events}
    assert (events["exception"].step, events["exception"].data["type"]) == (2, "RuntimeError")
    assert events["finished"].data == {"status": "crashed"}
    assert (transport.steps, _flags(transport)[-1] & FrameFlag.LAST) == ([0, 1, 2], FrameFlag.LAST)
    assert not _flags(transport)[-1] & FrameFlag.SKIPPED


def test_a_run_tells_what_it_is(attach: Attach) -> None:
    """The started event names run, project, configuration, optimizer and size, as plain JSON."""
    model = perceptron()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.25))
    watch, transport = attach(
        model,
        optimizer,
        run="my run/7",
        project="tests",
        tags=["a"],
        config={"nan": float("nan"), "path": object, "depth": {"width": 3}},
    )
    watch.note("hello")
    watch.checkpoint("step-0.pt")
    watch.close()
    data = transport.events[0].data
    assert (data["name"], data["project"], data["tags"]) == ("my run/7", "tests", ["a"])
    assert (data["config"]["nan"], data["config"]["depth"]) == ("nan", {"width": 3})
    assert data["optimizers"][0]["class"] == "AdamW"
    assert data["optimizers"][0]["settings"]["lr"] == 0.25
    assert data["num_parameters"] == 58
    assert transport.batches[0].origin.run.startswith("my-run-7-")
    assert [e.kind for e in transport.events] == ["started", "note", "checkpoint", "finished"]
