"""Tensors that the user hands in, because no module returns them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from foreshock.hooks.compiled import Place
from foreshock.hooks.guard import Guard
from foreshock.hooks.measured import LeafHooks, Measured, in_recomputation
from foreshock.hooks.meter import Meter, measurable
from foreshock.hooks.selection import Selection


class Observations:
    """Measures tensors under the user's names, those that `selection` wants. Compiled code does it
    at `place`; `kinds` are those that are ever due."""

    def __init__(
        self,
        meter: Meter,
        guard: Guard,
        leaves: LeafHooks,
        *,
        selection: Selection,
        kinds: Collection[str],
    ) -> None:
        self._meter, self._guard, self._leaves = meter, guard, leaves
        self._selection = selection
        self._known: dict[str, Measured] = {}
        self._came: set[str] = set()
        """Names that compiled code gave in the step `_epoch`."""
        self._epoch = -1
        self.place = Place[Observations]()
        self.place.join(self, kinds)

    def measure(self, name: Any, tensor: Any) -> None:
        """Measure a tensor of eager mode."""
        if not isinstance(name, str) or not name:
            raise TypeError("observe(name, tensor): the first argument is the name, a text")
        if not isinstance(tensor, torch.Tensor) or not measurable(tensor):
            raise TypeError(f"observe({name!r}): give a dense tensor of floats")
        if in_recomputation() or not self._selection.wants(name, tensor):
            return
        measured = self._measured(name)
        if self._meter.activation_due:
            measured.activation("", tensor)
        if self._meter.gradient_due and tensor.requires_grad:
            measured.follow("", tensor)
        self._keep(name, measured)

    def in_forward(self, path: str, tensor: torch.Tensor) -> None:
        """Measure a tensor of compiled code; its name is the path."""
        if self._meter.activation_due or self._meter.gradient_due:
            self._guard.run(f"observe {path}", self._in_forward, path, tensor)

    def in_backward(self, path: str, gradient: torch.Tensor) -> None:
        """Measure its gradient, if it came in this step."""
        if self._meter.gradient_due and self._epoch == self._meter.epoch and path in self._came:
            self._guard.run(f"observe {path}", self._in_backward, path, gradient)

    def remove(self) -> None:
        """Observe nothing more."""
        self.place.leave(self)
        self._known.clear()

    def _in_forward(self, name: str, tensor: torch.Tensor) -> None:
        if in_recomputation() or not self._selection.wants(name, tensor):
            return
        if self._epoch != self._meter.epoch:
            self._epoch = self._meter.epoch
            self._came.clear()
        self._came.add(name)
        if self._meter.activation_due:
            measured = self._measured(name)
            measured.activation("", tensor)
            self._keep(name, measured)

    def _in_backward(self, name: str, gradient: torch.Tensor) -> None:
        measured = self._measured(name)
        measured.gradient("", gradient)
        self._keep(name, measured)

    def _measured(self, name: str) -> Measured:
        known = self._known.get(name)
        return known or Measured(name, None, self._meter, self._guard, self._leaves)

    def _keep(self, name: str, measured: Measured) -> None:
        """Know the name from now on, if there was room for it: a step number in a name must not
        fill the memory."""
        if measured.has_rows:
            self._known[name] = measured
