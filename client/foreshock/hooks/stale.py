"""Compiled code that is older than the hooks: the compiler does not look for new hooks, so it would
run on without them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import nn

from foreshock.logs import logger


class StaleGraphs:
    """Finds out, after a model's first step, whether its compiled code knows the hooks, and if not
    lets everything be compiled anew, once.

    Whether code was compiled from this model cannot be read off the compiler. But a module that was
    trained without a call of its hook has run inside such code, if there was compiled code at all.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: nn.Module | None = model if _anything_is_compiled() else None

    def check(self, watched: Mapping[nn.Module, bool]) -> None:
        """After the first step: `watched` says of each module with a hook whether it was called."""
        model, self._model = self._model, None
        if model is None or torch.compiler.is_compiling():
            return
        known = set(watched)
        seen = {module for module, called in watched.items() if called}
        if any(_is_stale(part, seen, known) for part in [model, *_compiled_parts(model)]):
            logger.warning(
                "the model had been compiled and run before watch() was called: its first step has "
                "no activations, and it is compiled once more now. Call watch() before the first "
                "forward to spare both"
            )
            torch._dynamo.reset()


def _anything_is_compiled() -> bool:
    if "torch._dynamo" not in sys.modules:
        return False
    return bool(torch._dynamo.convert_frame.input_codes.seen)


def _compiled_parts(model: nn.Module) -> list[nn.Module]:
    """The modules that are compiled by themselves, as a wrapper or in place."""
    return [
        module
        for module in model.modules()
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None
    ]


def _is_stale(part: nn.Module, seen: set[nn.Module], known: set[nn.Module]) -> bool:
    inside = known.intersection(part.modules())
    trained = any(parameter.grad is not None for parameter in part.parameters())
    return bool(inside) and trained and not inside & seen
