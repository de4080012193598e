"""Runs stored through the real admission, and a detection that is run until nothing is left."""

from __future__ import annotations

from typing import Any

import numpy as np
from foreshock.wire import STATISTICS
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import schemas
from foreshock_service.store.session import Store
from pydantic import SecretStr

from tests.factories import make_batch, make_schema, make_stats

BATCH_FRAMES = 16


def settings_with_webhook() -> ServiceSettings:
    """One place that wants to be told; nothing is sent by detection itself."""
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    webhook: dict[str, Any] = {"name": "pager", "url": "http://127.0.0.1:9/", "secret": secret}
    return ServiceSettings.model_validate({"webhooks": [webhook]})


def store_run(
    store: Store,
    run: str,
    *,
    num_frames: int,
    nan_from: int | None = None,
    grow_from: int | None = None,
    rank: int = 0,
    seed: int = 0,
) -> None:
    """A run of four layers; `layers.1` turns NaN, or doubles every 10 steps, from a step on."""
    schema = make_schema()
    with store.write() as session:
        schemas.register(session, schema, now=0.0)
    stats = make_stats(num_frames, len(schema.series), seed=seed)
    column = {name: i for i, name in enumerate(STATISTICS)}
    if nan_from is not None:
        stats[nan_from:, 1:4, column["nan_count"]] = 4096
        stats[nan_from:, 1:4, column["std"]] = 0
    if grow_from is not None:
        factor = np.exp2(np.maximum(np.arange(num_frames) - grow_from, 0) / 10)
        for name in ("std", "min", "max"):
            stats[:, 1, column[name]] *= factor
    ingest = Ingest(store, ServiceSettings())
    ingest.start()
    try:
        waiting = [
            ingest.submit(
                make_batch(
                    run,
                    seq=seq,
                    rank=rank,
                    first_step=first,
                    num_frames=min(BATCH_FRAMES, num_frames - first),
                    schema=schema,
                    stats=stats[first : first + BATCH_FRAMES],
                )
            )
            for seq, first in enumerate(range(0, num_frames, BATCH_FRAMES))
        ]
        for future in waiting:
            future.result(timeout=30)
    finally:
        ingest.stop()


def drain(detection: Detection) -> int:
    """Run until nothing is left; how many frames were processed."""
    total = 0
    while done := detection.run_once():
        total += done
    return total
