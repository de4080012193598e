"""Every statistic that arrives is that of the tensor that training had at the documented moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from foreshock.reducers.protocol import UnitView
from foreshock.testing import RecordingTransport
from foreshock.wire import HISTOGRAM, STATISTICS, FrameFlag
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.client.conftest import Attach
from tests.client.models import TiedTransformer, loss_of, perceptron
from tests.reducers import oracle

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]

Row = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]


def arrived(transport: RecordingTransport, kind: str, name: str, step: int) -> Row:
    """The statistics [1, 13] and the histogram [1, 64] of a series on a step, as they were sent."""
    for batch in transport.batches:
        if step not in batch.steps or batch.schema is None:
            continue
        frame = list(batch.steps).index(step)
        series = transport.schemas[batch.schema].series
        row = [(s.kind, s.name) for s in series].index((kind, name))
        (table,) = (t for t in batch.tables if t.name == HISTOGRAM)
        chosen = (table.frame == frame) & (table.series == row)
        return batch.stats[frame, row : row + 1], table.values[chosen].astype(np.uint32)
    raise AssertionError(f"no frame of step {step}")


def assert_is(row: Row, tensors: Sequence[torch.Tensor], *, scale: float = 1.0) -> None:
    """Assert that a row has every statistic of the tensors' elements together."""
    together = np.concatenate([oracle.values(t.contiguous(), scale).ravel() for t in tensors])
    oracle.check(row, 0, together)


