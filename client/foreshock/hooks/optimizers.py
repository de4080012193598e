"""Optimizer hooks: gradients before the step, weights and updates after it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

from foreshock.hooks.activations import clean_name
from foreshock.hooks.compiled import uncompiled
from foreshock.hooks.guard import Guard
from foreshock.hooks.meter import Meter, local, measurable

_LEAST_SCALE: Final = 2.0**-126
"""The smallest normal float32. A loss scale that Inf upon Inf has halved to 0 has no reciprocal."""


def named_parameters(model: nn.Module) -> dict[nn.Parameter, str]:
    """Parameters by their first clean name; a tied weight appears once."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = model.module if isinstance(model, parallel) else model
    return {parameter: clean_name(name) for name, parameter in inner.named_parameters()}


@dataclass(slots=True, eq=False)
class _Watched:
    """A parameter by its name, its row of each kind, and the copy of its weights. Rows are kept
    because they never move; what a parameter holds is looked at anew on every step."""

    parameter: nn.Parameter
    name: str
    rows: dict[str, int] = field(default_factory=dict)
    previous: torch.Tensor | None = None
    mark: tuple[int, int] = (0, 0)
    """The weights' mark when they were copied."""


def _mark(weight: torch.Tensor) -> tuple[int, int]:
    """Another one after any write to the weight, but for one through `.data`: those are not
    counted."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


class OptimizerHooks:
    """Hooks on the step of each optimizer, for the parameters in `names`. `rename` names them anew
    when an optimizer is given one that is not among them. `before_step` is called before anything
    is measured, `after_step` after everything was, both with the optimizer.

    A gradient is measured by each `grads_ready`, before clipping, or else in the pre-hook; where
    the optimizer is given a closure, after the closure's first call, because the gradients before
    it are those of the step before. One copy of the weights is kept while updates are measured. It
    is made again where the loop itself has written to a weight between two steps, so that an update
    is what the optimizer made of the weight.
    """

    def __init__(
        self,
        names: dict[nn.Parameter, str],
        optimizers: Sequence[torch.optim.Optimizer],
        meter: Meter,
        guard: Guard,
        *,
        update_every: int,
        rename: Callable[[], dict[nn.Parameter, str]],
        before_step: Callable[[torch.optim.Optimizer], None],
        after_step: Callable[[torch.optim.Optimizer], None],
    ) -> None:
        self._watched = {id(p): _Watched(p, name) for p, name in names.items()}
        self._listed: dict[int, tuple[list[int], list[_Watched]]] = {}
        """For each optimizer, by id: the ids of its parameters, and what is watched of them."""
        self._rename = rename
        self._optimizers, self._meter, self._guard = optimizers, meter, guard
        self._update_every = update_every
        self._before_step, self._after_step = before_step, after_step
        self._ready: set[_Watched] = set()
        self._fresh: set[int] = set()
        """Optimizers, by id, whose last step was measured: its copies are the weights of now."""
        self._depth: dict[int, int] = {}
        """How many calls of `step` an optimizer, by id, is in: PyTorch runs the hooks around each
        class's, and a subclass may call that of its base and then move the weights on."""
        self._found_inf: list[torch.Tensor] = []
        self.has_every_gradient = True
        """False once there was a gradient without statistics, a sparse or complex one."""
        self._handles = [
            handle
            for optimizer in optimizers
            for handle in (
                optimizer.register_step_pre_hook(uncompiled(self._before)),
                optimizer.register_step_post_hook(uncompiled(self._after)),
            )
        ]

    def remove(self) -> None:
        """Take every hook off the optimizers, and let go of the weights' copies."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._watched.clear()
        self._listed.clear()
        self._fresh.clear()
        self._ready.clear()

    def take_found_inf(self) -> list[torch.Tensor]:
        """What a loss scaler found in this step, an element each; non-zero is a skipped step."""
        taken, self._found_inf = self._found_inf, []
        return taken

    def begin(self) -> None:
        """A training step begins: what `grads_ready` has marked was of the step before, which a
        loss scaler may have skipped without a word to the optimizer. No `step` is under way but
        one that raised an exception."""
        self._ready.clear()
        self._depth.clear()

    def grads_ready(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Measure the gradients of an optimizer's parameters now, or those of all parameters."""
        for each in self._optimizers:
            self._of(each)  # which may name new ones
        mine = self._watched.values() if optimizer is None else self._of(optimizer)
        # Marked by presence, not by being due, so that the pre-hook does not measure them clipped.
        present = [watched for watched in mine if watched.parameter.grad is not None]
        self._ready.update(present)
        self._measure_gradients(present, 1.0)

    def weights_only(self) -> None:
        """Measure the weights of a model that no optimizer of ours steps."""
        if "weight" in self._meter.due:
            self._measure_weights(w for w in self._watched.values() if measurable(w.parameter))

    def _before(
        self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        inside = self._depth.get(id(optimizer), 0)
        if inside:
            self._depth[id(optimizer)] = inside + 1
            return None
        self._guard.run("step", self._before_step, optimizer)  # which may end the training step
        self._depth[id(optimizer)] = 1
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
        inside = self._depth.pop(id(optimizer), 1) - 1
        if inside:
            self._depth[id(optimizer)] = inside
            return
        self._guard.run("weight", self._weights_of, optimizer)
        self._guard.run("step", self._after_step, optimizer)

    def _of(self, optimizer: torch.optim.Optimizer) -> list[_Watched]:
        """What is watched of the parameters that the optimizer has now, in its order."""
        ids = [id(p) for group in optimizer.param_groups for p in group["params"]]
        listed = self._listed.get(id(optimizer))
        if listed is None or listed[0] != ids:
            if any(key not in self._watched for key in ids):
                self._meet_new_parameters()
            listed = ids, [self._watched[key] for key in ids if key in self._watched]
            self._listed[id(optimizer)] = listed
        dense = [watched for watched in listed[1] if measurable(watched.parameter)]
        if len(dense) < len(listed[1]):
            learns = any(w.parameter.requires_grad for w in listed[1] if w not in dense)
            self.has_every_gradient = self.has_every_gradient and not learns
        return dense

    def _meet_new_parameters(self) -> None:
        """Name the parameters again, such as those of a layer that the model got later."""
        known = self._watched
        self._watched = {
            id(p): known.get(id(p)) or _Watched(p, name) for p, name in self._rename().items()
        }
        self._listed.clear()

    def _gradients_of(self, optimizer: torch.optim.Optimizer) -> None:
        # A fused optimizer under GradScaler unscales inside its kernel, and steps even on Inf.
        scale: float | torch.Tensor = 1.0
        grad_scale = getattr(optimizer, "grad_scale", None)
        if isinstance(grad_scale, torch.Tensor):
            scale = grad_scale.detach().clamp(min=_LEAST_SCALE).reciprocal()
        found_inf = getattr(optimizer, "found_inf", None)
        if isinstance(found_inf, torch.Tensor):
            self._found_inf.append(found_inf.detach().clone())
        mine, ready = self._of(optimizer), self._ready
        self._measure_gradients([w for w in mine if w not in ready] if ready else mine, scale)
        ready.difference_update(mine)

    def _measure_gradients(
        self, unmeasured: Sequence[_Watched], scale: float | torch.Tensor
    ) -> None:
        if "gradient" not in self._meter.due:
            return
        rows, gradients = [], []
        for watched in unmeasured:
            gradient = watched.parameter.grad
            if gradient is None:
                continue
            if not measurable(gradient):
                self.has_every_gradient = False
                continue
            rows.append(self._row("gradient", watched))
            gradients.append(local(gradient))
        self._meter.measure("gradient", rows, gradients, scale=scale)

    def _remember(self, optimizer: torch.optim.Optimizer, with_closure: bool) -> None:
        """Copy weights that have no copy yet, or one that is not what the step starts from: because
        their last step was not due, or because somebody else wrote to them."""
        if "update" not in self._meter.due:
            return
        fresh = id(optimizer) in self._fresh
        for watched in self._of(optimizer):
            parameter, before = watched.parameter, watched.previous
            if before is None:
                will_move = parameter.requires_grad if with_closure else parameter.grad is not None
                if will_move:  # else it is frozen or unused
                    watched.previous = local(parameter).clone()
                continue
            now = local(parameter)
            if not _fits(before, now):
                watched.previous = now.clone()
            elif not fresh or watched.mark != _mark(now):
                before.copy_(now)

    def _weights_of(self, optimizer: torch.optim.Optimizer) -> None:
        due, meter, mine = self._meter.due, self._meter, self._of(optimizer)
        copied: list[_Watched] = []
        if "update" in due:
            self._fresh.add(id(optimizer))
            copied = [watched for watched in mine if watched.previous is not None]
        else:
            self._fresh.discard(id(optimizer))
        if copied:
            self._measure_updates(copied)
            meter.measured.update(due & {"update", "weight"})
        if "weight" in due and len(copied) < len(mine):
            self._measure_weights(w for w in mine if not copied or w.previous is None)

    def _measure_updates(self, copied: Sequence[_Watched]) -> None:
        """Updates, and weights where they are due: they share one read."""
        with_weights = "weight" in self._meter.due
        updates, weights, tensors, previous = [], [], [], []
        for watched in copied:
            row = self._row("update", watched)
            if row >= 0 and watched.previous is not None:
                now = local(watched.parameter)
                watched.mark = _mark(now)
                updates.append(row)
                weights.append(self._row("weight", watched) if with_weights else -1)
                tensors.append(now)
                previous.append(watched.previous)
        self._meter.reducer.measure_update(updates, weights, tensors, previous)

    def _measure_weights(self, unmeasured: Iterable[_Watched]) -> None:
        rows, tensors = [], []
        for watched in unmeasured:
            rows.append(self._row("weight", watched))
            tensors.append(local(watched.parameter))
        self._meter.measure("weight", rows, tensors)

    def _row(self, kind: str, watched: _Watched) -> int:
        row = watched.rows.get(kind)
        if row is None:
            name = watched.name
            module = name.rpartition(".")[0] or "(model)"
            row = self._meter.series.row(kind, name, local(watched.parameter), module)
            if row >= 0:
                watched.rows[kind] = row
        return row


def _fits(copy: torch.Tensor, weight: torch.Tensor) -> bool:
    return (copy.shape, copy.dtype, copy.device) == (weight.shape, weight.dtype, weight.device)


def _closure_of(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The closure that `step` was given, None without one; `args` begins with the optimizer."""
    closure = args[1] if len(args) > 1 else kwargs.get("closure")
    return closure if callable(closure) else None
