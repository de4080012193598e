"""Forward hooks: activations are measured inside the hook, before anything can overwrite them, and
their gradients by a hook on the tensor itself. In compiled code an operator does both.

Module backward hooks are not used: they refuse in-place operations and wrap the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import torch
from torch import nn

from foreshock.hooks.compiled import ATTRIBUTE, Place, measure_output, run_as_it_is
from foreshock.hooks.guard import Guard
from foreshock.hooks.measured import LeafHooks, Measured, in_recomputation
from foreshock.hooks.meter import Meter
from foreshock.hooks.observed import Observations
from foreshock.hooks.outputs import float_tensors
from foreshock.hooks.selection import Selection

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
    container lists, such as the layers of a transformer. Never a wrapper: what is in it has its
    name."""
    listed = {
        id(_unwrapped(child))
        for _, module in named_modules(model)
        if isinstance(module, _CONTAINERS)
        for child in module.children()
    }
    for name, module in named_modules(model):
        if _unwrapped(module) is not module:
            continue
        leaf = next(module.children(), None) is None
        owner = bool(module._parameters)
        if (leaf or owner or id(module) in listed) and not isinstance(module, _SILENT):
            yield name or "(model)", module


def _unwrapped(module: nn.Module) -> nn.Module:
    """What a wrapper for compiling, sharding or checkpointing has in it; else the module."""
    for name in _WRAPPERS & module._modules.keys():
        inner = module._modules[name]
        if inner is not None:
            return _unwrapped(inner)
    return module


class _ForwardHook:
    """What a watched module calls after its forward. It stays with its module: a deep copy, such as
    an average of the weights, and a pickled model carry a call in its place that does nothing and
    needs no Foreshock where it is loaded."""

    def __init__(self, place: Place[_Watched]) -> None:
        self._place = place

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Measure the output, unless this forward is not one of training, or nothing is due.

        This is the path that every module takes in every forward: nothing is called that an idle
        step does not need.
        """
        if torch.compiler.is_compiling():
            # The hook itself must stay out of the graph: nothing of `self` is read here.
            measure_output(module, output)
            return
        for watched in self._place.receivers:
            if (watched.meter.forward_due or not watched.called) and _is_training(module):
                again = in_recomputation()
                measure = watched.after_recomputation if again else watched.after_forward
                watched.guard.run(watched.part, measure, output)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """How pickle and copy see it: a method of the standard library that takes anything and
        returns None."""
        return getattr, (nullcontext(), "__exit__")


# Where only the inside of a module is compiled, its hook is called by code that is not: without
# this the compiler would make a graph of the hook by itself.
run_as_it_is(_ForwardHook.__call__)


class _Watched:
    """A module of one watch: what happens after its forward, in eager mode or in a graph."""

    def __init__(
        self,
        module: nn.Module,
        measured: Measured,
        meter: Meter,
        guard: Guard,
        *,
        part: str,
        on_first: Callable[[], None],
        on_forward: Callable[[], None],
    ) -> None:
        self.module, self.meter, self.guard, self.part = module, meter, guard, part
        self._measured = measured
        self._on_first, self._on_forward = on_first, on_forward
        self._epoch = -1
        self.called = False
        """Whether a training forward has come here."""

    def after_forward(self, output: Any) -> None:
        """Measure an output of eager mode, and have its gradients measured."""
        self._begin()
        meter, measured = self.meter, self._measured
        activation, gradient = meter.activation_due, meter.gradient_due
        if activation or gradient:
            for path, tensor in float_tensors(output):
                if activation:
                    measured.activation(path, tensor)
                if gradient and tensor.requires_grad:
                    measured.follow(path, tensor)

    def after_recomputation(self, output: Any) -> None:
        """Have the gradients of an output measured that is made again in the backward pass. Under
        reentrant checkpointing these tensors are the ones that have gradients, for the forward made
        no graph; without it nothing goes back through them, and their hooks stay silent."""
        if self.meter.gradient_due:
            for path, tensor in float_tensors(output):
                if tensor.requires_grad:
                    self._measured.follow(path, tensor)

    def in_forward(self, path: str, tensor: torch.Tensor) -> None:
        """Measure an output of compiled code."""
        due = self.meter.forward_due or not self.called
        if due and _is_training(self.module) and not in_recomputation():
            self.guard.run(self.part, self._in_forward, path, tensor)

    def in_backward(self, path: str, gradient: torch.Tensor) -> None:
        """Measure a gradient of compiled code, if its forward was one of this step's training."""
        if self.meter.gradient_due and self._epoch == self.meter.epoch:
            self.guard.run(f"activation_grad {self.part}", self._measured.gradient, path, gradient)

    def _in_forward(self, path: str, tensor: torch.Tensor) -> None:
        self._begin()
        self._epoch = self.meter.epoch
        if self.meter.activation_due:
            self._measured.activation(path, tensor)

    def _begin(self) -> None:
        if self.meter.listening:
            self._on_forward()
        if not self.called:
            self.called = True
            self._on_first()


