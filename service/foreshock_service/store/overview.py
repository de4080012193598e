"""One scalar of many runs at once, for a list: as many statements for many runs as for one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreshock_service.domain.runs import RunHead
from foreshock_service.store.batches import read_hot
from foreshock_service.store.blocks import read_tiers
from foreshock_service.store.columns import FrameColumns
from foreshock_service.store.extent import extent_of
from foreshock_service.store.segments import columns_of
from foreshock_service.store.session import ReadSession
from foreshock_service.store.windows import ScalarWindow, pool_scalars


def scalar_overview(
    session: ReadSession, heads: Sequence[RunHead], name: str, *, max_columns: int
) -> dict[str, ScalarWindow]:
    """The scalar `name` over each whole run, by run; `heads` has one rank of a run.

    Two statements, however many runs there are. The heads must come from the same session, which
    sees one moment: compaction moves frames from one side of `compacted_ord` to the other.
    """
    extents = {head.run_id: extent_of(0, head.next_ord, max_columns) for head in heads}
    compacted = {head.run_id: head.compacted_ord for head in heads}
    found: dict[str, list[FrameColumns]] = {head.run_id: [] for head in heads}
    tiers = [
        (head.run_id, head.rank, extents[head.run_id].tier) for head in heads if head.compacted_ord
    ]
    for run_id, item in read_tiers(session, tiers):
        found[run_id].append(item.columns)
    for run_id, stored in read_hot(session, [(head.run_id, head.rank) for head in heads]):
        columns = columns_of(stored)
        # Frames that compaction has moved out of the batch are in the blocks above.
        first = int(np.searchsorted(columns.ord0, compacted[run_id]))
        if first < len(columns):
            found[run_id].append(columns.take(slice(first, len(columns))))
    return {run_id: pool_scalars(extents[run_id], (name,), read) for run_id, read in found.items()}
