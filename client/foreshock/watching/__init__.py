"""The public API: `watch` a model, and tell it what no hook can see."""

from foreshock.watching.attach import watch
from foreshock.watching.handle import Watch

__all__ = ["Watch", "watch"]
