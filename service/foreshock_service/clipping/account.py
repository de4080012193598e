"""The account of one rule over one run: how often, how much, where, and on healthy steps or not."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.clipping.protocol import Floats, Judgement, Rule

CANNOT_TELL: Final = (
    "This is what the rule would have done to the gradients that this run had; what the loss would "
    "have done then, nobody can say from it, because every later gradient would have been another."
)
STRONGEST: Final = 20
TENSORS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedStep:
    """A step that would have been clipped; `tensor` is the one that was clipped most, if any."""

    step: int
    factor: float
    tensor: str | None
    healthy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedTensor:
    """A tensor that a rule would have clipped on `num_steps` steps."""

    name: str
    num_steps: int
    min_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowResult:
    """What a rule would have done.

    A share is None where there was no step to have a share of. `strongest` are the steps with the
    smallest factors, smallest first; `num_by` counts the clipped steps by the part of the rule that
    clipped. `poisoned_step` is the first from which an average of the rule could no longer recover.
    """

    algorithm: str
    parameters: Mapping[str, float]
    available: bool
    approximate: tuple[str, ...]
    num_steps: int
    num_clipped: int
    num_healthy: int
    num_healthy_clipped: int
    num_non_finite: int
    num_by: Mapping[str, int]
    first_step: int | None
    last_step: int | None
    min_factor: float | None
    median_factor: float | None
    strongest: tuple[ClippedStep, ...]
    tensors: tuple[ClippedTensor, ...]
    poisoned_step: int | None
    num_poisoned: int
    sentence: str
    cannot_tell: str = CANNOT_TELL

    @property
    def clipped_share(self) -> float | None:
        """Clipped steps among those that the rule saw."""
        return self.num_clipped / self.num_steps if self.num_steps else None

    @property
    def false_clip_rate(self) -> float | None:
        """Clipped steps among the healthy ones."""
        return self.num_healthy_clipped / self.num_healthy if self.num_healthy else None


class Account:
    """Counts the judgements of one rule; in memory it keeps 8 bytes a clipped step."""

    def __init__(self, rule: Rule, values: Mapping[str, float]) -> None:
        self.rule = rule
        self._values = dict(values)
        self._num_steps = self._num_healthy = self._num_healthy_clipped = 0
        self._num_non_finite = self._num_poisoned = 0
        self._poisoned_step: int | None = None
        self._by: Counter[str] = Counter()
        self._factors = array("d")
        self._first: int | None = None
        self._last: int | None = None
        self._strongest: list[tuple[float, int, ClippedStep]] = []
        self._tensor_steps = np.zeros(0, np.int64)
        self._tensor_factor = np.ones(0)

    def add(self, step: int, judged: Judgement, names: Sequence[str], *, healthy: bool) -> None:
        """Take a step in."""
        self._num_steps += 1
        self._num_healthy += healthy
        self._num_non_finite += judged.non_finite
        self._num_poisoned = max(self._num_poisoned, judged.poisoned)
        if judged.poisoned and self._poisoned_step is None:
            self._poisoned_step = step
        if not judged.clipped:
            return
        self._num_healthy_clipped += healthy
        self._factors.append(judged.factor)
        self._first = step if self._first is None else self._first
        self._last = step
        if judged.by:
            self._by[judged.by] += 1
        tensor = self._count_tensors(judged.tensors, names)
        seen = ClippedStep(step=step, factor=judged.factor, tensor=tensor, healthy=healthy)
        # Among equals the earlier step is kept: the second number grows less with every step.
        entry = (-judged.factor, -self._num_steps, seen)
        if len(self._strongest) < STRONGEST:
            heapq.heappush(self._strongest, entry)
        else:
            heapq.heappushpop(self._strongest, entry)

    def result(self, names: Sequence[str], caveats: Sequence[str], missing: str) -> ShadowResult:
        """The account as it stands; `missing` says what the rule needs and the run has not."""
        available = self._num_steps > 0
        approximate = tuple(text for text in (self.rule.approximation, *caveats) if text)
        factors = np.frombuffer(self._factors, np.float64) if self._factors else np.zeros(0)
        ordered = sorted(self._strongest, key=lambda entry: (-entry[0], -entry[1]))
        return ShadowResult(
            algorithm=self.rule.name,
            parameters=self._values,
            available=available,
            approximate=approximate if available else (),
            num_steps=self._num_steps,
            num_clipped=len(factors),
            num_healthy=self._num_healthy,
            num_healthy_clipped=self._num_healthy_clipped,
            num_non_finite=self._num_non_finite,
            num_by=dict(self._by),
            first_step=self._first,
            last_step=self._last,
            min_factor=float(factors.min()) if factors.size else None,
            median_factor=float(np.median(factors)) if factors.size else None,
            strongest=tuple(seen for _, _, seen in ordered),
            tensors=self._worst_tensors(names),
            poisoned_step=self._poisoned_step,
            num_poisoned=self._num_poisoned,
            sentence=self._sentence(factors)
            if available
            else f"{self.rule.name} is not available: it {missing}.",
        )

    def _count_tensors(self, factors: Floats | None, names: Sequence[str]) -> str | None:
        if factors is None:
            return None
        more = len(factors) - len(self._tensor_steps)
        if more > 0:
            self._tensor_steps = np.concatenate([self._tensor_steps, np.zeros(more, np.int64)])
            self._tensor_factor = np.concatenate([self._tensor_factor, np.ones(more)])
        self._tensor_steps += factors < 1.0
        np.minimum(self._tensor_factor, factors, out=self._tensor_factor)
        return names[int(factors.argmin())]

    def _worst_tensors(self, names: Sequence[str]) -> tuple[ClippedTensor, ...]:
        order = np.lexsort((self._tensor_factor, -self._tensor_steps))[:TENSORS]
        return tuple(
            ClippedTensor(
                name=names[i],
                num_steps=int(self._tensor_steps[i]),
                min_factor=float(self._tensor_factor[i]),
            )
            for i in order
            if self._tensor_steps[i]
        )

    def _sentence(self, factors: Floats) -> str:
        name, steps = self.rule.name, self._num_steps
        parts = [f"{name} would have clipped none of {steps} steps"]
        if factors.size:
            where = f"step {self._first}"
            if self._last != self._first:
                where = f"steps {self._first} to {self._last}"
            parts = [
                f"{name} would have clipped {factors.size} of {steps} steps "
                f"({_percent(factors.size, steps)}), at {where}, at most to {factors.min():.3g} of "
                "the size"
            ]
        if self._num_healthy:
            parts.append(
                f"{self._num_healthy_clipped} of {self._num_healthy} healthy steps "
                f"({_percent(self._num_healthy_clipped, self._num_healthy)})"
            )
        else:
            parts.append("no step was healthy")
        if self._num_non_finite:
            parts.append(f"{self._num_non_finite} had a norm that is not finite")
        if self._poisoned_step is not None:
            parts.append(f"poisoned from step {self._poisoned_step}: {self.rule.on_non_finite}")
        return "; ".join(parts) + "."


def _percent(part: int, whole: int) -> str:
    return f"{100.0 * part / whole:.3g} %"
