"""The statistics that arrive are those of the tensors that training had, in float64."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from foreshock.testing import RecordingTransport
from foreshock.wire import HISTOGRAM, FrameFlag
from torch import nn

from tests.client.conftest import Attach
from tests.client.models import convolutional, half_frozen, loss_of, perceptron, train


def _moments(tensor: torch.Tensor) -> list[float]:
    x = tensor.detach().double()
    return [float(x.numel()), x.mean().item(), x.std(correction=0).item(), x.abs().max().item()]


def _received(transport: RecordingTransport, kind: str, name: str, step: int) -> list[float]:
    got = {
        s: transport.statistic(kind, name, s)[step] for s in ("count", "mean", "std", "min", "max")
    }
    return [got["count"], got["mean"], got["std"], max(abs(got["min"]), abs(got["max"]))]


def test_every_kind_of_a_linear_layer_matches_the_oracle(attach: Attach) -> None:
    """Activation, its gradient, gradient, weight and update of one layer on the second step."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=1)
    layer = next(model.children())
    assert isinstance(layer, nn.Linear)
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    layer.register_forward_hook(keep)
    before = layer.weight.detach().clone()
    train(model, optimizer, watch, num_steps=1)
    watch.close()
    gradient = layer.weight.grad
    assert gradient is not None
    assert kept[0].grad is not None
    expected = {
        ("activation", "0"): kept[0],
        ("activation_grad", "0"): kept[0].grad,
        ("gradient", "0.weight"): gradient,
        ("weight", "0.weight"): layer.weight,
        ("update", "0.weight"): layer.weight.detach() - before,
    }
    for (kind, name), tensor in expected.items():
        assert _received(transport, kind, name, 1) == pytest.approx(_moments(tensor), rel=1e-5)


def test_the_gradient_norm_is_that_of_all_gradients(attach: Attach) -> None:
    """grad_norm equals the norm that clipping would compute."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=1)
    expected = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    watch.close()
    assert transport.scalar("grad_norm")[0] == pytest.approx(expected.item(), rel=1e-5)


def test_grads_ready_measures_before_clipping(attach: Attach) -> None:
    """With grads_ready the recorded norm is above the clip, without it it is the clip."""
    norms = {}
    for ready in (True, False):
        torch.manual_seed(0)
        model = perceptron()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        watch, transport = attach(model, optimizer)
        loss_of(model, 0).backward()
        if ready:
            watch.grads_ready()
        norms["true"] = nn.utils.clip_grad_norm_(model.parameters(), 1e-3).item()
        optimizer.step()
        watch.step()
        watch.close()
        norms[str(ready)] = transport.scalar("grad_norm")[0]
    assert norms["True"] == pytest.approx(norms["true"], rel=1e-5)
    assert norms["False"] == pytest.approx(1e-3, rel=1e-3)


def test_micro_batches_merge_into_one_row(attach: Attach) -> None:
    """Under accumulation a frame has all micro-batches' activations and the summed gradient."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=1, micro_batches=3)
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    watch.close()
    assert transport.statistic("activation", "0", "count") == {0: 3 * 28.0}
    norm = nn.utils.get_total_norm(expected).item()
    assert transport.scalar("grad_norm")[0] == pytest.approx(norm, rel=1e-5)


def test_a_frozen_parameter_has_no_gradient_and_no_update(attach: Attach) -> None:
    """Absent is not zero: a frozen weight is measured, its gradient and update do not exist."""
    model = half_frozen()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=3)
    watch.close()
    listed = {(s.kind, s.name) for schema in transport.schemas.values() for s in schema.series}
    assert ("weight", "0.weight") in listed
    assert not listed & {("gradient", "0.weight"), ("update", "0.weight")}


def test_a_parameter_group_that_comes_later_is_measured_from_then_on(attach: Attach) -> None:
    """As gradual unfreezing does it: the optimizer's list of parameters is not remembered."""
    model = perceptron()
    first, _, last = model.children()
    optimizer = torch.optim.SGD(last.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=2)
    optimizer.add_param_group({"params": list(first.parameters())})
    train(model, optimizer, watch, num_steps=2)
    watch.close()
    for kind in ("gradient", "weight", "update"):
        counts = list(transport.statistic(kind, "0.weight", "count").values())[-2:]
        assert counts == [35.0, 35.0]
    assert list(transport.statistic("update", "2.weight", "count").values())[-4:] == [14.0] * 4


def test_a_parameter_that_missed_a_step_is_absent_there(attach: Attach) -> None:
    """A row of NaN tells a tensor that did not exist on a step."""
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    for index in (0, 1, 0):
        optimizer.zero_grad()
        model[index](torch.ones(1, 2)).sum().backward()
        optimizer.step()
        watch.step()
    watch.close()
    counts = transport.statistic("gradient", "1.weight", "count")
    assert [step for step, count in counts.items() if not np.isnan(count)] == [1]


