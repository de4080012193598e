"""Foreshock: find the first layer that went wrong, steps before the loss moves."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foreshock.watching import Watch, watch

__all__ = ["Watch", "__version__", "watch"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    """What a prompt offers after `foreshock.`: the public names."""
    return sorted(__all__)


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Load the client only when it is used, so that `import foreshock` costs a trainer
        nothing."""
        if name in ("Watch", "watch"):
            return getattr(importlib.import_module("foreshock.watching"), name)
        raise AttributeError(f"module 'foreshock' has no attribute {name!r}")
