"""Frames of two small layers whose gradients have the norms that a test wants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from foreshock.wire import STATISTICS, FrameFlag, SeriesSchema
from foreshock_service.domain.frames import Frame

from tests.factories import ALL_MEASURED, ATTEMPT, make_schema

ELEMENTS = 4096
SCHEMA = make_schema(num_layers=2, kinds=("gradient", "weight"))
COLUMN = {name: i for i, name in enumerate(STATISTICS)}


def frame(
    number: int,
    l2: Sequence[float | None] = (),
    *,
    weights: Sequence[float | None] = (),
    scalars: Mapping[str, float] | None = None,
    flags: FrameFlag = ALL_MEASURED,
    attempt: int = ATTEMPT,
    schema: SeriesSchema = SCHEMA,
) -> Frame:
    """A frame; None is a tensor that was not measured, NaN and Inf one with such an element.

    Elements are +-l2 / 64 each, of 4096: the largest is a sixty-fourth of the norm.
    """
    stats = np.full((len(schema.series), len(STATISTICS)), np.nan, np.float32)
    for row, norm in enumerate([*l2, *weights]):
        if norm is None:
            continue
        stats[row] = 0.0
        stats[row, COLUMN["count"]] = ELEMENTS
        size = norm / math.sqrt(ELEMENTS) if math.isfinite(norm) else 1.0
        stats[row, COLUMN["std"]] = size
        stats[row, COLUMN["min"]], stats[row, COLUMN["max"]] = -size, size
        stats[row, COLUMN["nan_count"]] = math.isnan(norm)
        stats[row, COLUMN["inf_count"]] = math.isinf(norm)
    return Frame(
        ord=number,
        attempt=attempt,
        step=number,
        wall_time=float(number),
        flags=flags,
        scalars=dict(scalars or {}),
        stats=stats,
        schema=schema,
    )
