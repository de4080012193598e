"""Runs of several ranks, stored through the real admission."""

from __future__ import annotations

import numpy as np
from foreshock.wire import STATISTICS, Event, FrameFlag
from foreshock_service.pipeline.compare import Compare
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import schemas
from foreshock_service.store.incidents import StoredIncident, list_incidents
from foreshock_service.store.session import Store

from tests.factories import ALL_MEASURED, ATTEMPT, make_batch, make_schema, make_stats

WEIGHT = 9
"""The series that a fault changes: `layers.1.weight` as a weight."""
FRAMES = 16


def store_ranks(
    store: Store,
    run: str,
    *,
    num_frames: int = 64,
    ranks: tuple[int, ...] = (0, 1, 2),
    odd: int | None = None,
    since: int = 30,
    attempt: int = ATTEMPT,
    first: int = 0,
    sharded: bool = False,
    late: dict[int, int] | None = None,
    thinned: frozenset[int] = frozenset(),
    world: int | None = None,
) -> None:
    """Frames of every rank; the weights of rank `odd` change from step `since` on.

    The `world` has as many ranks as are stored unless it is given.

    `late` ranks begin at a step of their own; `thinned` ones measure weights on every third step.
    """
    schema, num_ranks = make_schema(), world or len(ranks)
    started = Event(kind="started", wall_time=1.0, data={"name": run, "world": num_ranks})
    with store.write() as session:
        schemas.register(session, schema, now=0.0)
    ingest = Ingest(store, ServiceSettings())
    ingest.start()
    try:
        for start in range(first, first + num_frames, FRAMES):
            for rank in ranks:
                stats = make_stats(FRAMES, len(schema.series), seed=start + 1000 * rank * sharded)
                steps = np.arange(start, start + FRAMES)
                if rank == odd:
                    stats[steps >= since, WEIGHT, STATISTICS.index("max")] *= 1.01
                batch = make_batch(
                    run, seq=start // FRAMES, rank=rank, attempt=attempt, first_step=start,
                    num_frames=FRAMES, schema=schema, stats=stats, world=num_ranks,
                    host=f"node-{rank}", events=(started,) if start == first else (),
                )  # fmt: skip
                flags = batch.flags.copy()
                if rank in thinned:
                    flags[steps % 3 != 0] = int(ALL_MEASURED & ~FrameFlag.MEASURED_WEIGHT)
                    batch.flags[:] = flags
                    stats[steps % 3 != 0, 8:] = np.nan
                if start < (late or {}).get(rank, 0):
                    continue
                ingest.submit(batch).result(timeout=30)
    finally:
        ingest.stop()


def drain(compare: Compare) -> int:
    """Run until nothing is left; how many units of work there were."""
    total = 0
    while done := compare.run_once():
        total += done
    return total


def told(store: Store, run: str) -> list[StoredIncident]:
    """The incidents of a run."""
    with store.read() as session:
        return list_incidents(session, run)
