"""The handle that `watch` returns."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import torch

from foreshock.hooks.activations import ActivationHooks
from foreshock.hooks.compiled import measure_tensors, run_as_it_is
from foreshock.hooks.guard import Guard
from foreshock.hooks.optimizers import OptimizerHooks
from foreshock.logs import logger
from foreshock.sender import Outbox
from foreshock.settings import ClientSettings
from foreshock.watching.plain import plain, readable
from foreshock.watching.recorder import Recorder


class Parts:
    """What a live watch is made of."""

    def __init__(
        self,
        *,
        run_id: str,
        settings: ClientSettings,
        guard: Guard,
        recorder: Recorder,
        outbox: Outbox,
        activations: ActivationHooks,
        optimizers: OptimizerHooks,
    ) -> None:
        self.run_id, self.settings, self.guard = run_id, settings, guard
        self.recorder, self.outbox = recorder, outbox
        self.activations, self.optimizers = activations, optimizers


class Watch:
    """A watched model. Every method is safe to call at any time: none raises into training, and
    after `close`, in a forked child, or when the client is disabled they do nothing.

    As a context manager it closes itself, and an exception that leaves the block is recorded. A run
    that is never closed ends with the process, or once the handle, the model and the optimizers are
    all gone.
    """

    def __init__(
        self, parts: Parts | None, *, on_drop: Callable[[Outbox], object] | None = None
    ) -> None:
        self._parts, self._on_drop = parts, on_drop
        self._observed = parts.activations.observations.place if parts else None

    @property
    def run_id(self) -> str | None:
        """Id of the run on the service; None when the client is disabled."""
        return self._parts.run_id if self._parts else None

    @property
    def url(self) -> str | None:
        """Address of the run's page; None when the client is disabled."""
        parts = self._parts
        return f"{parts.settings.url.rstrip('/')}/runs/{parts.run_id}" if parts else None

    def step(
        self,
        loss: float | torch.Tensor | None = None,
        *,
        step: int | None = None,
        batch_id: str | None = None,
        **scalars: Any,
    ) -> None:
        """End the training step, once after `optimizer.step()`; also after one that a loss scaler
        skipped. `step` renumbers it; numbers count up from there. `batch_id` names its data."""
        parts = self._parts
        if parts is None:
            return
        if loss is not None:
            scalars["loss"] = loss
        parts.guard.run("scalars", parts.recorder.log, scalars)
        parts.guard.run("frame", parts.recorder.step_by_hand, step, batch_id)

    def log(self, scalars: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Add scalars to the step, by keyword or, for names that are no keywords, as a dictionary:
        numbers, or tensors of one element, which are not waited for."""
        parts = self._parts
        if parts is None:
            return
        given: Any = {} if scalars is None else scalars
        if isinstance(given, Mapping):
            parts.guard.run("scalars", parts.recorder.log, {**given, **named})
        else:
            # A part of its own, so that it does not switch off the calls that are right.
            parts.guard.run("log", _refuse_unnamed, given)

    def observe(self, name: str, tensor: torch.Tensor) -> None:
        """Measure a tensor that no module returns, such as attention logits, as an activation.
        It does the same inside a compiled region, and breaks no graph there."""
        if torch.compiler.is_compiling():
            # Nothing of `_parts` is read here: the graph must not depend on what close() changes.
            measure_tensors(self._observed, name, tensor)
        elif self._parts is not None:
            observations = self._parts.activations.observations
            self._parts.guard.run(_observing(name), observations.measure, name, tensor)

    def grads_ready(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Measure the gradients now: call it before clipping, and after `scaler.unscale_`. Without
        it they are measured as the optimizer gets them. Where there are several optimizers, give
        the one that is about to step: the gradients of the others are not theirs yet."""
        if self._parts is not None:
            self._parts.guard.run("gradient", self._parts.optimizers.grads_ready, optimizer)

    def note(self, text: str) -> None:
        """Write a remark at this step, for people: detection reads `announce` alone."""
        self._event("note", text=text)

    def announce(self, text: str) -> None:
        """Say that from this step on the learning rate, batch size, data, loss or weights are
        others, on purpose: levels are then learned anew instead of told as incidents. Call it on
        each rank."""
        parts = self._parts
        if parts is not None:
            parts.guard.run("change", parts.recorder.announce)
        self._event("change", text=text)

    def checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Say that a checkpoint was written, so that an incident can name the last healthy one."""
        self._event("checkpoint", path=path)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the service has everything up to the last ended step; False if it has not in
        `timeout` seconds. Nothing is lost then: it goes on being sent."""
        parts = self._parts
        if parts is None:
            return True
        parts.guard.run("frame", parts.recorder.complete_last)
        limit = parts.settings.close_timeout_seconds
        if isinstance(timeout, int | float) and not math.isnan(timeout):
            limit = timeout
        elif timeout is not None:
            logger.warning("flush(): give seconds as a number; it waits for %g now", limit)
        return parts.outbox.flush(limit) if not parts.guard.dead else False

    def close(self) -> None:
        """End the run: take the hooks off, and send what is left for `close_timeout_seconds`."""
        self._close(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(error)

    def _event(self, kind: str, **data: object) -> None:
        parts = self._parts
        if parts is not None:
            parts.guard.run(kind, _tell, parts.recorder, kind, data)

    def __reduce__(self) -> tuple[type[Self], tuple[None]]:
        """A copied or pickled handle watches nothing: the run stays with the process it is in."""
        return type(self), (None,)

    def __del__(self) -> None:
        # Nobody can add to the run any more: it ends, and nobody waits for that. This may run on
        # any thread, wherever garbage is collected.
        parts, self._parts = getattr(self, "_parts", None), None
        if parts is not None:
            _finish(parts, None)
            parts.outbox.end(parts.settings.close_timeout_seconds, parts.recorder.counters())
            if self._on_drop is not None:
                self._on_drop(parts.outbox)

    def _close(self, error: BaseException | None) -> None:
        parts, self._parts = self._parts, None
        if parts is not None:
            _finish(parts, error)
            parts.guard.run("close", parts.outbox.close, parts.settings.close_timeout_seconds)
            parts.guard.dead = True

    def _in_child(self) -> None:
        """After a fork: the threads stayed with the parent, and so does the run."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.guard.dead = True
            parts.outbox.abandon()


# Called between two compiled parts of a forward, it is no graph of its own.
run_as_it_is(Watch.observe)


def _finish(parts: Parts, error: BaseException | None) -> None:
    """Take the hooks off, and hand over the last frame and how the run ended."""
    guard, recorder = parts.guard, parts.recorder
    if isinstance(error, SystemExit) and error.code in (None, 0):
        error = None
    if error is not None:
        guard.run("exception", _tell_exception, recorder, error)
    guard.run("hooks", parts.activations.remove)
    guard.run("frame", recorder.finish, crashed=error is not None)
    guard.run("hooks", parts.optimizers.remove)
    status = {"status": "finished" if error is None else "crashed"}
    guard.run("events", recorder.event, "finished", status, with_step=False)


def _observing(name: object) -> str:
    """The part that observes under a name; what is none, such as a tensor, must not be shown: that
    would wait for the device."""
    return f"observe {name}" if isinstance(name, str) else "observe"


def _refuse_unnamed(scalars: object) -> None:
    raise TypeError(
        f"log(): {type(scalars).__name__} has no name; call watch.log(name=value) or "
        "watch.log({'name': value})"
    )


def _tell(recorder: Recorder, kind: str, data: dict[str, object]) -> None:
    recorder.event(kind, plain({name: str(value) for name, value in data.items()}))


def _tell_exception(recorder: Recorder, error: BaseException) -> None:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{last[0].filename}:{last[0].lineno}" if last else ""
    data = {"type": type(error).__name__, "message": readable(error), "where": where}
    recorder.event("exception", plain(data))
