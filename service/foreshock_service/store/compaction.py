"""How far compaction has come, and how far it may go."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import detector_state, run_head


@dataclass(frozen=True, slots=True)
class DueFrames:
    """Whole spans [from_ord, to_ord) of one rank that detection has read."""

    run_id: str
    rank: int
    from_ord: int
    to_ord: int


def due_spans(session: ReadSession, span: int) -> list[DueFrames]:
    """What can be compacted now, in whole spans, ordered by run and rank."""
    head, state = run_head.c, detector_state.c
    query = (
        select(head.run_id, head.rank, head.compacted_ord, state.next_ord)
        .join_from(
            run_head,
            detector_state,
            (head.run_id == state.run_id) & (head.rank == state.rank),
        )
        .where(state.next_ord >= head.compacted_ord + span)
        .order_by(head.run_id, head.rank)
    )
    return [
        DueFrames(run_id, rank, start, start + (upto - start) // span * span)
        for run_id, rank, start, upto in session.connection.execute(query)
    ]


def advance(session: WriteSession, run_id: str, rank: int, *, from_ord: int, to_ord: int) -> bool:
    """Move the boundary between blocks and batches; False when somebody else moved it before."""
    moved = session.connection.execute(
        update(run_head)
        .where(run_head.c.run_id == run_id, run_head.c.rank == rank)
        .where(run_head.c.compacted_ord == from_ord)
        .values(compacted_ord=to_ord)
    )
    return moved.rowcount == 1


def compacted_ord(session: ReadSession, run_id: str, rank: int) -> int:
    """Frames below it are in blocks; 0 for an unknown rank."""
    query = select(run_head.c.compacted_ord).where(
        run_head.c.run_id == run_id, run_head.c.rank == rank
    )
    return session.connection.scalar(query) or 0