def change(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """What a step made of a weight, in float64 of the values that it had, rounded to float32."""
    exact = after.detach().double() - before.double()
    return exact if after.dtype is torch.float64 else exact.float()


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the weights of now."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the gradients of now."""
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def flags(transport: RecordingTransport) -> list[FrameFlag]:
    """The flags of every frame."""
    return [FrameFlag(int(f)) for batch in transport.batches for f in batch.flags]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_statistic_of_every_kind(dtype: torch.dtype, attach: Attach) -> None:
    """Two steps of a layer, each statistic of each kind, with its units and its histogram."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 3)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    watch, transport = attach(model, optimizer)
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, args: object, output: torch.Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    model[1].register_forward_hook(keep)
    tensors: dict[tuple[str, int], torch.Tensor] = {}
    for step in range(2):
        optimizer.zero_grad()
        torch.as_tensor(model(torch.randn(32, 64, dtype=dtype))).square().sum().backward()
        before = weights(model)
        optimizer.step()
        watch.step()
        gradient = kept[-1].grad
        assert gradient is not None
        tensors |= {
            ("activation", step): kept[-1],
            ("activation_grad", step): gradient,
            ("gradient", step): gradients(model)["0.weight"],
            ("weight", step): weights(model)["0.weight"],
            ("update", step): change(weights(model)["0.weight"], before["0.weight"]),
        }
    watch.close()
    for (kind, step), tensor in tensors.items():
        name = "1" if kind.startswith("activation") else "0.weight"
        assert_is(arrived(transport, kind, name, step), [tensor])
    for step in range(2):
        stats, _ = arrived(transport, "activation", "1", step)
        values = oracle.values(tensors["activation", step])
        units = oracle.expected_units(values, UnitView(32, 48, 1))
        assert stats[0, STATISTICS.index("batch_std") :] == pytest.approx(units, rel=1e-5)


def test_all_calls_of_a_step_are_one_tensor(attach: Attach) -> None:
    """A block called twice in each of two micro-batches: the statistics of all four outputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    outputs: list[torch.Tensor] = []
    for _ in range(2):
        hidden = torch.randn(5, 6)
        for _ in range(2):
            hidden = torch.as_tensor(model(hidden))
            hidden.retain_grad()
            outputs.append(hidden)
        hidden.square().mean().backward()
    optimizer.step()
    watch.step()
    watch.close()
    assert_is(arrived(transport, "activation", "0", 0), outputs)
    grads = [o.grad for o in outputs if o.grad is not None]
    assert_is(arrived(transport, "activation_grad", "0", 0), grads)
    assert_is(arrived(transport, "gradient", "0.weight", 0), [gradients(model)["0.weight"]])
    stats, _ = arrived(transport, "activation", "0", 0)
    together = oracle.values(torch.cat(outputs))
    units = oracle.expected_units(together, UnitView(20, 6, 1))
    assert stats[0, STATISTICS.index("batch_std") :] == pytest.approx(units, rel=1e-5)


def test_a_tied_weight_is_one_series(attach: Attach) -> None:
    """Its gradient is the sum of both uses, and it stands under its first name alone."""
    torch.manual_seed(0)
    model = TiedTransformer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    loss_of(model, 0).backward()
    before = weights(model)["embedding.weight"]
    optimizer.step()
    watch.step()
    watch.close()
    grads = gradients(model)
    assert_is(arrived(transport, "gradient", "embedding.weight", 0), [grads["embedding.weight"]])
    moved = change(model.embedding.weight, before)
    assert_is(arrived(transport, "update", "embedding.weight", 0), [moved])
    (schema,) = transport.schemas.values()
    assert not any(s.name == "head.weight" for s in schema.series)


def test_an_activation_is_measured_before_it_is_overwritten(attach: Attach) -> None:
    """What a layer returned, and its gradient, not what the next line made of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    output = torch.as_tensor(model(torch.randn(5, 6)))
    returned = output.detach().clone()
    output.mul_(100.0).sum().backward()
    optimizer.step()
    watch.step()
    watch.close()
    assert_is(arrived(transport, "activation", "0", 0), [returned])
    assert_is(arrived(transport, "activation_grad", "0", 0), [torch.full((5, 4), 100.0)])


@pytest.mark.parametrize("ready", [True, False])
def test_gradients_are_measured_where_they_are_said_to_be(ready: bool, attach: Attach) -> None:
    """By grads_ready before clipping, without it as the optimizer gets them."""
    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    loss_of(model, 0).backward()
    if ready:
        watch.grads_ready()
    true = gradients(model)
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    clipped = gradients(model)
    optimizer.step()
    watch.step()
    watch.close()
    for name, gradient in (true if ready else clipped).items():
        assert_is(arrived(transport, "gradient", name, 0), [gradient])


def test_two_optimizers_have_each_their_own_gradients(attach: Attach) -> None:
    """The critic's loss leaves gradients in the generator, too: they are not the generator's."""
    torch.manual_seed(0)
    critic, generator = nn.Linear(4, 1), nn.Linear(3, 4)
    model = nn.ModuleDict({"critic": critic, "generator": generator})
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in model.values()]
    watch, transport = attach(model, optimizers)
    expected: dict[str, torch.Tensor] = {}
    for part, optimizer in zip(model, optimizers, strict=True):
        model.zero_grad()
        fake = generator(torch.randn(5, 3))
        critic(fake).square().mean().backward()
        watch.grads_ready(optimizer)
        expected[part] = gradients(model)[f"{part}.weight"]
        nn.utils.clip_grad_norm_(model[part].parameters(), 1e-3)
        optimizer.step()
    watch.step()
    watch.close()
    for part, gradient in expected.items():
        assert_is(arrived(transport, "gradient", f"{part}.weight", 0), [gradient])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scaled_gradients_are_unscaled(fused: bool, dtype: torch.dtype, attach: Attach) -> None:
    """Under a loss scaler the statistics are those of the gradients without the scale."""
    torch.manual_seed(0)
    model = perceptron().to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    watch, transport = attach(model, optimizer)
    loss = torch.as_tensor(model(torch.randn(4, 5, dtype=dtype))).square().mean()
    scaler.scale(loss).backward()
    true = {name: gradient / 1024.0 for name, gradient in gradients(model).items()}
    scaler.step(optimizer)
    scaler.update()
    watch.step()
    watch.close()
    for name, gradient in true.items():
        assert_is(arrived(transport, "gradient", name, 0), [gradient])


def test_a_loss_scale_of_zero_does_not_end_the_gradients(attach: Attach) -> None:
    """Inf upon Inf halves the scale to 0; the gradients go on being measured."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-149)
    watch, transport = attach(model, optimizer)
    for index in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, index) * float("inf")).backward()
        scaler.step(optimizer)
        scaler.update()
        watch.step()
    watch.close()
    assert scaler.get_scale() == 0.0
    assert all(FrameFlag.MEASURED_GRADIENT in flag for flag in flags(transport))
    assert not [e for e in transport.events if e.kind == "client_error"]


