"""Compaction: frames that detection has read move from batches into blocks and coarser tiers.

A span is encoded outside the write transaction, which then only checks that nobody else moved it,
inserts, and deletes: a kill at any moment leaves the span on exactly one side.
"""

from __future__ import annotations

from foreshock_service.store import batches, compaction, schemas
from foreshock_service.store.blocks import (
    SPAN,
    TIERS,
    EncodedBlock,
    encode_segment,
    encode_tier,
    write_blocks,
)
from foreshock_service.store.segments import hot_segments, merge
from foreshock_service.store.session import ReadSession, Store


def compact_once(store: Store) -> int:
    """Move every full span that is due, each in its own transaction; returns how many moved."""
    with store.read() as session:
        due = compaction.due_spans(session, SPAN)
    return sum(
        _compact_span(store, span.run_id, span.rank, ord0)
        for span in due
        for ord0 in range(span.from_ord, span.to_ord, SPAN)
    )


def _compact_span(store: Store, run_id: str, rank: int, ord0: int) -> bool:
    with store.read() as session:
        encoded = _encode_span(session, run_id, rank, ord0)
    with store.write() as session:
        if not compaction.advance(session, run_id, rank, from_ord=ord0, to_ord=ord0 + SPAN):
            return False
        write_blocks(session, encoded)
        batches.delete_batches(session, run_id, rank, ord0 + SPAN)
    return True


def _encode_span(session: ReadSession, run_id: str, rank: int, ord0: int) -> list[EncodedBlock]:
    segments = merge(list(hot_segments(session, run_id, rank, ord0, ord0 + SPAN)))
    encoded = []
    for segment in segments:
        name = segment.schema_hash
        statistics = () if name is None else schemas.load(session, name).statistics
        encoded.append(encode_segment(run_id, rank, segment, statistics))
    for tier in TIERS:
        encoded.extend(encode_tier(session, run_id, rank, tier, segments))
    return encoded
