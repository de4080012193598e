"""Schemas and batches for tests: small, deterministic, and valid until a test breaks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from foreshock.wire import (
    STATISTICS,
    ClientCounters,
    Event,
    FrameBatch,
    FrameFlag,
    Origin,
    Series,
    SeriesSchema,
    Table,
)

ATTEMPT = 1_700_000_000_000
START_SECONDS = 1_700_000_000.0
ALL_MEASURED = (
    FrameFlag.MEASURED_ACTIVATION
    | FrameFlag.MEASURED_ACTIVATION_GRAD
    | FrameFlag.MEASURED_GRADIENT
    | FrameFlag.MEASURED_WEIGHT
    | FrameFlag.MEASURED_UPDATE
)


def make_schema(
    num_layers: int = 4, kinds: Sequence[str] = ("activation", "gradient", "weight")
) -> SeriesSchema:
    """A schema of `num_layers` linear layers, each measured as every one of `kinds`."""
    return SeriesSchema(
        tuple(
            Series(
                name=f"layers.{depth}" + ("" if kind.startswith("activation") else ".weight"),
                kind=kind,
                module_type="Linear",
                depth=depth,
                numel=4096,
                dtype="float32",
                shape=(64, 64),
            )
            for kind in kinds
            for depth in range(num_layers)
        )
    )


def make_stats(num_frames: int, num_series: int, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Healthy statistics [frames, series, statistics] of tensors near N(0, 1)."""
    rng = np.random.default_rng(seed)
    stats = np.zeros((num_frames, num_series, len(STATISTICS)), np.float32)
    column = {name: stats[:, :, i] for i, name in enumerate(STATISTICS)}
    shape = (num_frames, num_series)
    column["count"][:] = 4096
    column["mean"][:] = rng.normal(0, 0.01, shape)
    column["std"][:] = rng.lognormal(0, 0.05, shape)
    column["min"][:] = -4 * column["std"]
    column["max"][:] = 4 * column["std"]
    column["batch_std"][:] = column["std"]
    return stats


def make_batch(
    run: str = "run-1",
    *,
    seq: int = 0,
    attempt: int = ATTEMPT,
    rank: int = 0,
    first_step: int = 0,
    num_frames: int = 4,
    schema: SeriesSchema | None = None,
    stats: npt.NDArray[np.float32] | None = None,
    scalars: Mapping[str, float | npt.NDArray[np.float64]] | None = None,
    events: Sequence[Event] = (),
    stream: str = "main",
    tables: Sequence[Table] = (),
    batch_ids: Sequence[str | None] = (),
    counters: ClientCounters | None = None,
    flags: FrameFlag = ALL_MEASURED,
    **origin: Any,
) -> FrameBatch:
    """A batch of `num_frames` consecutive steps, one second apart.

    Without `scalars` it carries a falling `loss` and a constant `lr`; without `schema` it carries
    no statistics. Statistics differ from step to step and are equal for equal arguments.
    """
    steps = np.arange(first_step, first_step + num_frames, dtype=np.int64)
    if scalars is None:
        scalars = {"loss": 2.0 / (1.0 + 0.01 * steps.astype(np.float64)), "lr": 1e-3}
    values = np.empty((num_frames, len(scalars)))
    for column, value in enumerate(scalars.values()):
        values[:, column] = value
    if stats is None:
        num_series = 0 if schema is None else len(schema.series)
        stats = make_stats(num_frames, num_series, seed=first_step)
        if schema is None:
            stats = np.zeros((num_frames, 0, 0), np.float32)
    return FrameBatch(
        origin=Origin(run=run, attempt=attempt, rank=rank, **origin),
        seq=seq,
        stream=stream,
        schema=None if schema is None else schema.hash,
        num_statistics=stats.shape[2],
        scalar_names=tuple(scalars),
        batch_ids=tuple(batch_ids),
        events=tuple(events),
        counters=counters or ClientCounters(frames_measured=first_step + num_frames),
        steps=steps,
        wall_times=START_SECONDS + steps.astype(np.float64),
        flags=np.full(num_frames, int(flags), np.uint32),
        scalars=values,
        scalar_present=np.ones_like(values, np.uint8),
        stats=stats,
        tables=tuple(tables),
    )
