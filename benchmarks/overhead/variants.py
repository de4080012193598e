"""What is attached to a training: nothing, Foreshock, or another tool.

A variant is made around a model and an optimizer of its own, sees every step, and says in the end
how much it captured, read back from where it was written to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import nn


class Attached(Protocol):
    """A tool that is attached to one training."""

    def step(self, index: int, loss: torch.Tensor) -> None:
        """Called after the optimizer's step, as the tool's documentation asks for."""
        ...

    def close(self) -> None:
        """Write out what is left; not measured."""
        ...

    def captured(self) -> Mapping[str, int]:
        """How much was captured, by what it is; called after `close`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a variant may use: a folder of its own, the sink's address, and how many trainings take
    turns in this process, so that a period in seconds can be stretched by it."""

    folder: Path
    sink_url: str
    num_turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One column of the table. `expects` says of each thing that is captured on how manieth steps
    at least one must be; nothing for the controls."""

    name: str
    attach: Callable[[nn.Module, torch.optim.Optimizer, Surroundings], Attached]
    expects: Mapping[str, int] = field(default_factory=dict)

    @property
    def period(self) -> int:
        """Steps after which the work repeats. A ratio is taken over whole periods: a median over
        steps would overlook what happens on every tenth."""
        return math.lcm(*self.expects.values())


class Nothing:
    """A bare loop."""

    def step(self, index: int, loss: torch.Tensor) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def captured(self) -> Mapping[str, int]:
        """Nothing."""
        return {}


def bare(name: str) -> Variant:
    """A training without a tool: the measure of the others, and once more as a control that shows
    how far two equal trainings lie apart."""
    return Variant(name=name, attach=lambda *_: Nothing())
