"""Inside `torch.compile` activations are measured as in eager mode, and the compiler does as it
would without us."""

from __future__ import annotations

import copy
import gc
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from foreshock.testing import RecordingTransport
from foreshock.watching import Watch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from tests.client.conftest import Attach

# Of torch's own code, when it imports its default backend and when it looks at a graph's inputs.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
WIDTH = 6


class Block(nn.Module):
    """Two linear layers around a normalisation and a ReLU that overwrites its input."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.norm = nn.LayerNorm(2 * WIDTH)
        self.act = nn.ReLU(inplace=True)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, WIDTH] of x [N, WIDTH]."""
        return x + torch.as_tensor(self.down(self.act(self.norm(self.up(x)))))


class Checkpointed(Block):
    """A block whose inside is computed again in the backward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, WIDTH] of x [N, WIDTH]."""
        return torch.as_tensor(checkpoint(super().forward, x, use_reentrant=False))


class Pair(nn.Module):
    """A layer that returns its output and a part of it in a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs [N, WIDTH] and [N, 1] of x [N, WIDTH]."""
        hidden = self.linear(x)
        return hidden, self.last(hidden)


def stack(block: type[nn.Module] = Block, depth: int = 3) -> nn.Sequential:
    """Equal blocks, the same weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(*(block() for _ in range(depth)))


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the compiler did: graphs and breaks, frames that it compiled, and what it gave up."""

    graphs: int
    breaks: int
    recompiles: int
    frames: int


@pytest.fixture(autouse=True)
def _fresh_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that another test compiled, in memory or on the disk."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def _compiled() -> Compiled:
    metrics = torch._dynamo.utils.compilation_time_metrics
    return Compiled(
        graphs=counters["stats"]["unique_graphs"],
        breaks=sum(counters["graph_break"].values()),
        recompiles=sum(counters["recompiles"].values()),
        frames=len(metrics.get("_compile.compile_inner", [])),
    )


def _counting(run: Callable[[], object]) -> Compiled:
    torch._dynamo.reset()
    counters.clear()
    before = _compiled()
    run()
    after = _compiled()
    return Compiled(
        graphs=after.graphs,
        breaks=after.breaks,
        recompiles=after.recompiles,
        frames=after.frames - before.frames,
    )


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05)


def _input(index: int, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(index))