class ActivationHooks:
    """Hooks on named modules. `on_forward` is called when a training forward reaches any of them,
    before it is measured: a step may begin there. `selection` says which tensors given to
    `observe` are measured; `kinds` are those that are ever due."""

    def __init__(
        self,
        modules: Iterable[tuple[str, nn.Module]],
        meter: Meter,
        guard: Guard,
        *,
        selection: Selection,
        on_forward: Callable[[], None],
        kinds: Collection[str],
    ) -> None:
        self._meter, self._guard = meter, guard
        self._on_forward, self._kinds = on_forward, kinds
        self._leaves = LeafHooks()
        self.observations = Observations(
            meter, guard, self._leaves, selection=selection, kinds=kinds
        )
        self._watched: list[_Watched] = []
        self.add(modules)

    def add(self, modules: Iterable[tuple[str, nn.Module]]) -> None:
        """Hook those of the modules that have no hook of this watch yet."""
        hooked, meter, guard = set(self.modules), self._meter, self._guard
        for name, module in modules:
            if module not in hooked:
                watched = _Watched(
                    module,
                    Measured(name, module, meter, guard, self._leaves),
                    meter,
                    guard,
                    part=f"activation {name}",
                    on_first=partial(meter.series.saw_forward, name),
                    on_forward=self._on_forward,
                )
                self._watched.append(watched)
                _place_of(module).join(watched, self._kinds)

    @property
    def modules(self) -> dict[nn.Module, bool]:
        """The modules with a hook, and whether a training forward has called it."""
        return {watched.module: watched.called for watched in self._watched}

    def remove(self) -> None:
        """Take every hook off the model. Where compiled code measures one stays, which does
        nothing: to take it off would be to compile that code once more."""
        watched, self._watched = self._watched, []
        for item in watched:
            _leave(item)
        self.observations.remove()
        self._leaves.forget()


def _place_of(module: nn.Module) -> Place[_Watched]:
    """The place of a module, with the one hook on it that all watches share."""
    place: Place[_Watched] | None = module.__dict__.get(ATTRIBUTE)
    if place is None:
        place = Place()
        place.hook = module.register_forward_hook(_ForwardHook(place))
        # Not by setattr: it is no part of the model, and some modules refuse what they don't know.
        module.__dict__[ATTRIBUTE] = place
    return place


def _leave(watched: _Watched) -> None:
    place: Place[_Watched] | None = watched.module.__dict__.get(ATTRIBUTE)
    if place is not None:
        place.leave(watched)
        if not place.receivers and not place.in_graph and place.hook is not None:
            place.hook.remove()
            del watched.module.__dict__[ATTRIBUTE]


def _is_training(module: nn.Module) -> bool:
    return module.training and not torch.is_inference_mode_enabled()
