"""Runs in which a loss or a level that stays or runs away means little: players, and rewards."""

from __future__ import annotations

from typing import Final

from foreshock_service.domain.frames import Frame

_SCALARS: Final = frozenset({"loss_d", "loss_g", "mean_return", "entropy", "reward", "mean_q"})
"""What such runs log and others do not."""


def is_game(frame: Frame) -> bool:
    """Whether two players train against each other, or one against a world."""
    return not _SCALARS.isdisjoint(frame.scalars)
