"""The recorder: where a step begins and ends, and what becomes of it.

A frame is closed when its step ends, which starts the copy of its statistics to the host, and
completed when the next one is closed, by when that copy has long arrived.

A step ends with `step()`. Where the loop never calls that, it ends with the first training forward,
or the clock's next step, after the clock's step; the clock is the first optimizer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from foreshock.hooks.guard import Guard
from foreshock.hooks.meter import Meter
from foreshock.hooks.optimizers import OptimizerHooks
from foreshock.hooks.scalars import MAX_NAME_LENGTH, Scalars
from foreshock.logs import logger
from foreshock.reducers.protocol import Pending
from foreshock.sender import Frame, Outbox
from foreshock.watching.budget import Budget, sentence
from foreshock.wire import (
    STATISTICS,
    ClientCounters,
    Event,
    FrameFlag,
    SeriesSchema,
    measured_flag,
)
from foreshock.wire.text import fit_name, fit_text

_GRADIENT_COLUMNS = tuple(
    STATISTICS.index(name) for name in ("count", "nan_count", "inf_count", "mean", "std")
)


_NONE: Final = FrameFlag(0)
_MAX_STEP: Final = 1 << 53
"""Beyond it a browser's numbers are no longer exact."""
_MAX_NAMES: Final = 512
"""Scalars of a run by name: the service takes 1024 in a batch, and refuses the whole of one with
more."""
_FOUND_INF: Final = "\0found_inf/"
"""Name under which a loss scaler's verdict travels to the host with the scalars."""


@dataclass(slots=True, kw_only=True)
class _Closed:
    """A step that is over, its statistics on their way to the host."""

    step: int
    wall_time: float
    flags: FrameFlag
    scalars: Scalars
    pending: Pending
    schema: SeriesSchema
    rows: npt.NDArray[np.intp]
    with_histogram: bool
    batch_id: str | None


