"""Optimizer hooks: gradients before the step, weights and updates after it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from foreshock.hooks.activations import clean_name
from foreshock.hooks.guard import Guard
from foreshock.hooks.meter import Meter, local, measurable


def named_parameters(model: nn.Module) -> dict[nn.Parameter, str]:
    """Parameters by their first clean name; a tied weight appears once."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = model.module if isinstance(model, parallel) else model
    return {parameter: clean_name(name) for name, parameter in inner.named_parameters()}


class OptimizerHooks:
    """Hooks on the step of each optimizer, for the parameters in `names`. `before_step` is called
    before anything is measured, `after_step` after everything was, both with the optimizer.

    A gradient is measured once in a step: by `grads_ready`, before clipping, or else in the
    pre-hook; where the optimizer is given a closure, after the closure's first call, because the
    gradients before it are those of the step before. One copy of the weights is kept while updates
    are measured.
    """

    def __init__(
        self,
        names: dict[nn.Parameter, str],
        optimizers: Sequence[torch.optim.Optimizer],
        meter: Meter,
        guard: Guard,
        *,
        update_every: int,
        before_step: Callable[[torch.optim.Optimizer], None],
        after_step: Callable[[torch.optim.Optimizer], None],
    ) -> None:
        self._names = names
        self._optimizers, self._meter, self._guard = optimizers, meter, guard
        self._update_every = update_every
        self._before_step, self._after_step = before_step, after_step
        self._ready: set[nn.Parameter] = set()
        self._previous: dict[nn.Parameter, torch.Tensor] = {}
        self._fresh: set[int] = set()
        """Optimizers, by id, whose last step was measured: its copies are the weights of now."""
        self._found_inf: list[torch.Tensor] = []
        self._handles = [
            handle
            for optimizer in optimizers
            for handle in (
                optimizer.register_step_pre_hook(self._before),
                optimizer.register_step_post_hook(self._after),
            )
        ]

    def remove(self) -> None:
        """Take every hook off the optimizers, and let go of the weights' copies."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._previous.clear()
        self._fresh.clear()
        self._ready.clear()

    def take_found_inf(self) -> list[torch.Tensor]:
        """What a loss scaler found in this step, an element each; non-zero is a skipped step."""
        taken, self._found_inf = self._found_inf, []
        return taken

    def begin(self) -> None:
        """A training step begins: what `grads_ready` has marked was of the step before, which a
        loss scaler may have skipped without a word to the optimizer."""
        self._ready.clear()

    def grads_ready(self) -> None:
        """Measure the gradients of all parameters now."""
        # Marked by presence, not by being due, so that the pre-hook does not measure them clipped.
        parameters = [p for p in self._names if p.grad is not None and p not in self._ready]
        self._ready.update(parameters)
        self._measure_gradients(parameters, 1.0)

    def weights_only(self) -> None:
        """Measure the weights of a model that no optimizer of ours steps."""
        if "weight" in self._meter.due:
            self._measure_weights(list(self._names))

    def _before(
        self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._guard.run("step", self._before_step, optimizer)
        with_closure = _closure_of(args, kwargs) is not None
        if self._update_every:
            self._guard.run("update", self._remember, optimizer, with_closure)
        if with_closure and not self._guard.dead:
            return self._with_measured_closure(optimizer, args, kwargs)
        self._guard.run("gradient", self._gradients_of, optimizer)
        return None

    def _with_measured_closure(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a step, its closure followed by a measurement on its first call; later
        calls, such as those of a line search, are at weights that the step has moved already."""
        closure, calls = _closure_of(args, kwargs), itertools.count()

        def measured() -> Any:
            loss = closure()
            if next(calls) == 0:
                self._guard.run("gradient", self._gradients_of, optimizer)
            return loss

        if kwargs.get("closure") is closure:
            return args, {**kwargs, "closure": measured}
        return (args[0], measured, *args[2:]), kwargs

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._guard.run("weight", self._weights_of, optimizer)
        self._guard.run("step", self._after_step, optimizer)

    def _parameters(self, optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in self._names and measurable(parameter):
                    yield parameter

    def _gradients_of(self, optimizer: torch.optim.Optimizer) -> None:
        # A fused optimizer under GradScaler unscales inside its kernel, and steps even on Inf.
        scale: float | torch.Tensor = 1.0
        grad_scale = getattr(optimizer, "grad_scale", None)
        if isinstance(grad_scale, torch.Tensor):
            scale = grad_scale.detach().reciprocal()
        found_inf = getattr(optimizer, "found_inf", None)
        if isinstance(found_inf, torch.Tensor):
            self._found_inf.append(found_inf.detach().clone())
        mine = list(self._parameters(optimizer))
        self._measure_gradients([p for p in mine if p not in self._ready], scale)
        self._ready.difference_update(mine)

    def _measure_gradients(
        self, parameters: Sequence[nn.Parameter], scale: float | torch.Tensor
    ) -> None:
        if "gradient" not in self._meter.due:
            return
        rows, gradients = [], []
        for parameter in parameters:
            if parameter.grad is None or not measurable(parameter.grad):
                continue
            rows.append(self._row("gradient", parameter))
            gradients.append(local(parameter.grad))
        self._meter.measure("gradient", rows, gradients, scale=scale)

    def _remember(self, optimizer: torch.optim.Optimizer, with_closure: bool) -> None:
        """Copy weights that have no copy yet, or an old one because their last step was not due."""
        if "update" not in self._meter.due:
            return
        for parameter in self._parameters(optimizer):
            now, before = local(parameter), self._previous.get(parameter)
            will_move = parameter.requires_grad if with_closure else parameter.grad is not None
            if before is None and not will_move:
                continue  # frozen or unused
            if before is None or before.shape != now.shape or before.device != now.device:
                self._previous[parameter] = now.clone()
            elif id(optimizer) not in self._fresh:
                before.copy_(now)

    def _weights_of(self, optimizer: torch.optim.Optimizer) -> None:
        due, meter = self._meter.due, self._meter
        if "update" in due:
            self._fresh.add(id(optimizer))
        else:
            self._fresh.discard(id(optimizer))
        parameters = list(self._parameters(optimizer))
        copied = [p for p in parameters if p in self._previous]
        if "update" in due and copied:
            updates = [self._row("update", p) for p in copied]
            weights = [self._row("weight", p) if "weight" in due else -1 for p in copied]
            fits = [i for i, row in enumerate(updates) if row >= 0]
            meter.reducer.measure_update(
                [updates[i] for i in fits],
                [weights[i] for i in fits],
                [local(copied[i]) for i in fits],
                [self._previous[copied[i]] for i in fits],
            )
            meter.measured.update(due & {"update", "weight"})
            parameters = [p for p in parameters if p not in self._previous]
        if "weight" in due:
            self._measure_weights(parameters)

    def _measure_weights(self, parameters: Sequence[nn.Parameter]) -> None:
        parameters = [p for p in parameters if measurable(p)]
        rows = [self._row("weight", p) for p in parameters]
        self._meter.measure("weight", rows, [local(p) for p in parameters])

    def _row(self, kind: str, parameter: nn.Parameter) -> int:
        name = self._names[parameter]
        module = name.rpartition(".")[0] or "(model)"
        return self._meter.series.row(kind, name, local(parameter), module)


def _closure_of(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The closure that `step` was given, None without one; `args` begins with the optimizer."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    return closure if callable(closure) else None
