"""Compaction moves frames and changes nothing that can be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from foreshock_service.domain.frames import Frame
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store
from foreshock_service.store.tables import block, chunk, frame_batch
from sqlalchemy import func, select

from tests.factories import ATTEMPT, make_batch, make_schema
from tests.store.writing import detected, write

SCHEMA = make_schema(num_layers=2)


def _frames(store: Store, from_ord: int = 0, limit: int = 10_000) -> list[Frame]:
    with store.read() as session:
        return read_frames(session, "run-1", 0, from_ord, limit)


def _count(store: Store, table_name: str) -> int:
    table = {"frame_batch": frame_batch, "block": block, "chunk": chunk}[table_name]
    with store.read() as session:
        return session.connection.scalar(select(func.count()).select_from(table)) or 0


def _assert_same(expected: Sequence[Frame], actual: Sequence[Frame]) -> None:
    assert len(expected) == len(actual)
    for a, b in zip(expected, actual, strict=True):
        fields = ("ord", "attempt", "step", "wall_time", "flags", "batch_id", "schema")
        assert [getattr(a, f) for f in fields] == [getattr(b, f) for f in fields]
        assert repr(sorted(a.scalars.items())) == repr(sorted(b.scalars.items()))
        np.testing.assert_array_equal(a.stats, b.stats)


def _fill(store: Store, num_frames: int, *, size: int = 30) -> None:
    batches = [
        make_batch(
            seq=seq,
            first_step=start,
            num_frames=min(size, num_frames - start),
            schema=SCHEMA,
            batch_ids=[f"batch-{start + i}" for i in range(min(size, num_frames - start))],
        )
        for seq, start in enumerate(range(0, num_frames, size))
    ]
    write(store, *batches, schema=SCHEMA)


def test_frames_read_the_same_before_and_after(store: Store) -> None:
    """Every field of every frame, across the boundary of blocks and batches."""
    _fill(store, 600)
    before = _frames(store)
    detected(store, "run-1", 600)
    assert compact_once(store) == 2
    _assert_same(before, _frames(store))
    _assert_same(before[250:530], _frames(store, 250, 280))
    assert _count(store, "frame_batch") == 600 // 30 - 512 // 30


def test_only_what_detection_has_read_is_moved(store: Store) -> None:
    """Detection reads whole batches, and must find them."""
    _fill(store, 600)
    assert compact_once(store) == 0
    detected(store, "run-1", 511)
    assert compact_once(store) == 1
    detected(store, "run-1", 512)
    assert compact_once(store) == 1
    assert compact_once(store) == 0


def test_an_attempt_that_goes_back_keeps_its_frames(store: Store) -> None:
    """A resumed run repeats steps: both passes stay, in order of arrival."""
    write(store, make_batch(schema=SCHEMA, num_frames=200), schema=SCHEMA)
    write(store, make_batch(schema=SCHEMA, attempt=ATTEMPT + 1, first_step=150, num_frames=200))
    before = _frames(store)
    detected(store, "run-1", 400)
    compact_once(store)
    _assert_same(before, _frames(store))
    assert [f.step for f in before[198:202]] == [198, 199, 150, 151]


def test_scalars_come_and_go(store: Store) -> None:
    """A scalar that some batches lack is absent there, and NaN or infinity stay what they are."""
    write(store, make_batch(num_frames=100, scalars={"loss": np.nan}))
    write(store, make_batch(seq=1, first_step=100, num_frames=100, scalars={"lr": np.inf}))
    write(store, make_batch(seq=2, first_step=200, num_frames=100, scalars={"lr": 1.0, "loss": 2}))
    before = _frames(store)
    detected(store, "run-1", 300)
    assert compact_once(store) == 1
    after = _frames(store)
    _assert_same(before, after)
    assert "lr" not in after[0].scalars
    assert np.isnan(after[0].scalars["loss"])


def test_two_compactors_move_a_span_once(store: Store) -> None:
    """The loser of the race writes nothing."""
    _fill(store, 300)
    detected(store, "run-1", 300)
    other = Store(store.engine.url.render_as_string(hide_password=False))
    try:
        assert [compact_once(store), compact_once(other)] == [1, 0]
    finally:
        other.close()
    assert len(_frames(store)) == 300


def test_coarse_blocks_grow_over_spans(store: Store) -> None:
    """Four spans are one block of tier 16, so that a long window reads few rows."""
    _fill(store, 1024, size=256)
    for upto in (256, 512, 768, 1024):
        detected(store, "run-1", upto)
        assert compact_once(store) == 1
    with store.read() as session:
        rows = session.connection.execute(
            select(block.c.tier, block.c.num_columns).order_by(block.c.tier)
        ).all()
    assert [tuple(row) for row in rows] == [(1, 256)] * 4 + [(16, 64), (256, 4)]
