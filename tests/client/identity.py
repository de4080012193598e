"""A training that runs twice, watched and not, and the comparison of all that it left.

A case is a function of a `Loop`: it builds a model, calls `loop.watch`, trains, and ends each step
with `loop.step`. A table of cases in a `test_identity_*.py` names it; nothing else is needed.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import foreshock
import numpy as np
import torch
from foreshock.testing import RecordingTransport
from foreshock.watching import Watch
from foreshock.wire import KINDS, STATISTICS, FrameFlag
from foreshock.wire.names import measured_flag
from torch import nn

Case = Callable[["Loop"], None]
Digest = dict[str, bytes]

_FINITE = [STATISTICS.index(name) for name in ("mean", "std", "min", "max")]


@dataclass(slots=True, kw_only=True)
class Watched:
    """A watch of a case, what arrived from it, and what must have."""

    watch: Watch
    transport: RecordingTransport
    kinds: Sequence[str]
    num_steps: int = 0
    open: bool = True


class Loop:
    """One run of a case. Not watched, the handles that it gives do nothing.

    `planted` makes the smallest change that the elements of a weight can have after the first step,
    about 1e-7 of them in float32: the comparison must tell it.
    """

    def __init__(self, *, watched: bool, planted: bool = False) -> None:
        self._watched, self._planted = watched, planted
        self._kept: list[Any] = []
        self.runs: list[Watched] = []

    def watch(
        self, model: nn.Module, optimizer: Any = None, *, kinds: Sequence[str] = KINDS, **how: Any
    ) -> Watch:
        """Watch a model, every kind on every step. `kinds` are those that the case can have."""
        self.keep(model, *(optimizer if isinstance(optimizer, list) else [optimizer]))
        transport = how.pop("transport", None) or RecordingTransport()
        watch = Watch(None)
        if self._watched:
            every = {"activation_every": 1, "activation_grad_every": 1, "histogram_every": 1}
            always = {"overhead_budget": 0.0, "batch_seconds": 0.02, **every}
            watch = foreshock.watch(model, optimizer, transport=transport, **{**always, **how})
        self.runs.append(Watched(watch=watch, transport=transport, kinds=kinds))
        return watch

    def keep(self, *values: Any) -> None:
        """Compare these too: models, optimizers and scalers as they are at the end, all else as it
        is now."""
        for value in values:
            later = isinstance(value, nn.Module) or hasattr(value, "state_dict")
            self._kept.append(value if later else dict(_pieces(value, "")))

    def step(self, loss: Any = None, *, by_hand: bool = True) -> None:
        """A training step is over. `by_hand` calls `Watch.step`, else the optimizer must tell."""
        self.keep(loss)
        for run in self.runs:
            if run.open:
                run.num_steps += 1
                if by_hand:
                    run.watch.step(loss=loss)
        if self._planted:
            self._planted = False
            self._plant()

    def close(self, watch: Watch) -> None:
        """Close a watch in the midst of the training."""
        watch.close()
        for run in self.runs:
            run.open = run.open and run.watch is not watch

    def finish(self) -> Digest:
        """Close what is open; all that the training left, by name, as bytes."""
        for run in self.runs:
            run.watch.close()
        generators = {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),
            "python": random.getstate(),
        }
        return dict(_pieces([*self._kept, generators], ""))

    def _plant(self) -> None:
        model = next(item for item in self._kept if isinstance(item, nn.Module))
        weight = next(model.parameters()).detach()
        real = torch.view_as_real(weight) if weight.is_complex() else weight
        # Of all its elements: that of a single one may be lost in the rounding of what follows.
        real.copy_(torch.nextafter(real, torch.full_like(real, 9.0)))


def _pieces(value: Any, path: str) -> Iterator[tuple[str, bytes]]:
    """Every tensor and number inside a value, each with its path, as bytes."""
    if isinstance(value, torch.Tensor):
        if value.layout is torch.sparse_coo:
            whole = value.detach().coalesce()
            yield from _pieces((whole.indices(), whole.values()), f"{path}.sparse")
            return
        form = f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.requires_grad} "
        data = value.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8)
        yield path, form.encode() + data.numpy().tobytes()
    elif isinstance(value, nn.Module):
        inside = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        gradients = {name: p.grad for name, p in value.named_parameters()}
        modes = [module.training for module in value.modules()]
        yield from _pieces({"state": inside, "grad": gradients, "modes": modes}, path)
    elif hasattr(value, "state_dict"):
        yield from _pieces(value.state_dict(), f"{path}.{type(value).__name__}")
    elif isinstance(value, np.ndarray):
        yield path, value.tobytes()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _pieces(item, f"{path}.{key}")
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _pieces(item, f"{path}.{index}")
    else:
        yield path, value if isinstance(value, bytes) else repr(value).encode()


def run(case: Case, *, watched: bool = False, planted: bool = False) -> tuple[Digest, Loop]:
    """Run a case from the same beginning as ever."""
    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    loop = Loop(watched=watched, planted=planted)
    case(loop)
    return loop.finish(), loop


@functools.cache
def unwatched(case: Case) -> Digest:
    """What a case leaves without the client."""
    return run(case)[0]


def differences(one: Digest, other: Digest) -> list[str]:
    """Names of what is not the same, bit for bit, in both."""
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def assert_unchanged(case: Case) -> None:
    """Assert that a case is the same training when it is watched, and that it was watched."""
    digest, loop = run(case, watched=True)
    assert differences(unwatched(case), digest) == []
    assert loop.runs
    for each in loop.runs:
        _assert_measured(each)


def assert_comparison_tells(case: Case) -> None:
    """Assert that the smallest change of one weight after the first step would be seen."""
    digest, _ = run(case, planted=True)
    assert differences(unwatched(case), digest) != []


def _assert_measured(run: Watched) -> None:
    """A frame a step; each of the kinds in each frame, all finite, but where a step is skipped."""
    transport = run.transport
    assert [e.data for e in transport.events if e.kind == "client_error"] == []
    assert transport.steps == list(range(run.num_steps))
    assert run.num_steps > 0
    for batch in transport.batches:
        kinds = [s.kind for s in transport.schemas[batch.schema].series] if batch.schema else []
        for flags, stats in zip(batch.flags, batch.stats, strict=True):
            if FrameFlag(int(flags)) & FrameFlag.SKIPPED:
                continue
            for kind in run.kinds:
                assert FrameFlag(int(flags)) & measured_flag(kind), kind
                rows = stats[[i for i, k in enumerate(kinds) if k == kind]]
                rows = rows[rows[:, STATISTICS.index("count")] > 0]
                assert len(rows) > 0, kind
                assert np.isfinite(rows[:, _FINITE]).all(), kind
