"""Forward hooks: activations are measured inside the hook, before anything can overwrite them, and
their gradients by a hook on the tensor itself.

Module backward hooks are not used: they refuse in-place operations and wrap the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from foreshock.hooks.guard import Guard
from foreshock.hooks.meter import Meter, local, measurable
from foreshock.hooks.outputs import float_tensors, unit_view
from foreshock.hooks.selection import Selection
from foreshock.hooks.series import OBSERVED
from foreshock.reducers.protocol import UnitView

_CONTAINERS: Final = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_SILENT: Final = (nn.Identity, nn.Dropout, nn.Flatten, nn.Unflatten, *_CONTAINERS)
"""Their outputs are those of another module over again."""
_WRAPPERS: Final = frozenset(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)


def clean_name(name: str) -> str:
    """A qualified name without the parts that compiling, sharding and checkpointing put in."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once, by its clean name; the inside of a data-parallel wrapper as the model."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = model.module if isinstance(model, parallel) else model
    for name, module in inner.named_modules():
        yield clean_name(name), module


def watched_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules whose outputs are measured: leaves, owners of parameters, and the blocks that a
    container lists, such as the layers of a transformer."""
    listed = {
        id(child)
        for _, module in named_modules(model)
        if isinstance(module, _CONTAINERS)
        for child in module.children()
    }
    for name, module in named_modules(model):
        leaf = next(module.children(), None) is None
        owner = bool(module._parameters)
        if (leaf or owner or id(module) in listed) and not isinstance(module, _SILENT):
            yield name or "(model)", module


class _ForwardHook:
    """What a watched module calls after its forward. It stays with its module: a deep copy, such as
    an average of the weights, and a pickled model carry a call in its place that does nothing and
    needs no Foreshock where it is loaded."""

    def __init__(
        self, name: str, guard: Guard, after_forward: Callable[[str, nn.Module, Any], None]
    ) -> None:
        self._name, self._part = name, f"activation {name}"
        self._guard, self._after_forward = guard, after_forward

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Measure the output, unless this forward is not one of training."""
        # Under torch.compile this is constant, and the hook disappears from the graph: nothing
        # is measured inside compiled regions, and no graph break is added.
        if torch.compiler.is_compiling():
            return
        if module.training and not torch.is_inference_mode_enabled() and not _in_recomputation():
            self._guard.run(self._part, self._after_forward, self._name, module, output)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """How pickle and copy see it: a method of the standard library that takes anything and
        returns None."""
        return getattr, (nullcontext(), "__exit__")


class ActivationHooks:
    """Hooks on named modules. `on_forward` is called when a training forward reaches any of them,
    before it is measured: a step may begin there. `selection` says which tensors given to
    `observe` are measured."""

    def __init__(
        self,
        modules: Iterable[tuple[str, nn.Module]],
        meter: Meter,
        guard: Guard,
        *,
        selection: Selection,
        on_forward: Callable[[], None],
    ) -> None:
        self._meter, self._guard, self._on_forward = meter, guard, on_forward
        self._selection = selection
        self._leaf_hooks: list[RemovableHandle] = []
        self._leaf_epoch = meter.epoch
        self._handles = [
            module.register_forward_hook(_ForwardHook(name, guard, self._after_forward))
            for name, module in modules
        ]

    def remove(self) -> None:
        """Take every hook off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._forget_leaves()

    def observe(self, name: Any, tensor: Any) -> None:
        """Measure a tensor that no module returns, under a name of the user's."""
        if not isinstance(name, str) or not name:
            raise TypeError("observe(name, tensor): the first argument is the name, a text")
        if not isinstance(tensor, torch.Tensor) or not measurable(tensor):
            raise TypeError(f"observe({name!r}): give a dense tensor of floats")
        if _in_recomputation() or not self._selection.wants(name, tensor):
            return
        self._measure(name, OBSERVED, tensor, None, None)

    def _after_forward(self, name: str, module: nn.Module, output: Any) -> None:
        self._on_forward()
        self._meter.series.saw_forward(name)
        if not self._meter.due & {"activation", "activation_grad"}:
            return
        for path, tensor in float_tensors(output):
            self._measure(name + path, "", tensor, name, module)

    def _measure(
        self,
        name: str,
        module_type: str,
        tensor: torch.Tensor,
        module_name: str | None,
        module: nn.Module | None,
    ) -> None:
        meter = self._meter
        place = module_name if module_name is not None else name
        values = local(tensor)
        if "activation" in meter.due:
            row = meter.series.row("activation", name, values, place, module_type)
            units: list[UnitView | None] = [unit_view(module, values)]
            meter.measure("activation", [row], [values], units=units)
        if "activation_grad" in meter.due and tensor.requires_grad:
            row = meter.series.row("activation_grad", name, values, place, module_type)
            if row >= 0:
                handle = tensor.register_hook(self._gradient_hook(row, name, meter.epoch))
                if tensor.is_leaf:
                    self._remember_leaf(handle)

    def _remember_leaf(self, handle: RemovableHandle) -> None:
        """A leaf, such as a parameter that a module returns, outlives its step with every hook."""
        if self._leaf_epoch != self._meter.epoch:
            self._forget_leaves()
            self._leaf_epoch = self._meter.epoch
        self._leaf_hooks.append(handle)

    def _forget_leaves(self) -> None:
        for handle in self._leaf_hooks:
            handle.remove()
        self._leaf_hooks = []

    def _gradient_hook(self, row: int, name: str, epoch: int) -> Callable[[torch.Tensor], None]:
        part = f"activation_grad {name}"

        def measure(gradient: torch.Tensor) -> None:
            if torch.compiler.is_compiling():
                return
            self._guard.run(part, self._gradient, row, gradient, epoch)

        return measure

    def _gradient(self, row: int, gradient: torch.Tensor, epoch: int) -> None:
        # A graph kept from an earlier step may be walked again: its rows belong to that step.
        if epoch == self._meter.epoch and measurable(gradient):
            self._meter.measure("activation_grad", [row], [local(gradient)])


def _in_recomputation() -> bool:
    """Whether a forward runs inside a backward, as activation checkpointing makes it."""
    return torch._C._current_graph_task_id() != -1
