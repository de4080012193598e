"""The seam between recorded norms and clipping rules: what a rule is given, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SLACK: Final = 1e-7
"""Norms are made of statistics in float32: a norm above its limit by less than this equals it."""


class Need(StrEnum):
    """What a rule reads of a step; without it the rule cannot be replayed."""

    TOTAL = "the norm over all gradients, before clipping"
    TENSORS = "the norm of each gradient, before clipping"
    ABS_MAX = "the largest element of each gradient, before clipping"
    WEIGHTS = "the norm of each weight"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norms:
    """One step's gradients, before clipping and unscaled; arrays are [tensors].

    A tensor keeps its place for the length of a replay, and new ones come behind. `total` is None
    where nobody knows it. Norms of tensors with NaN elements are NaN, with Inf and no NaN inf, and
    NaN where `present` is false: no gradient. `weights` are the newest known l2 norms, NaN where
    none was measured. `last` belong to the last layer.
    """

    step: int
    total: float | None
    present: Mask
    l2: Floats
    abs_max: Floats
    weights: Floats
    last: Mask

    @property
    def num_tensors(self) -> int:
        """How many gradients have been seen so far."""
        return len(self.l2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """A rule's answer to one step.

    `factor` is what the strongest clipped gradient would have been multiplied by, in [0, 1], and 1
    when nothing was clipped. `tensors` is the same for each tensor, None for a rule of the whole.
    `by` says which part of the rule clipped, where it has several. `non_finite`: a norm was NaN or
    Inf, so that nothing of it can be counted as clipped. `poisoned` counts the averages of the rule
    that can never again be what they were made for.
    """

    factor: float = 1.0
    tensors: Floats | None = None
    by: str = ""
    non_finite: bool = False
    poisoned: int = 0

    @property
    def clipped(self) -> bool:
        """Whether a gradient would have been made smaller."""
        return self.factor < 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number of a rule: its default, the range in which it has a meaning, and what it is."""

    default: float
    low: float
    high: float
    meaning: str
    whole: bool = False


class Rule(Protocol):
    """A clipping rule that is fed the steps of a run in order; it touches nothing else."""

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]]
    approximation: ClassVar[str]
    """What is not exactly as published, as a sentence; empty where nothing is."""
    on_non_finite: ClassVar[str]
    """What the published rule does with a norm that is NaN or Inf, as a sentence."""
    parameters: ClassVar[Mapping[str, Parameter]]

    def __init__(self, values: Mapping[str, float]) -> None: ...

    def judge(self, norms: Norms) -> Judgement:
        """The answer to the next step."""
        ...


def grown(values: Floats, size: int, fill: float) -> Floats:
    """The array with room for the tensors that are new."""
    if len(values) >= size:
        return values
    return np.concatenate([values, np.full(size - len(values), fill)])


def of_tensors(factors: Floats, *, non_finite: bool, poisoned: int = 0, by: str = "") -> Judgement:
    """The judgement of a rule that clips each tensor by itself."""
    factor = float(factors.min()) if factors.size else 1.0
    return Judgement(
        factor=factor,
        tensors=factors,
        by=by if factor < 1.0 else "",
        non_finite=non_finite,
        poisoned=poisoned,
    )
