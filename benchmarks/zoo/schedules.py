"""Learning rates by step."""

from __future__ import annotations

import math
from collections.abc import Callable

Rate = Callable[[int], float]


def warmup_cosine(peak: float, *, num_steps: int, warmup: int = 30) -> Rate:
    """Linear up, then half a cosine to nought at the last step."""

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        share = min(1.0, (step - warmup) / max(1, num_steps - warmup))
        return peak * 0.5 * (1 + math.cos(math.pi * share))

    return rate


def step_decay(peak: float, at: tuple[int, ...], factor: float = 0.1) -> Rate:
    """`peak`, times `factor` at each step of `at`."""
    return lambda step: peak * factor ** sum(step >= a for a in at)


def warm_restarts(peak: float, *, period: int) -> Rate:
    """A cosine to a fiftieth of the peak, begun anew every `period` steps."""
    return lambda step: peak * (0.02 + 0.49 * (1 + math.cos(math.pi * (step % period) / period)))


def cyclic(low: float, high: float, *, period: int) -> Rate:
    """A triangle between two rates."""

    def rate(step: int) -> float:
        position = abs((step % period) / period * 2 - 1)
        return high + (low - high) * position

    return rate


def one_cycle(peak: float, *, num_steps: int, climb: int) -> Rate:
    """Linear from a twentieth of the peak up to it in `climb` steps, then half a cosine down to a
    thousandth."""

    def rate(step: int) -> float:
        if step < climb:
            return peak * (0.05 + 0.95 * step / climb)
        share = (step - climb) / max(1, num_steps - climb)
        return peak * (0.001 + 0.4995 * (1 + math.cos(math.pi * share)))

    return rate


def warmup_stable_decay(peak: float, *, num_steps: int, warmup: int, decay: int) -> Rate:
    """Linear up, flat, and linear down to nought within the last `decay` steps."""

    def rate(step: int) -> float:
        return peak * min(1.0, (step + 1) / warmup, (num_steps - step) / decay)

    return rate
