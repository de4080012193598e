"""Every scenario by name, and which half of the zoo it lives in."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.stage import Stage, Train, WatchFactory

SPLITS: Final = ("look", "held")
_scenarios: Final[dict[str, Scenario]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One training and what is true of it.

    `loss_falls` False says that a healthy training of this kind has no falling loss (two players,
    policy gradients), so that its label is not checked by it. `quick` puts it into the quick part.
    """

    name: str
    arch: str
    optimizer: str
    train: Train
    summary: str
    fault: Fault | None = None
    loss_falls: bool = True
    quick: bool = False

    @property
    def split(self) -> str:
        """`look` or `held`, by a hash of the name alone: adding a scenario moves no other."""
        return SPLITS[_digest("split", self.name) % 2]

    @property
    def every_step(self) -> bool:
        """Whether activations are measured on each step (half of the zoo) or at the client's
        default cadence."""
        return _digest("cadence", self.name) % 2 == 0

    @property
    def seed(self) -> int:
        """The seed of the recorded run."""
        return _digest("seed", self.name)

    def play(
        self, watch: WatchFactory, *, sick: bool = True, seed: int | None = None
    ) -> Iterator[float]:
        """Train under any watch factory, as it is recorded, and yield the losses; `sick` False
        trains the healthy twin. Seeds PyTorch's own random numbers."""
        seed = self.seed if seed is None else seed
        torch.manual_seed(seed)
        yield from self.train(Stage(watch=watch, seed=seed, sick=sick and self.fault is not None))


def _digest(purpose: str, name: str) -> int:
    return hashlib.sha256(f"{purpose}:{name}".encode()).digest()[0]


def healthy(
    name: str, *, arch: str, optimizer: str, loss_falls: bool = True, quick: bool = False
) -> Callable[[Train], Train]:
    """Register a training on which every alert is false; its docstring says why it is hard."""
    return _register(name, arch, optimizer, None, loss_falls=loss_falls, quick=quick)


def faulty(
    name: str,
    fault: Fault,
    *,
    arch: str,
    optimizer: str,
    loss_falls: bool = True,
    quick: bool = False,
) -> Callable[[Train], Train]:
    """Register a training with a fault; its docstring is the cause, in words."""
    return _register(name, arch, optimizer, fault, loss_falls=loss_falls, quick=quick)


def _register(
    name: str, arch: str, optimizer: str, fault: Fault | None, *, loss_falls: bool, quick: bool
) -> Callable[[Train], Train]:
    def keep(train: Train) -> Train:
        if name in _scenarios:
            raise ValueError(f"two scenarios are called {name!r}: choose another name")
        if not train.__doc__:
            raise ValueError(f"scenario {name!r}: its function needs a docstring, the label's text")
        _scenarios[name] = Scenario(
            name=name,
            arch=arch,
            optimizer=optimizer,
            train=train,
            summary=" ".join(train.__doc__.split()),
            fault=fault,
            loss_falls=loss_falls,
            quick=quick,
        )
        return train

    return keep


def all_scenarios() -> list[Scenario]:
    """Every scenario of every file in `scenarios/`, by name."""
    package = importlib.import_module("benchmarks.zoo.scenarios")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return [_scenarios[name] for name in sorted(_scenarios)]