class Recorder:
    """The frames of one watch. Its methods run on the training thread, inside the guard."""

    def __init__(
        self,
        meter: Meter,
        guard: Guard,
        budget: Budget,
        *,
        first_step: int,
        room_for: int,
        has_all_gradients: bool = True,
    ) -> None:
        self._meter, self._guard, self._budget = meter, guard, budget
        self._has_all_gradients = has_all_gradients
        self.outbox: Outbox | None = None
        self.hooks: OptimizerHooks | None = None
        self.owner: object = None
        """The handle, so that it lives for as long as a hook can reach this."""
        self.after_first_step: Callable[[], None] | None = None
        """Called once, outside of any forward, when all of the first one's hooks have been."""
        self._lock = threading.RLock()
        self._optimizers: Sequence[torch.optim.Optimizer] = ()
        self._step, self._index = first_step, 0
        self._scalars = Scalars()
        self._names: set[str] = set()
        self._batch_id: str | None = None
        self._announced = False
        self._closed: _Closed | None = None
        self._by_hand: bool | None = None
        self._optimizer_stepped = self._over = self._refused_told = False
        self._started_at: float | None = None
        self._previous_end = self._previous_overhead = 0.0
        self._num_frames = self._num_thinned = 0
        meter.begin(budget.cadence.due(0), room_for=room_for)

    def attach(
        self, outbox: Outbox, hooks: OptimizerHooks, optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        """Say where frames go and which optimizers step."""
        self.outbox, self.hooks, self._optimizers = outbox, hooks, optimizers

    @property
    def step(self) -> int:
        """Number of the step that is being measured."""
        return self._step

    def counters(self) -> ClientCounters:
        """The training side's account, to which the outbox, on whose thread this runs, adds its
        own."""
        begun = self._started_at
        return ClientCounters(
            frames_measured=self._num_frames,
            frames_thinned=self._num_thinned,
            errors=self._guard.num_errors,
            overhead_seconds=self._guard.seconds,
            training_seconds=time.perf_counter() - begun if begun is not None else 0.0,
        )

    def log(self, scalars: dict[str, Any]) -> None:
        """Add scalars to the step; one that is unusable does not take the others with it."""
        with self._lock:
            for name, value in scalars.items():
                if name in self._names or len(self._names) < _MAX_NAMES:
                    self._guard.run(f"scalar {name}", self._put, name, value)
                else:
                    self._guard.run("scalar names", _refuse_name, name)

    def _put(self, name: Any, value: Any) -> None:
        name = fit_name(name, MAX_NAME_LENGTH) if isinstance(name, str) else name
        self._scalars.put(name, value)
        self._names.add(name)

    def event(self, kind: str, data: dict[str, Any], *, with_step: bool = True) -> None:
        """Tell something that happened now."""
        step = self._step if with_step else None
        if self.outbox is not None:
            self.outbox.put_event(Event(kind=kind, wall_time=time.time(), step=step, data=data))

    def announce(self) -> None:
        """Mark the step under way as the first of something new."""
        with self._lock:
            self._announced = True

    # Where a step ends.

    def on_forward(self) -> None:
        """A training forward: the step before it is over if its optimizer has stepped. With several
        optimizers more may follow the clock's step, so the first step waits for `step()` longer."""
        if self._started_at is None:
            self._started_at = self._previous_end = time.perf_counter()
        if self._over and (self._by_hand is False or len(self._optimizers) < 2):
            self._by_hand = False
            self.close_step()
        self._meter.listen(False)

    def before_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer is about to step. If the clock does so again, the step that it has ended
        before is over, although no forward was seen, as under `torch.compile`."""
        if self._started_at is None:
            self._started_at = self._previous_end = time.perf_counter()
        if self._over and optimizer is self._optimizers[0]:
            self._by_hand = False
            self.close_step()

    def after_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the clock's step, with the learning rates that it took."""
        self._optimizer_stepped = True
        if optimizer is self._optimizers[0]:
            self._learning_rates()
            self._over = self._by_hand is not True
            if self._over:
                self._meter.listen(True)
        self._first_step_over()

    def step_by_hand(self, step: int | None, batch_id: str | None) -> None:
        """`step()` was called: the step ends here, and from now on nowhere else."""
        with self._lock:
            self._by_hand = True
            # Parts of their own: an unusable argument must not switch off the frames.
            if step is not None:
                self._guard.run("step number", self._renumber, step)
            if batch_id is not None:
                self._guard.run("batch_id", self._name_batch, batch_id)
            if not self._optimizers and self.hooks is not None:
                self.hooks.weights_only()
            self._first_step_over()
            self.close_step()

    def _first_step_over(self) -> None:
        tell, self.after_first_step = self.after_first_step, None
        if tell is not None:
            self._guard.run("compiled code", tell)

    def _renumber(self, step: int) -> None:
        number = int(step)
        if not 0 <= number < _MAX_STEP:
            raise ValueError("step: give a whole number from 0 up that fits into 53 bits")
        self._step = number

    def _name_batch(self, batch_id: str) -> None:
        self._batch_id = fit_text(str(batch_id), 256)

    def _learning_rates(self) -> None:
        rates = [g.get("lr") for o in self._optimizers for g in o.param_groups]
        named = {("lr" if i == 0 else f"lr/{i}"): rate for i, rate in enumerate(rates)}
        self.log({name: rate for name, rate in named.items() if rate is not None})

    def close_step(self, flags: FrameFlag = _NONE, *, crashed: bool = False) -> None:
        """End the step: start the copy of its statistics, and complete the frame before it."""
        with self._lock:
            now = time.perf_counter()
            meter, skipped = self._meter, bool(self._optimizers) and not self._optimizer_stepped
            if skipped and not crashed:
                flags |= FrameFlag.SKIPPED
                self._learning_rates()
            for kind in meter.measured:
                flags |= measured_flag(kind)
            if self._budget.thinned:
                flags |= FrameFlag.THINNED
            if self._announced:
                flags, self._announced = flags | FrameFlag.ANNOUNCED, False
            self._own_cost(now)
            if self.hooks is not None:
                for i, flag in enumerate(self.hooks.take_found_inf()):
                    self._scalars.put(f"{_FOUND_INF}{i}", flag)
            self._scalars.start_copy()
            schema, rows = meter.series.schema()
            closed = _Closed(
                step=self._step,
                wall_time=time.time(),
                flags=flags,
                scalars=self._scalars,
                pending=meter.finish(),
                schema=schema,
                rows=rows,
                with_histogram=self._budget.cadence.histogram_due(self._index),
                batch_id=self._batch_id,
            )
            before, self._closed = self._closed, closed
            self._scalars, self._batch_id = Scalars(), None
            self._optimizer_stepped = self._over = False
            self._step, self._index = self._step + 1, self._index + 1
            meter.begin(self._budget.cadence.due(self._index))
            if self.hooks is not None:
                self.hooks.begin()
            self._tell_refused()
            if before is not None:
                self._complete(before)

    def _tell_refused(self) -> None:
        """Say once that the series do not all fit."""
        if self._meter.series.num_refused and not self._refused_told:
            self._refused_told = True
            message = "there are more series than max_series; the rest is not measured"
            logger.warning(message)
            self.event("client_error", {"part": "series", "error": message})

    def complete_last(self, flags: FrameFlag = _NONE) -> None:
        """Complete the frame that is on its way, waiting for its copy."""
        with self._lock:
            closed, self._closed = self._closed, None
            if closed is not None:
                closed.flags |= flags
                self._complete(closed)

    def finish(self, *, crashed: bool) -> None:
        """End the run; the last frame is marked. After a crash it is the step that was under way,
        with as much as was measured of it."""
        if self._over or (crashed and self._meter.measured):
            self.close_step(FrameFlag.LAST, crashed=crashed)
        elif self._closed is not None:
            # Logged after the last step, such as the result of a validation: it has no step of its
            # own to travel with.
            self._closed.scalars.add_missing(self._scalars)
        self.complete_last(FrameFlag.LAST)

    def _own_cost(self, now: float) -> None:
        if self._started_at is None:
            self._started_at = self._previous_end = now
        seconds, overhead = now - self._previous_end, self._guard.seconds
        spent = overhead - self._previous_overhead
        self._previous_end, self._previous_overhead = now, overhead
        self._scalars.put("step_seconds", seconds)
        self._scalars.put("monitor/seconds", spent)
        if seconds > 0:
            self._scalars.put("monitor/share", min(1.0, spent / seconds))
            # A part of its own: without it frames go on at the cadence that is set.
            self._guard.run("budget", self._keep_budget, seconds, spent)

    def _keep_budget(self, seconds: float, spent: float) -> None:
        """Let the cadence follow the budget, and say so when it does, or can follow no further."""
        change = self._budget.spend(seconds=seconds, spent=spent, measured=self._meter.measured)
        if change is None:
            return
        message = sentence(change, budget=self._budget.share)
        logger.log(logging.WARNING if change.exceeded else logging.INFO, message)
        self.event(
            "cadence",
            {
                "message": message,
                "every": change.every,
                "share": round(change.share, 4),
                "budget": self._budget.share,
                "thinned": change.thinned,
            },
        )

    def _complete(self, closed: _Closed) -> None:
        statistics, histograms = closed.pending.result()
        stats = statistics[closed.rows]
        scalars = closed.scalars.read()
        norm = self._gradient_norm_name()
        if closed.flags & FrameFlag.MEASURED_GRADIENT and norm not in scalars:
            scalars[norm] = gradient_norm(closed.schema, stats)
        found_inf = {n: scalars.pop(n) for n in list(scalars) if n.startswith(_FOUND_INF)}
        if any(found_inf.values()):
            closed.flags |= FrameFlag.SKIPPED
        frame = Frame(
            step=closed.step,
            wall_time=closed.wall_time,
            flags=int(closed.flags),
            scalars=scalars,
            schema=closed.schema if closed.schema.series else None,
            stats=stats,
            histogram=histograms[closed.rows] if closed.with_histogram else None,
            batch_id=closed.batch_id,
        )
        self._num_frames += 1
        self._num_thinned += bool(closed.flags & FrameFlag.THINNED)
        if self.outbox is not None:
            self.outbox.put(frame)

    def _gradient_norm_name(self) -> str:
        """What the norm that we can compute is called: over a part of the gradients it is not the
        model's, and detectors and shadow clipping must not take it for that."""
        whole = self._has_all_gradients and not self._meter.series.num_refused
        whole = whole and (self.hooks is None or self.hooks.has_every_gradient)
        return "grad_norm" if whole else "grad_norm/watched"


def _refuse_name(name: object) -> None:
    raise ValueError(
        f"scalar {name!r}: a run can have {_MAX_NAMES} different names; leave numbers such as the "
        "step out of them"
    )


def gradient_norm(schema: SeriesSchema, stats: npt.NDArray[np.float32]) -> float:
    """L2 norm over all gradients, in float64; NaN or Inf as soon as one element is."""
    chosen = np.array([series.kind == "gradient" for series in schema.series], bool)
    columns = stats[chosen][:, _GRADIENT_COLUMNS].astype(np.float64)
    columns = columns[~np.isnan(columns[:, 0])]
    count, nan, inf, mean, std = columns.T
    if nan.any():
        return float("nan")
    if inf.any():
        return float("inf")
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.sum(count * (mean**2 + std**2))))