@pytest.mark.parametrize("how", ["in place", "loaded", "replaced", "cast"])
def test_an_update_is_what_the_optimizer_made(how: str, attach: Attach) -> None:
    """What the loop itself writes to a weight between two steps is no part of the update."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    model = nn.Sequential(layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    for step in range(2):
        optimizer.zero_grad()
        torch.as_tensor(model(torch.randn(5, 6))).square().mean().backward()
        if step == 1:
            if how == "in place":
                with torch.no_grad():
                    layer.weight.clamp_(-0.01, 0.01)
            elif how == "loaded":
                model.load_state_dict({n: 3 * t for n, t in model.state_dict().items()})
            elif how == "cast":
                model.double()
            else:
                layer.weight.data = torch.randn(4, 6)
        before = weights(model)["0.weight"]
        optimizer.step()
        watch.step()
    watch.close()
    assert_is(arrived(transport, "update", "0.weight", 1), [change(layer.weight, before)])


def test_a_layer_that_comes_later_is_measured(attach: Attach) -> None:
    """Its parameters with the first step that has them, its outputs with the one after."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    kept: dict[int, Any] = {}
    for step in range(3):
        if step == 1:
            model.append(nn.Linear(4, 3))
            optimizer.add_param_group({"params": model[1].parameters(), "lr": 0.5})
        optimizer.zero_grad()
        output = torch.as_tensor(model(torch.randn(6, 5)))
        output.square().mean().backward()
        watch.grads_ready()
        true, before = gradients(model), weights(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        watch.step()
        kept[step] = output, true, before, weights(model)
    watch.close()
    for step in (1, 2):
        _, true, before, after = kept[step]
        assert_is(arrived(transport, "gradient", "1.weight", step), [true["1.weight"]])
        moved = change(after["1.weight"], before["1.weight"])
        assert_is(arrived(transport, "update", "1.weight", step), [moved])
    assert_is(arrived(transport, "activation", "1", 2), [kept[2][0]])
    assert transport.scalar("lr/1") == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_changes_no_statistic(reentrant: bool, attach: Attach) -> None:
    """With either kind of it each activation and each gradient counts once."""
    torch.manual_seed(0)
    model = perceptron()
    x = torch.randn(4, 5, requires_grad=True)
    kept: dict[str, torch.Tensor] = {}
    hidden = x
    for name, layer in model.named_children():
        hidden = kept[name] = torch.as_tensor(layer(hidden))
        hidden.retain_grad()
    hidden.square().mean().backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    watch, transport = attach(model, optimizer)
    output = checkpoint(model, x, use_reentrant=reentrant)
    torch.as_tensor(output).square().mean().backward()
    optimizer.step()
    watch.step()
    watch.close()
    for name, tensor in kept.items():
        assert_is(arrived(transport, "activation", name, 0), [tensor])
        assert tensor.grad is not None
        assert_is(arrived(transport, "activation_grad", name, 0), [tensor.grad])


def test_a_transform_of_a_watched_model_costs_no_later_activation(attach: Attach) -> None:
    """Tensors inside vmap have no values to measure; the forward after it is measured."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    torch.func.vmap(model)(torch.randn(3, 5))
    loss_of(model, 0).backward()
    optimizer.step()
    watch.step()
    watch.close()
    assert transport.statistic("activation", "0", "count") == {0: 28.0}
    assert not [e for e in transport.events if e.kind == "client_error"]


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_the_norm_of_some_gradients_is_not_called_that_of_all(kind: str, attach: Attach) -> None:
    """Sparse and complex gradients have no statistics, so that the norm lacks their part."""
    dense = nn.Linear(4, 2)
    model = nn.ModuleDict({"dense": dense, "rows": nn.Embedding(9, 4, sparse=True)})
    if kind == "complex":
        model["rows"] = nn.Linear(4, 2, dtype=torch.complex64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    given = torch.tensor([[1, 2]]) if kind == "sparse" else torch.ones(1, 4, dtype=torch.complex64)
    (dense(torch.ones(1, 4)).sum() + model["rows"](given).abs().sum()).backward()
    optimizer.step()
    watch.step()
    watch.close()
    assert transport.scalar("grad_norm") == {}
    norm = nn.utils.get_total_norm([p.grad for p in dense.parameters() if p.grad is not None])
    assert transport.scalar("grad_norm/watched") == {0: pytest.approx(norm.item())}
