"""The overview of many runs: what their windows say one by one, in a fixed number of statements."""

from __future__ import annotations

import numpy as np
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.store import head
from foreshock_service.store.overview import scalar_overview
from foreshock_service.store.session import Store
from foreshock_service.store.windows import scalar_window

from tests.factories import make_batch
from tests.store.writing import detected, write

NUM_FRAMES = {"long": 700, "short": 30}


def _fill(store: Store) -> None:
    for run, num_frames in NUM_FRAMES.items():
        loss = 2.0 - 0.001 * np.arange(num_frames, dtype=np.float64)
        loss[7] = np.nan
        starts = range(0, num_frames, 50)
        parts = [loss[start : start + 50] for start in starts]
        write(
            store,
            *(
                make_batch(
                    run,
                    seq=seq,
                    first_step=start,
                    num_frames=len(part),
                    scalars={"loss": part},
                )
                for seq, (start, part) in enumerate(zip(starts, parts, strict=True))
            ),
        )
    # The boundary falls inside a batch of 50: part of it is in a block and part of it is hot.
    detected(store, "long", NUM_FRAMES["long"])
    assert compact_once(store) == 2


def test_overview_says_what_each_window_says(store: Store) -> None:
    """Reading the runs together gives the same columns as reading each, hot and compacted."""
    _fill(store)
    with store.read() as session:
        heads = head.first_heads(session, list(NUM_FRAMES))
        together = scalar_overview(session, list(heads.values()), "loss", max_columns=75)
        for run in NUM_FRAMES:
            alone = scalar_window(session, run, 0, names=["loss"], max_columns=75)
            assert np.array_equal(together[run].axis.step, alone.axis.step)
            assert np.array_equal(together[run].mean, alone.mean, equal_nan=True)
            assert np.array_equal(together[run].nonfinite, alone.nonfinite)


def test_overview_of_nothing_is_empty(store: Store) -> None:
    """A service without runs has nothing to read."""
    with store.read() as session:
        assert scalar_overview(session, [], "loss", max_columns=75) == {}