def test_the_units_of_a_convolution_are_its_channels(attach: Attach) -> None:
    """A channel that an in-place ReLU leaves at zero everywhere is one inactive unit of four."""
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        norm.bias[2] = -100.0
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=1)
    watch.close()
    assert transport.statistic("activation", "2", "inactive_unit_frac")[0] == 0.25
    # Measured inside the hook: the ReLU that runs in place has not overwritten this output yet.
    assert transport.statistic("activation", "1", "min")[0] < -50.0


def test_non_finite_gradients_are_counted_and_named(attach: Attach) -> None:
    """NaN arrives as a count and as a NaN norm, and raises nowhere."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    (loss_of(model, 0) * float("nan")).backward()
    optimizer.step()
    watch.step(loss=float("nan"))
    watch.close()
    assert transport.statistic("gradient", "2.weight", "nan_count") == {0: 14.0}
    assert np.isnan([transport.scalar("grad_norm")[0], transport.scalar("loss")[0]]).all()


def test_histograms_hold_every_non_zero_finite_element(attach: Attach) -> None:
    """The exponent histogram of the weights counts each of them once."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, histogram_every=2)
    train(model, optimizer, watch, num_steps=3)
    watch.close()
    tables = [(b, t) for b in transport.batches for t in b.tables if t.name == HISTOGRAM]
    assert sorted({int(b.steps[f]) for b, t in tables for f in t.frame}) == [0, 2]
    batch, table = tables[0]
    assert batch.schema is not None
    series = transport.schemas[batch.schema].series
    row = next(i for i, s in enumerate(series) if (s.kind, s.name) == ("weight", "0.weight"))
    chosen = (table.series == row) & (table.frame == 0)
    assert table.values[chosen].sum() == 35.0


def test_an_update_that_is_due_now_and_then_is_that_of_one_step(attach: Attach) -> None:
    """With update_every=2 the difference is taken to the step before, not to the last one due."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    watch, transport = attach(model, optimizer, update_every=2)
    for _ in range(4):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 0.25)
        optimizer.step()
        watch.step()
    watch.close()
    means = transport.statistic("update", "0.bias", "mean")
    assert [means[0], means[2]] == pytest.approx([-0.25, -0.25])
    assert np.isnan([means[1], means[3]]).all()


@pytest.mark.parametrize("fails", [False, True])
def test_an_update_is_what_the_outermost_step_made_of_the_weight(
    attach: Attach, fails: bool
) -> None:
    """An optimizer that calls its base's `step` and then moves the weights on: PyTorch runs hooks
    around both, once the base has been used by itself. A step that raises spoils no later one."""

    class Shrinking(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.mul_(0.5)
            if fails and len(steps) == 1:
                steps.append(1)
                raise ArithmeticError
            return loss

    steps: list[int] = []
    torch.manual_seed(0)
    torch.optim.SGD(perceptron().parameters(), lr=0.1)
    model = perceptron()
    optimizer = Shrinking(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    for index in range(4):
        optimizer.zero_grad()
        loss_of(model, index).backward()
        before = model.get_parameter("0.weight").detach().clone()
        with contextlib.suppress(ArithmeticError):
            optimizer.step()
        steps.append(index)
        watch.step()
    watch.close()
    weight = model.get_parameter("0.weight")
    assert _received(transport, "update", "0.weight", 3) == pytest.approx(
        _moments(weight - before), rel=1e-5
    )
    assert _received(transport, "weight", "0.weight", 3) == pytest.approx(
        _moments(weight), rel=1e-5
    )


def test_an_observed_tensor_is_a_series_with_its_gradient(attach: Attach) -> None:
    """Attention logits that no module returns are measured under the user's name."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    hidden = model(torch.randn(4, 5)) * 3
    watch.observe("attention_logits", hidden)
    hidden.sum().backward()
    optimizer.step()
    watch.close()
    assert transport.statistic("activation", "attention_logits", "count") == {0: 8.0}
    assert transport.statistic("activation_grad", "attention_logits", "mean") == {0: 1.0}


def test_depth_follows_the_forward_pass_not_the_listing(attach: Attach) -> None:
    """A module that is listed last and runs first has the smallest depth."""

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(3, 3)
            self.first = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.second(self.first(x)))

    model = Backwards()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    watch.close()
    series = next(iter(transport.schemas.values())).series
    depth = {s.name: s.depth for s in series if s.kind == "weight"}
    assert depth["first.weight"] < depth["second.weight"]


def test_flags_tell_what_was_due(attach: Attach) -> None:
    """With the default cadence activations come with every fourth frame and say so."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, activation_every=4, activation_grad_every=0)
    train(model, optimizer, watch, num_steps=6)
    watch.close()
    flags = np.concatenate([b.flags for b in transport.batches])
    measured = [bool(f & FrameFlag.MEASURED_ACTIVATION) for f in flags]
    assert measured == [True, False, False, False, True, False]
    assert not any(f & FrameFlag.MEASURED_ACTIVATION_GRAD for f in flags)
    assert all(f & FrameFlag.MEASURED_UPDATE for f in flags)
