"""What the stored statistics weigh, and how a block gives its own up."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import attachment, block, chunk, frame_batch, table_rows


@dataclass(frozen=True, slots=True)
class BlockKey:
    """A block, its first ord and width in columns, and the bytes of its chunks."""

    run_id: str
    rank: int
    tier: int
    block: int
    num_columns: int
    num_bytes: int


def used_bytes(session: ReadSession) -> int:
    """Bytes of all statistics, tables and attachments, hot or compacted."""
    parts = (
        func.sum(block.c.num_bytes),
        func.sum(func.length(frame_batch.c.data)),
        func.sum(func.length(table_rows.c.data)),
        func.sum(func.length(attachment.c.data)),
    )
    return sum(int(session.connection.scalar(select(part)) or 0) for part in parts)


def oldest_blocks(
    session: ReadSession, *, tier: int, limit: int, received_before: float | None = None
) -> list[BlockKey]:
    """Full blocks of a tier that still have chunks, the earliest written first.

    The newest block of a rank stays: compaction may be adding to it.
    """
    newest = (
        select(func.max(block.c.block).label("newest"), block.c.run_id, block.c.rank)
        .where(block.c.tier == tier)
        .group_by(block.c.run_id, block.c.rank)
        .subquery()
    )
    query = (
        select(*(block.c[name] for name in BlockKey.__slots__))
        .join(newest, (newest.c.run_id == block.c.run_id) & (newest.c.rank == block.c.rank))
        .where(block.c.tier == tier, block.c.num_bytes > 0)
    )
    if received_before is not None:
        query = query.where(block.c.received_at < received_before)
    if tier > 1:
        query = query.where(block.c.block < newest.c.newest)
    query = query.order_by(block.c.received_at, block.c.run_id, block.c.rank, block.c.block)
    return [BlockKey(*row) for row in session.connection.execute(query.limit(limit))]


def evict(session: WriteSession, item: BlockKey) -> None:
    """Delete a block's chunks, and the histograms of its frames if they are of full resolution.

    Its columns and scalars stay, and say so with 0 bytes.
    """
    session.connection.execute(
        delete(chunk)
        .where(chunk.c.run_id == item.run_id, chunk.c.rank == item.rank)
        .where(chunk.c.tier == item.tier, chunk.c.block == item.block)
    )
    session.connection.execute(
        update(block)
        .where(block.c.run_id == item.run_id, block.c.rank == item.rank)
        .where(block.c.tier == item.tier, block.c.block == item.block)
        .values(num_bytes=0)
    )
    if item.tier == 1:
        session.connection.execute(
            delete(table_rows)
            .where(table_rows.c.run_id == item.run_id, table_rows.c.rank == item.rank)
            .where(table_rows.c.ord >= item.block, table_rows.c.ord < item.block + item.num_columns)
        )


def delete_attachments(session: WriteSession, *, received_before: float) -> None:
    """Delete the flight-recorder batches that came before a time."""
    session.connection.execute(delete(attachment).where(attachment.c.received_at < received_before))
