"""Rules that read gradient norms: clippers as alarms, and OLMo's six sigma."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Iterable
from typing import Final

import numpy as np
from foreshock_service.detectors.layout import GRADIENT
from foreshock_service.detectors.row import Floats

from benchmarks.detection.peers.protocol import Seen, Trigger

SPIKE: Final = Trigger(rule="clip", kind="gradient_spike")


class ZClip:
    """ZClip (arXiv 2504.02507): z of the gradient norm above 2.5, by running averages (0.97) that
    begin with 25 norms and are fed with what was clipped. One NaN disables it for good."""

    DECAY: Final = 0.97
    LIMIT: Final = 2.5
    FIRST: Final = 25
    EPSILON: Final = 1e-6

    def __init__(self) -> None:
        self._first: list[float] = []
        self._mean = 0.0
        self._variance = 0.0

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        norm = seen.scalar("grad_norm")
        if norm is None:
            return
        if len(self._first) < self.FIRST:
            self._first.append(norm)
            with np.errstate(all="ignore"):
                self._mean = float(np.mean(self._first))
                self._variance = float(np.var(self._first))
            return
        spread = math.sqrt(self._variance) if self._variance >= 0 else math.nan
        z = (norm - self._mean) / (spread + self.EPSILON)
        fed = norm
        if z > self.LIMIT:
            yield SPIKE
            fed = self._mean + self.LIMIT * spread / (z / self.LIMIT)
        self._mean = self.DECAY * self._mean + (1 - self.DECAY) * fed
        off = (fed - self._mean) * (fed - self._mean)
        self._variance = self.DECAY * self._variance + (1 - self.DECAY) * off


class AutoClip:
    """AutoClip (arXiv 2007.14469): the norm exceeds a percentile of all norms so far, itself among
    them. Its own is the 10th, which clips most steps; with the 99th, and 50 norms first, it is the
    best alarm that can be made of it."""

    def __init__(self, percentile: float, *, first: int = 1) -> None:
        self._percentile = percentile
        self._first = first
        self._norms: list[float] = []

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        norm = seen.scalar("grad_norm")
        if norm is None:
            return
        if not math.isfinite(norm):
            yield SPIKE
            return
        bisect.insort(self._norms, norm)
        if len(self._norms) > self._first and norm > self._limit():
            yield SPIKE

    def _limit(self) -> float:
        """The percentile of sorted norms, between neighbours in proportion, as numpy has it."""
        place = self._percentile / 100 * (len(self._norms) - 1)
        low = math.floor(place)
        high = min(low + 1, len(self._norms) - 1)
        return self._norms[low] + (place - low) * (self._norms[high] - self._norms[low])


class AdaGC:
    """AdaGC (arXiv 2502.11034): one tensor's norm exceeds 1.05 of its running average of clipped
    norms (0.98), after 100 steps in which the least norm is kept, clipped globally to 1. `alarm`
    is the multiple from which on it is told, its own 1.05 or one that is kinder to it."""

    MULTIPLE: Final = 1.05
    DECAY: Final = 0.98
    FIRST: Final = 100
    EPSILON: Final = 1e-8

    def __init__(self, *, alarm: float = MULTIPLE) -> None:
        self._alarm = alarm
        self._average: Floats = np.zeros(0)
        self._num_rows = 0

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        which = np.flatnonzero(seen.layout.kind_masks[GRADIENT])
        if self._average.shape != which.shape:
            self._average = np.full(which.shape, np.inf)
        norms, bad = seen.row.l2[which], seen.row.bad[which]
        known = np.isfinite(norms) & ~bad
        self._num_rows += 1
        if self._num_rows <= self.FIRST:
            total = seen.scalar("grad_norm")
            usable = total is not None and math.isfinite(total)
            scale = min(1.0 / (total + self.EPSILON), 1.0) if usable and total is not None else 1.0
            self._average = np.where(known, np.minimum(self._average, scale * norms), self._average)
            return
        started = np.isfinite(self._average)
        with np.errstate(all="ignore"):
            ratio = np.where(known & started & (norms > 0), norms / self._average, 0.0)
            clipped = np.where(started, np.minimum(norms, self.MULTIPLE * self._average), norms)
            moved = np.where(
                started, self.DECAY * self._average + (1 - self.DECAY) * clipped, clipped
            )
        self._average = np.where(known, moved, self._average)
        ratio[bad] = np.inf
        if (ratio > self._alarm).any():
            order = [int(i) for i in np.argsort(-ratio, kind="stable") if ratio[i] > self._alarm]
            names = tuple(seen.layout.keys[which[i]][1] for i in order[:5])
            yield Trigger(rule="clip", kind="gradient_spike", series=names)


class SixSigma:
    """OLMo's SkipStep: the loss or the gradient norm is 6 standard deviations above the mean of the
    last 128, of which 64 must be there. A comparison with NaN fails, so that one in the window
    skips every step until it has left."""

    WINDOW: Final = 128
    FIRST: Final = 64
    SIGMAS: Final = 6.0

    def __init__(self) -> None:
        self._windows: dict[str, deque[float]] = {}

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        for name, kind in (("loss", "loss_spike"), ("grad_norm", "gradient_spike")):
            value = seen.scalar(name)
            if value is None:
                continue
            window = self._windows.setdefault(name, deque(maxlen=self.WINDOW))
            if len(window) >= self.FIRST:
                with np.errstate(all="ignore"):
                    mean, spread = float(np.mean(window)), float(np.std(window, ddof=1))
                if not value - mean <= self.SIGMAS * spread:
                    yield Trigger(rule="sigma", kind=kind)
            window.append(value)
