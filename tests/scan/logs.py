"""Losses of made-up runs: a sound one, and one that blows up."""

from __future__ import annotations

import math
import random

NUM_ROWS = 160
BROKEN_AT = 120


def losses(*, sick: bool, num_rows: int = NUM_ROWS) -> list[float]:
    """A falling, noisy loss; where `sick` it is NaN from `BROKEN_AT` on."""
    noise = random.Random(7)
    sound = [2.0 + 3.0 * math.exp(-i / 40) + noise.gauss(0, 0.02) for i in range(num_rows)]
    return [math.nan if sick and i >= BROKEN_AT else loss for i, loss in enumerate(sound)]


def csv_of(*, sick: bool, header: str = "step,loss") -> str:
    """The run as CSV, every tenth step logged."""
    rows = [f"{10 * i},{loss!r}" for i, loss in enumerate(losses(sick=sick))]
    return "\n".join([header, *rows]) + "\n"
