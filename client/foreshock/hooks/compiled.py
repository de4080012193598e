"""Measuring inside `torch.compile`: an operator with an effect, which the compiler keeps in place,
in order and once, and whose body runs in Python as a hook does in eager mode.

What a graph is compiled from must not depend on the watch: the place of a measurement enters it as
a tensor, found through the module and never through the hook, so that layers of one shape go on
sharing one graph, and whether anything is due is asked in the body, so that nothing recompiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from typing import Any, Final, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch._C._dynamo.eval_frame import (
    _FrameAction,
    _FrameExecStrategy,
    set_code_exec_strategy,
)
from torch._library.effects import EffectType
from torch.utils.hooks import RemovableHandle

ATTRIBUTE: Final = "_foreshock"
"""Attribute of a watched module that holds its place."""
_MAX_TENSORS: Final = 8
_MAX_DEPTH: Final = 4
_numbers: Final = itertools.count(1)
_places: Final[WeakValueDictionary[int, Place[Any]]] = WeakValueDictionary()
"""Places that somebody listens at, while their model lives; a graph that outlives its watch finds
nothing here."""


class Receiver(Protocol):
    """Gets what is measured at a place. `path` tells the tensors of one output apart."""

    def in_forward(self, path: str, tensor: torch.Tensor) -> None:
        """A graph has computed `tensor`; it is valid during the call only."""
        ...

    def in_backward(self, path: str, gradient: torch.Tensor) -> None:
        """A graph has computed the gradient of the tensor that had this path."""
        ...


_R = TypeVar("_R", bound=Receiver)
_H = TypeVar("_H", bound=Callable[..., Any])


class Place(Generic[_R]):
    """Where graphs measure: a module, or a watch that is given tensors. It outlives its receivers
    with the graphs that were compiled with it. A copied or pickled one is None, so that a copy of
    the model measures nowhere and needs no Foreshock."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.id = torch.tensor([self.number], device="cpu")
        self.receivers: list[_R] = []
        self.hook: RemovableHandle | None = None
        """The hook that puts measurements into graphs; None if that is not done by a hook."""
        self.wanted = self.gradient = False
        """Whether graphs measure here at all, and gradients too; both are compiled in."""
        self.in_graph = False
        """Whether a graph has measured here."""

    def join(self, receiver: _R, kinds: Collection[str]) -> None:
        """Let a receiver have what is measured here, if it is of one of the kinds."""
        self.receivers.append(receiver)
        self.wanted = self.wanted or bool({"activation", "activation_grad"}.intersection(kinds))
        self.gradient = self.gradient or "activation_grad" in kinds
        _places[self.number] = self

    def leave(self, receiver: _R) -> None:
        """Let it have no more."""
        if receiver in self.receivers:
            self.receivers.remove(receiver)
        if not self.receivers:
            _places.pop(self.number, None)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def measure_output(module: nn.Module, output: Any) -> None:
    """Put the measurement of a module's output into the graph that is being traced."""
    # Graphs of an evaluation stay as they are. In evaluation mode with gradients the body decides.
    if torch.is_grad_enabled() or module.training:
        measure_tensors(getattr(module, ATTRIBUTE), "", output)


def measure_tensors(place: Place[Any] | None, path: str, value: Any) -> None:
    """Put the measurement of the float tensors in `value` into the graph that is being traced."""
    if place is None or not place.wanted:
        return
    # A program that is exported runs where there is no Foreshock.
    if torch.compiler.is_exporting() or not _effects_allowed():
        return
    found: list[tuple[str, torch.Tensor]] = []
    _collect(value, path, 0, found)
    for name, tensor in found[:_MAX_TENSORS]:
        torch.ops.foreshock.measure(tensor, place.id, name, place.gradient)


