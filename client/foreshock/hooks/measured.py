"""Outputs into their rows: the activations of one module, or of one observed name, and their
gradients."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from foreshock.hooks.guard import Guard
from foreshock.hooks.meter import Meter, local, measurable
from foreshock.hooks.outputs import unit_view
from foreshock.hooks.series import OBSERVED
from foreshock.reducers.protocol import UnitView

_MAX_PLANS: Final = 64
"""Shapes remembered for one module; a training on sequences of every length begins again."""

_Plan = tuple[int, UnitView | None]


def in_recomputation() -> bool:
    """Whether a forward runs inside a backward, as activation checkpointing makes it."""
    return torch._C._current_graph_task_id() != -1


class LeafHooks:
    """Hooks on leaves: such a tensor, a parameter that a module returns, outlives its step with
    every hook on it."""

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._epoch = -1

    def remember(self, handle: RemovableHandle, epoch: int) -> None:
        """Keep the hook until the next step's first."""
        if self._epoch != epoch:
            self.forget()
            self._epoch = epoch
        self._handles.append(handle)

    def forget(self) -> None:
        """Take them all off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class Measured:
    """The series of one module's outputs; without a module, of a tensor that the user hands in.
    Rows and unit views are looked up once a shape."""

    def __init__(
        self, name: str, module: nn.Module | None, meter: Meter, guard: Guard, leaves: LeafHooks
    ) -> None:
        self._name, self._module = name, module
        self._meter, self._guard, self._leaves = meter, guard, leaves
        self._part = f"activation_grad {name}"
        self._plans: dict[tuple[str, torch.Size, tuple[int, ...], torch.dtype], _Plan] = {}
        self._gradient_rows: dict[str, int] = {}

    @property
    def has_rows(self) -> bool:
        """Whether the series table had room for any of it."""
        return bool(self._plans or self._gradient_rows)

    def activation(self, path: str, tensor: torch.Tensor) -> None:
        """Measure an output now: later it may be overwritten."""
        values = tensor.detach() if type(tensor) is torch.Tensor else local(tensor)
        key = (path, values.shape, values.stride(), values.dtype)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._row("activation", path, values), unit_view(self._module, values)
            if plan[0] < 0:
                return
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        self._meter.measure_one("activation", plan[0], values, plan[1])

    def follow(self, path: str, tensor: torch.Tensor) -> None:
        """Measure the gradient of an output when the backward pass comes to it."""
        row, epoch = self._gradient_row(path, tensor), self._meter.epoch
        if row >= 0:
            handle = tensor.register_hook(self._gradient_hook(row, epoch))
            if tensor.is_leaf:
                self._leaves.remember(handle, epoch)

    def gradient(self, path: str, gradient: torch.Tensor) -> None:
        """Measure a gradient that is there."""
        row = self._gradient_row(path, gradient)
        if row >= 0:
            self._gradient(row, self._meter.epoch, gradient)

    def _gradient_hook(self, row: int, epoch: int) -> Callable[[torch.Tensor], None]:
        # Weakly: autograd holds its hooks where the garbage collector does not look, and a model
        # that keeps one of its outputs would hold itself that way, for ever.
        owner = weakref.ref(self)

        def measure(gradient: torch.Tensor) -> None:
            if not torch.compiler.is_compiling():
                measured = owner()
                if measured is not None:
                    measured._guard.run(measured._part, measured._gradient, row, epoch, gradient)

        return measure

    def _gradient(self, row: int, epoch: int, gradient: torch.Tensor) -> None:
        # A graph kept from an earlier step may be walked again: its rows belong to that step.
        if epoch == self._meter.epoch and measurable(gradient):
            self._meter.measure_one("activation_grad", row, local(gradient), None)

    def _gradient_row(self, path: str, tensor: torch.Tensor) -> int:
        row = self._gradient_rows.get(path)
        if row is None:
            row = self._row("activation_grad", path, local(tensor))
            if row >= 0:
                self._gradient_rows[path] = row
        return row

    def _row(self, kind: str, path: str, values: torch.Tensor) -> int:
        name, place = self._name + path, self._name
        module_type = OBSERVED if self._module is None else ""
        return self._meter.series.row(kind, name, values, place, module_type)
