"""Batches become frames exactly once, in order of arrival."""

from __future__ import annotations

import numpy as np
from foreshock.wire import SeriesSchema
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store

from tests.factories import make_batch


def test_a_batch_comes_back_as_its_frames(
    store: Store, ingest: Ingest, schema: SeriesSchema
) -> None:
    """Steps, scalars and statistics are those that were sent."""
    batch = make_batch(schema=schema, num_frames=3, first_step=10)
    receipt = ingest.submit(batch).result(10)
    assert (receipt.status, receipt.seq, receipt.ord0) == ("stored", 0, 0)
    with store.read() as session:
        frames = read_frames(session, "run-1", 0, 0, 100)
    assert [(f.ord, f.step) for f in frames] == [(0, 10), (1, 11), (2, 12)]
    np.testing.assert_array_equal(np.stack([f.stats for f in frames]), batch.stats)
    assert frames[0].scalars == {"loss": batch.scalars[0, 0], "lr": 1e-3}
    assert frames[0].schema == schema


def test_a_batch_sent_twice_is_stored_once(
    store: Store, ingest: Ingest, schema: SeriesSchema
) -> None:
    """A client that missed the answer sends again, and gets the first place back."""
    for _ in range(2):
        answers = [ingest.submit(make_batch(schema=schema, seq=seq, first_step=4 * seq))
                   for seq in (0, 1, 1)]  # fmt: skip
        receipts = [answer.result(10) for answer in answers]
    assert [r.status for r in receipts] == ["duplicate"] * 3
    assert [r.ord0 for r in receipts] == [0, 4, 4]
    with store.read() as session:
        assert len(read_frames(session, "run-1", 0, 0, 100)) == 8
