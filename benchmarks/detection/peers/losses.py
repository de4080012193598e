"""Rules that read the loss alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

import numpy as np

from benchmarks.detection.peers.protocol import Seen, Trigger

_MAD_TO_SIGMA: Final = 1.4826


class NanOnly:
    """A loss that is not finite: Lightning's `check_finite`, Keras' `TerminateOnNaN`."""

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        loss = seen.scalar("loss")
        if loss is not None and not math.isfinite(loss):
            yield Trigger(rule="nan", kind="non_finite", severity="critical")


class KillLossSpike:
    """llm-foundry's callback: the loss is twice the mean of the last 100 for the fifth time in a
    row; or half of the window lies above 10. NaN never fires, and outliers enter the window. Its
    window is 5 % of a longer run, whose length nobody knows row by row."""

    MULTIPLE: Final = 2.0
    WINDOW: Final = 100
    PATIENCE: Final = 4
    CAP: Final = 10.0

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=self.WINDOW)
        self._num_rows = 0
        self._outliers = 0

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        loss = seen.scalar("loss")
        if loss is None:
            return
        if len(self._window) == self.WINDOW:
            if loss >= self.MULTIPLE * float(np.mean(self._window)):
                self._outliers += 1
                if self._outliers > self.PATIENCE:
                    yield Trigger(rule="spike", kind="loss_spike", severity="critical")
            else:
                self._outliers = 0
                high = sum(value > self.CAP for value in self._window)
                if self._num_rows >= 2 * self.WINDOW and high >= self.WINDOW / 2:
                    yield Trigger(rule="high", kind="divergence", severity="critical")
        self._window.append(loss)
        self._num_rows += 1


class RollingZ:
    """The textbook's rule: the loss is so many standard deviations above the mean of the last 50,
    of which 20 must be there."""

    WINDOW: Final = 50
    FIRST: Final = 20

    def __init__(self, sigmas: float) -> None:
        self._sigmas = sigmas
        self._window: deque[float] = deque(maxlen=self.WINDOW)

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        loss = seen.scalar("loss")
        if loss is None:
            return
        if len(self._window) >= self.FIRST:
            with np.errstate(all="ignore"):
                mean, spread = float(np.mean(self._window)), float(np.std(self._window))
            if loss > mean + self._sigmas * (spread + 1e-12):
                yield Trigger(rule="z", kind="loss_spike")
        self._window.append(loss)


class SpikeDetection:
    """Lightning's: the loss differs from the mean of the last 10 by twice that mean or more, or is
    not finite, which then stays out of the mean."""

    WINDOW: Final = 10
    RELATIVE: Final = 2.0

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=self.WINDOW)

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        loss = seen.scalar("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            yield Trigger(rule="spike", kind="loss_spike")
            return
        if self._window:
            mean = float(np.mean(self._window))
            if abs(loss - mean) >= self.RELATIVE * abs(mean):
                yield Trigger(rule="spike", kind="loss_spike")
        self._window.append(loss)


class CumulativeSum:
    """trainscope's CUSUM: z of the loss by the median and the spread of the last 200; the sum of
    what exceeds 1 reaches 6, after 30 losses, and begins anew. A NaN raises nothing."""

    WINDOW: Final = 200
    FIRST: Final = 30
    DRIFT: Final = 1.0
    LIMIT: Final = 6.0

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=self.WINDOW)
        self._sum = 0.0

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the class."""
        loss = seen.scalar("loss")
        if loss is None or not math.isfinite(loss):
            return
        if len(self._window) >= self.FIRST:
            values = np.array(self._window)
            centre = float(np.median(values))
            spread = _MAD_TO_SIGMA * float(np.median(np.abs(values - centre)))
            self._sum = max(0.0, self._sum + (loss - centre) / (spread + 1e-12) - self.DRIFT)
            if self._sum >= self.LIMIT:
                self._sum = 0.0
                yield Trigger(rule="cusum", kind="loss_spike")
        self._window.append(loss)