def _collect(value: Any, path: str, depth: int, found: list[tuple[str, torch.Tensor]]) -> None:
    """As `float_tensors`, of what the compiler can look into without a graph break."""
    if type(value) is torch.Tensor:
        if value.is_floating_point() and value.layout is torch.strided:
            found.append((path, value))
    elif depth == _MAX_DEPTH:
        return
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            _collect(item, f"{path}[{i}]", depth + 1, found)
    elif type(value) is dict:
        for key, item in value.items():
            if isinstance(key, str | int):
                _collect(item, f"{path}[{key}]", depth + 1, found)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # torch leaves it so
def _effects_allowed() -> bool:
    """Whether an operator with an effect may stand here; called by the tracer, not by the graph.

    Inside control flow (`cond`, `scan`), custom autograd functions and the transforms of
    `torch.func` it may not, and would be an error of the user's. Checkpointing is known to work.
    """
    try:
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return False
        from torch._dynamo.symbolic_convert import InstructionTranslator  # noqa: PLC0415 - slow

        tracer: Any = InstructionTranslator.current_tx().output.current_tracer
        while tracer.parent is not None:
            if tracer.source_target is not torch.ops.higher_order.tag_activation_checkpoint:
                return False
            tracer = tracer.parent
    except Exception:  # noqa: BLE001 - the tracer's insides may change: then nothing is measured
        return False
    return True


def run_as_it_is(function: Callable[..., object]) -> None:
    """Let the compiler leave a function, and what it calls, alone where it is called from code that
    is not compiled. It goes on looking into it from code that is."""
    skip = _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP)
    set_code_exec_strategy(function.__code__, skip)


def uncompiled(hook: _H) -> _H:
    """A hook of a step that may be compiled: it runs between the graphs of that step."""
    found: _H = torch.compiler.disable(
        hook, reason="Foreshock reads gradients and weights around the optimizer's step"
    )
    return found


def _measure(tensor: torch.Tensor, place: torch.Tensor, path: str, gradient: bool) -> None:
    at = _places.get(int(place))
    if at is not None:
        at.in_graph = True
        for receiver in at.receivers:
            receiver.in_forward(path, tensor)


def _measure_gradient(gradient: torch.Tensor, place: torch.Tensor, path: str) -> None:
    at = _places.get(int(place))
    if at is not None:
        for receiver in at.receivers:
            receiver.in_backward(path, gradient)


def _with_gradient(tensor: torch.Tensor, place: torch.Tensor, path: str, gradient: bool) -> None:
    """What autograd does at a measurement. While a joint graph is traced the tensor's hook is
    traced with it: the gradient is measured in the backward graph, and the forward's tensors are
    those that they are without us."""
    if gradient and tensor.requires_grad and not tensor.is_leaf:

        def measure(grad: torch.Tensor) -> None:
            torch.ops.foreshock.measure_gradient(grad, place, path)

        tensor.register_hook(measure)
    with torch._C._AutoDispatchBelowAutograd():
        torch.ops.foreshock.measure(tensor, place, path, gradient)


def _no_values(*args: object) -> None:
    """What the operators do to tensors without values: nothing."""


def _define() -> torch.library.Library:
    library = torch.library.Library("foreshock", "DEF")
    # A CUDA graph would replay the kernels without the body.
    tags = tuple(t for t in [getattr(torch.Tag, "cudagraph_unsafe", None)] if t is not None)
    library.define("measure(Tensor x, Tensor place, str path, bool gradient) -> ()", tags=tags)
    library.define("measure_gradient(Tensor x, Tensor place, str path) -> ()", tags=tags)
    for name, body in (("measure", _measure), ("measure_gradient", _measure_gradient)):
        library.impl(name, body, "CompositeExplicitAutograd")
        torch.library.register_fake(f"foreshock::{name}", _no_values, lib=library)
        library._register_effectful_op(f"foreshock::{name}", EffectType.ORDERED)
    library.impl("measure", _with_gradient, "Autograd")
    return library


_library: Final = _define()
