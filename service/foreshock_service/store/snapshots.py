"""Each series' own normal, as it was known at a column of an answer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from foreshock_service.store.session import ReadSession
from foreshock_service.store.tables import baseline_snapshot

Doubles = npt.NDArray[np.float64]


def centres(
    session: ReadSession,
    run_id: str,
    rank: int,
    *,
    schema_hash: str,
    series: npt.NDArray[np.intp],
    ords: npt.NDArray[np.int64],
) -> Doubles:
    """The centre of log2 rms of `series` at each of `ords`: [series, ords], NaN where unknown.

    A column takes the newest snapshot at or before it, and the first columns of a run take its
    first snapshot: a baseline is made from them.
    """
    known = baseline_snapshot.c
    mine = (known.run_id == run_id, known.rank == rank, known.schema_hash == schema_hash)
    query = select(known.ord).where(*mine).order_by(known.ord)
    present = np.fromiter(session.connection.scalars(query), np.int64)
    answer = np.full((len(series), len(ords)), np.nan)
    if not present.size or not len(ords):
        return answer
    chosen = present[np.maximum(np.searchsorted(present, ords, side="right") - 1, 0)]
    # Loaded in one range, not one by one: columns ask for neighbours.
    rows = session.connection.execute(
        select(known.ord, known.data)
        .where(*mine, known.ord >= int(chosen.min()), known.ord <= int(chosen.max()))
        .order_by(known.ord)
    )
    for ord_, data in rows:
        columns = np.flatnonzero(chosen == ord_)
        if columns.size:
            centre = np.frombuffer(data, "<f4").reshape(-1, 2)[series, 0]
            answer[:, columns] = centre[:, None]
    return answer
