"""Compiled code that is older than the hooks: the compiler does not look for new hooks, so it would
run on without them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import nn
from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list

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
        seen = {module for module, called in watched.items() if called}
        parts = [part for part in model.modules() if _was_compiled(part)]
        if not seen or any(_ran_unseen(part, set(watched), seen) for part in parts):
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


def _was_compiled(module: nn.Module) -> bool:
    """Whether a module is compiled by itself, or code was compiled from its forward."""
    if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
        return True
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and bool(_debug_get_cache_entry_list(code))


def _ran_unseen(part: nn.Module, watched: set[nn.Module], seen: set[nn.Module]) -> bool:
    """Whether what is inside was trained and none of it called its hook. The module itself is not
    asked: in some ways of compiling its hook is called by code that is not compiled."""
    inside = watched.intersection(part.modules()) - {part}
    trained = any(p.grad is not None for module in inside for p in module.parameters())
    return trained and not inside & seen
