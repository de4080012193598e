"""Writes batches straight through admission, without the ingest thread."""

from __future__ import annotations

from foreshock.wire import FrameBatch, SeriesSchema
from foreshock_service.pipeline.admission import Receipt, admit, prepare
from foreshock_service.store import schemas
from foreshock_service.store.session import Store
from foreshock_service.store.tables import detector_state
from sqlalchemy import delete, insert


def write(store: Store, *batches: FrameBatch, schema: SeriesSchema | None = None) -> list[Receipt]:
    """Store batches in one transaction, with their schema; every one must be accepted."""
    with store.write() as session:
        if schema is not None:
            schemas.register(session, schema, now=0.0)
        answers = admit(session, [prepare(batch) for batch in batches], now=1000.0)
    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    assert len(batches) == len(receipts), answers
    return receipts


def detected(store: Store, run_id: str, next_ord: int, *, rank: int = 0) -> None:
    """Say that detection has read every frame below `next_ord`."""
    with store.write() as session:
        key = (detector_state.c.run_id == run_id) & (detector_state.c.rank == rank)
        session.connection.execute(delete(detector_state).where(key))
        session.connection.execute(
            insert(detector_state).values(
                run_id=run_id, rank=rank, epoch=0, next_ord=next_ord, state=b""
            )
        )