def _train(
    forward: Callable[[torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    watch: Watch | None,
    *,
    num_steps: int = 3,
    rows: int = 5,
) -> list[torch.Tensor]:
    losses = []
    for index in range(num_steps):
        optimizer.zero_grad()
        loss = forward(_input(index, rows)).square().mean()
        loss.backward()
        optimizer.step()
        if watch is not None:
            watch.step(loss=loss)
        losses.append(loss.detach().clone())
    return losses


def _series(transport: RecordingTransport) -> list[tuple[str, str, int]]:
    schema = list(transport.schemas.values())[-1]
    return [(s.kind, s.name, s.depth) for s in schema.series]


def _table(transport: RecordingTransport, statistic: str) -> dict[tuple[str, str], list[float]]:
    keys = [(kind, name) for kind, name, _ in _series(transport)]
    return {
        (kind, name): list(transport.statistic(kind, name, statistic).values())
        for kind, name in keys
    }


def _assert_equal(actual: RecordingTransport, expected: RecordingTransport, rel: float) -> None:
    assert _series(expected) == _series(actual)
    for statistic in ("count", "mean", "std", "min", "max", "nan_count", "inactive_unit_frac"):
        want, got = _table(expected, statistic), _table(actual, statistic)
        for key, values in want.items():
            assert got[key] == pytest.approx(values, rel=rel, abs=1e-6, nan_ok=True), key


BACKENDS = ["eager", "aot_eager", "inductor"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_has_the_statistics_of_eager_mode(backend: str, attach: Attach) -> None:
    """Every series of every kind, by name, order and value, over three training steps."""
    model = stack()
    watch, expected = attach(model, optimizer := _sgd(model))
    _train(model, optimizer, watch)
    watch.close()
    model = stack()
    watch, actual = attach(model, optimizer := _sgd(model))
    _train(torch.compile(model, backend=backend, fullgraph=True), optimizer, watch)
    watch.close()
    kinds = [kind for kind, _, _ in _series(actual)]
    assert (kinds.count("activation"), kinds.count("activation_grad")) == (15, 15)
    _assert_equal(actual, expected, rel=1e-4)


def _plain(model: nn.Module) -> Any:
    return torch.compile(model, backend="aot_eager", fullgraph=True)


def _in_place(model: nn.Module) -> Any:
    model.compile(backend="aot_eager", fullgraph=True)
    return model


def _by_block(model: nn.Module) -> Any:
    for block in model.children():
        block.compile(backend="aot_eager", fullgraph=True)
    return model


def _by_wrapped_block(model: nn.Module) -> Any:
    for name, block in list(model.named_children()):
        setattr(model, name, torch.compile(block, backend="aot_eager", fullgraph=True))
    return model


def _by_function(model: nn.Module) -> Any:
    return torch.compile(lambda x: model(x), backend="aot_eager", fullgraph=True)


WAYS = [_plain, _in_place, _by_block, _by_wrapped_block, _by_function]


def _everything(way: Callable[[nn.Module], Any], attach: Attach | None) -> None:
    """Steps with and without due activations, of two sizes, with evaluations between."""
    model = stack()
    optimizer = _sgd(model)
    watch = (
        attach(model, optimizer, activation_every=3, activation_grad_every=2)[0] if attach else None
    )
    forward = way(model)
    for rows in (5, 5, 3, 4, 5):
        model.train()
        _train(forward, optimizer, watch, num_steps=4, rows=rows)
        model.eval()
        forward(_input(0)).sum().backward()
        with torch.no_grad():
            forward(_input(0))


@pytest.mark.parametrize("way", WAYS)
def test_the_compiler_does_what_it_does_without_us(
    way: Callable[[nn.Module], Any], attach: Attach
) -> None:
    """As many graphs, no break, and no compilation more: when activations are due and when not, in
    training and in evaluation, and as sizes change."""
    expected = _counting(lambda: _everything(way, None))
    actual = _counting(lambda: _everything(way, attach))
    assert expected == actual
    assert (actual.graphs > 0, actual.breaks) == (True, 0)


@pytest.mark.parametrize("first", ["watch", "compile"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_compile_is_measured_under_clean_names(
    way: Callable[[nn.Module], Any], first: str, attach: Attach
) -> None:
    """The same series in the same order as in eager mode, whichever comes first."""
    model = stack()
    watch, expected = attach(model, optimizer := _sgd(model))
    _train(model, optimizer, watch)
    watch.close()
    model = stack()
    optimizer = _sgd(model)
    forward = way(model) if first == "compile" else None
    # The wrapper, where there is one, is what a user has at hand.
    given = forward if isinstance(forward, nn.Module) else model
    watch, actual = attach(given, optimizer)
    _train(forward or way(model), optimizer, watch)
    watch.close()
    _assert_equal(actual, expected, rel=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_code_that_ran_before_the_watch_is_compiled_anew_with_one_warning(
    way: Callable[[nn.Module], Any], attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    """The compiler would not notice new hooks: from the second step on activations are there."""
    model = stack()
    optimizer = _sgd(model)
    forward = way(model)
    _train(forward, optimizer, None)
    watch, transport = attach(model, optimizer)
    with caplog.at_level(logging.WARNING, logger="foreshock"):
        _train(forward, optimizer, watch, num_steps=4)
    watch.close()
    told = [r.message for r in caplog.records if "compiled and run before watch()" in r.message]
    counts = transport.statistic("activation", "0.up", "count")
    assert (len(told), [step for step, n in counts.items() if n == 60.0]) == (1, [1, 2, 3])


def test_a_model_that_the_hooks_see_is_not_compiled_anew(
    attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    """Another model that was compiled before is no reason to warn and to throw its code away."""
    other = stack()
    forward = _plain(other)
    forward(_input(0))
    model = stack()
    watch, _ = attach(model, optimizer := _sgd(model))
    before = counters["stats"]["unique_graphs"]
    _train(model, optimizer, watch)
    forward(_input(1))
    watch.close()
    assert before == counters["stats"]["unique_graphs"]
    assert "compiled" not in caplog.text


@pytest.mark.parametrize("backend", BACKENDS)
def test_recomputation_in_the_backward_pass_counts_once(backend: str, attach: Attach) -> None:
    """With activation checkpointing inside compiled code the counts are those of one forward."""
    model = stack(Checkpointed, 2)
    watch, transport = attach(model, optimizer := _sgd(model))
    _train(torch.compile(model, backend=backend, fullgraph=True), optimizer, watch, num_steps=2)
    watch.close()
    for kind in ("activation", "activation_grad"):
        assert transport.statistic(kind, "1.up", "count") == {0: 60.0, 1: 60.0}


def test_checkpointing_around_compiled_blocks_counts_once(attach: Attach) -> None:
    """The recomputation calls compiled code in eager mode's backward pass."""
    model = _by_block(stack(depth=2))

    def forward(x: torch.Tensor) -> torch.Tensor:
        for block in model:
            x = torch.as_tensor(checkpoint(block, x, use_reentrant=False))
        return x

    watch, transport = attach(model, optimizer := _sgd(model))
    _train(forward, optimizer, watch, num_steps=2)
    watch.close()
    for kind in ("activation", "activation_grad"):
        assert transport.statistic(kind, "1.up", "count") == {0: 60.0, 1: 60.0}


def test_micro_batches_of_compiled_code_merge(attach: Attach) -> None:
    """Two forwards, then both backwards: a step has the elements of both."""
    model = stack()
    watch, transport = attach(model, optimizer := _sgd(model))
    forward = torch.compile(model, backend="inductor", fullgraph=True)
    for _ in range(2):
        losses = [forward(_input(i)).square().mean() for i in range(2)]
        for loss in losses:
            loss.backward()
        optimizer.step()
        watch.step()
    watch.close()
    for kind in ("activation", "activation_grad"):
        assert transport.statistic(kind, "0.norm", "count") == {0: 120.0, 1: 120.0}


def test_under_autocast_the_statistics_are_those_of_the_low_precision(attach: Attach) -> None:
    """A linear layer's output is bfloat16, and within its rounding of eager mode's."""
    tables = []
    for compiled in (False, True):
        model = stack()
        watch, transport = attach(model, optimizer := _sgd(model))
        inner = torch.compile(model, backend="inductor", fullgraph=True) if compiled else model
        with torch.autocast("cpu", torch.bfloat16):
            _train(inner, optimizer, watch)
        watch.close()
        tables.append(_table(transport, "std"))
        schema = list(transport.schemas.values())[-1]
        dtypes = {s.dtype for s in schema.series if (s.kind, s.name) == ("activation", "0.up")}
        assert dtypes == {"bfloat16"}
    eager, actual = tables
    assert eager.keys() == actual.keys()
    for key, values in eager.items():
        # Of the first step: what the trainings then make of a rounding is not ours.
        assert actual[key][0] == pytest.approx(values[0], rel=0.02, abs=1e-3), key


@pytest.mark.parametrize("backend", BACKENDS)
def test_watching_changes_nothing_that_the_compiled_code_computes(
    backend: str, attach: Attach
) -> None:
    """Losses and weights of a watched and an unwatched run agree within rounding; with a backend
    that fuses nothing they are the same bits."""
    results = []
    for watched in (False, True):
        model = stack()
        optimizer = _sgd(model)
        watch = attach(model, optimizer)[0] if watched else None
        forward = torch.compile(model, backend=backend, fullgraph=True)
        results.append([*_train(forward, optimizer, watch), *model.state_dict().values()])
        torch._dynamo.reset()
    bare, watched_run = results
    for a, b in zip(bare, watched_run, strict=True):
        torch.testing.assert_close(
            a,
            b,
            rtol=1e-5 if backend == "inductor" else 0,
            atol=1e-7 if backend == "inductor" else 0,
        )


def test_nan_is_seen_first_in_the_layer_that_made_it(attach: Attach) -> None:
    """A weight that is NaN shows in the activations of its layer and after, and not before."""
    model = stack()
    watch, transport = attach(model, optimizer := _sgd(model))
    forward = torch.compile(model, backend="inductor", fullgraph=True)
    _train(forward, optimizer, watch, num_steps=1)
    with torch.no_grad():
        model.get_parameter("1.up.weight")[0, 0] = torch.nan
    _train(forward, optimizer, watch, num_steps=1)
    watch.close()
    nans = {
        name: transport.statistic("activation", name, "nan_count")[1]
        for kind, name, _ in _series(transport)
        if kind == "activation"
    }
    first = next(name for name, count in nans.items() if count)
    assert (first, nans["1.up"], nans["0.down"]) == ("1.up", 5.0, 0.0)


def test_outputs_in_tuples_are_measured_by_their_place(attach: Attach) -> None:
    """The compiled code names the parts of an output as eager mode does."""
    names = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(Pair())
        watch, transport = attach(model, optimizer := _sgd(model))
        call = _plain(model) if compiled else model

        def both(x: torch.Tensor, call: Any = call) -> torch.Tensor:
            hidden, last = call(x)
            return torch.as_tensor(hidden.sum() + last.sum())

        _train(both, optimizer, watch)
        watch.close()
        names.append(_series(transport))
    assert ("activation_grad", "0[1]") in [(kind, name) for kind, name, _ in names[1]]
    assert sorted(names[0]) == sorted(names[1])


def test_an_evaluation_is_not_measured(attach: Attach) -> None:
    """Neither with gradients, where the graph is the training's, nor without."""
    model = stack()
    watch, transport = attach(model, optimizer := _sgd(model))
    forward = _plain(model)
    _train(forward, optimizer, watch, num_steps=1)
    model.eval()
    forward(_input(0)).sum().backward()
    with torch.no_grad():
        forward(_input(0))
    with torch.inference_mode():
        forward(_input(0))
    watch.step()
    watch.close()
    counts = transport.statistic("activation", "0.up", "count")
    assert (counts[0], counts[1] != counts[1]) == (60.0, True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_observing_inside_compiled_code(backend: str, attach: Attach) -> None:
    """What a compiled forward gives to observe() is a series with its gradient, as in eager mode,
    and makes no graph more."""
    tables = []
    for compiled in (False, True):
        torch.manual_seed(0)
        layer = nn.Linear(WIDTH, WIDTH)
        watch, transport = attach(layer, optimizer := _sgd(layer))

        def forward(x: torch.Tensor, layer: nn.Module = layer, watch: Watch = watch) -> Any:
            logits = layer(x) * 3
            watch.observe("logits", logits)
            return logits

        call = torch.compile(forward, backend=backend, fullgraph=True) if compiled else forward
        _train(call, optimizer, watch)
        watch.close()
        call(_input(0))
        tables.append(transport)
    assert counters["stats"]["unique_graphs"] == 1
    assert ("activation_grad", "logits") in [(k, n) for k, n, _ in _series(tables[1])]
    _assert_equal(tables[1], tables[0], rel=1e-4)


def test_after_close_the_compiled_code_goes_on_and_measures_nothing(attach: Attach) -> None:
    """Nothing is compiled again, nothing arrives; a second watch measures with the same code."""
    model = stack()
    watch, transport = attach(model, optimizer := _sgd(model))
    forward = _plain(model)
    _train(forward, optimizer, watch, num_steps=2)
    watch.close()
    graphs = counters["stats"]["unique_graphs"]
    _train(forward, optimizer, None)
    again, second = attach(model, optimizer)
    _train(forward, optimizer, again)
    again.close()
    assert graphs == counters["stats"]["unique_graphs"]
    assert transport.steps == [0, 1]
    assert second.statistic("activation", "2.down", "count") == dict.fromkeys(range(3), 30.0)


def test_two_watches_of_two_models_do_not_mix(attach: Attach) -> None:
    """Models of one shape share compiled code, and each measures its own."""
    models = [nn.Sequential(Block()), nn.Sequential(Block())]
    transports = []
    for rows, model in zip((2, 7), models, strict=True):
        watch, transport = attach(model, optimizer := _sgd(model))
        _train(_by_block(model), optimizer, watch, rows=rows)
        transports.append(transport)
        watch.close()
    counts = [t.statistic("activation", "0.down", "count")[2] for t in transports]
    assert counts == [2 * WIDTH, 7 * WIDTH]


def test_two_watches_of_one_model_both_measure_once(attach: Attach) -> None:
    """They share the module's hook, and neither counts the other's."""
    model = stack()
    optimizer = _sgd(model)
    watched = [attach(model, optimizer) for _ in range(2)]
    forward = _plain(model)
    for index in range(3):
        forward(_input(index)).sum().backward()
        optimizer.step()
    for watch, transport in watched:
        watch.close()
        assert transport.statistic("activation", "0.up", "count")[0] == 60.0


def test_a_copy_of_a_compiled_and_watched_model_is_free_of_us(attach: Attach) -> None:
    """It can be copied, saved, loaded and compiled; the copy measures nothing."""
    model = stack()
    watch, transport = attach(model, optimizer := _sgd(model))
    _train(_plain(model), optimizer, watch, num_steps=2)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(model), torch.load(buffer, weights_only=False)]
    assert b"foreshock." not in buffer.getvalue()
    for other in copies:
        assert model.state_dict().keys() == other.state_dict().keys()
        _train(_plain(other), _sgd(other), None, num_steps=1)
    watch.step()
    watch.close()
    counts = transport.statistic("activation", "0.up", "count")
    assert (counts[1], counts[2] != counts[2]) == (60.0, True)


def test_a_watched_model_is_exported_without_us(attach: Attach) -> None:
    """The exported program must run where there is no Foreshock."""
    model = stack()
    attach(model, _sgd(model))
    for strict in (True, False):
        program = torch.export.export(model, (_input(0),), strict=strict)
        targets = [str(node.target) for node in program.graph.nodes]
        assert not [target for target in targets if "foreshock" in target]


class Branches(nn.Module):
    """Control flow that the compiler keeps, with a watched layer in each branch."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, WIDTH] of x [N, WIDTH]."""
        return torch.as_tensor(torch.cond(x.sum() > 0, self.left, self.right, (x,)))


def test_where_the_compiler_allows_no_effect_nothing_is_measured_and_nothing_fails(
    attach: Attach,
) -> None:
    """Branches of cond, and functions under vmap, compile as they do without us."""
    model = nn.Sequential(Block(), Branches())
    watch, transport = attach(model, optimizer := _sgd(model))
    _train(_plain(model), optimizer, watch)
    watch.close()
    names = [name for kind, name, _ in _series(transport) if kind == "activation"]
    assert "1.left" not in names
    assert {"0.up", "1"} <= set(names)
    block = Block()
    attach(block, _sgd(block))
    mapped = torch.compile(
        lambda x: torch.vmap(lambda row: block(row))(x), backend="aot_eager", fullgraph=True
    )
    mapped(torch.ones(2, 3, WIDTH)).sum().backward()


def test_no_tensor_outlives_the_compiled_step(attach: Attach) -> None:
    """What is measured is let go of: no activation is alive after its backward pass."""
    model = stack()
    watch, _ = attach(model, optimizer := _sgd(model), update_every=0)
    forward = _plain(model)
    alive = []
    for _ in range(2):
        _train(forward, optimizer, watch, num_steps=2)
        optimizer.zero_grad()
        gc.collect()
        alive.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    assert alive[0] >= alive[1]


def test_a_compiled_optimizer_step_is_measured(attach: Attach) -> None:
    """Gradients, weights and updates of a step that is itself compiled, and steps that end."""
    model = stack()
    watch, transport = attach(model, optimizer := _sgd(model))
    forward = _plain(model)
    step = torch.compile(optimizer.step, backend="aot_eager")
    for index in range(3):
        optimizer.zero_grad()
        forward(_input(index)).square().mean().backward()
        step()
        watch.step()
    watch.close()
    assert len(transport.steps) == 3
    for kind, name in (("gradient", "0.up.weight"), ("update", "0.up.weight"), ("activation", "0")):
        values = transport.statistic(kind, name, "std")
        assert all(value > 0 for value in values.values()), kind
        assert len(values) == 3
