"""Retention takes the finest statistics first, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.pipeline.retain import retain_once
from foreshock_service.settings import MIB, ServiceSettings
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store
from foreshock_service.store.tables import chunk
from foreshock_service.store.windows import StatsWindow, heatmap_window, scalar_window
from sqlalchemy import func, select

from tests.factories import make_batch, make_schema, make_stats
from tests.store.writing import detected, write

SCHEMA = make_schema(num_layers=2, kinds=("gradient",))
DAY = 86_400.0
RECEIVED = 1000.0
"""When `write` says that its batches came."""


def _settings(**changes: object) -> ServiceSettings:
    return ServiceSettings.model_validate({"retention_days": 1.0, **changes})


def _fill(store: Store) -> None:
    stats = make_stats(600, 2)
    stats[77, 1, 2] = 1e6
    for start in range(0, 600, 200):
        write(
            store,
            make_batch(
                seq=start, first_step=start, num_frames=200, schema=SCHEMA,
                stats=stats[start : start + 200],
            ),
            schema=SCHEMA,
        )  # fmt: skip
    detected(store, "run-1", 600)
    assert compact_once(store) == 2


def _window(store: Store) -> StatsWindow:
    with store.read() as session:
        return heatmap_window(
            session, "run-1", 0, kind="gradient", statistic="std", max_columns=1000
        )


def _tiers(store: Store) -> set[int]:
    with store.read() as session:
        return set(session.connection.scalars(select(chunk.c.tier).distinct()))


def test_young_statistics_stay(store: Store) -> None:
    """Nothing is taken before its time."""
    _fill(store)
    assert retain_once(store, _settings(), RECEIVED + 0.9 * DAY) == 0
    assert _tiers(store) == {1, 16, 256}


def test_old_statistics_go_from_the_finest_tier_only(store: Store) -> None:
    """The heatmap still covers every frame, in coarser columns, and still shows the spike."""
    _fill(store)
    before = _window(store)
    assert retain_once(store, _settings(), RECEIVED + 1.1 * DAY) == 2
    assert _tiers(store) == {16, 256}
    after = _window(store)
    assert after.axis.step.tolist() != []
    assert len(after.axis.ord) == len(before.axis.ord)
    assert not np.isnan(after.high).any()
    assert after.high[1, 77] == np.float32(1e6)
    np.testing.assert_array_equal(after.high[:, 512:], before.high[:, 512:])
    assert retain_once(store, _settings(), RECEIVED + 1.1 * DAY) == 0


def test_scalars_stay_in_full_resolution(store: Store) -> None:
    """The loss curve of an old run is as exact as on its first day."""
    _fill(store)
    with store.read() as session:
        before = scalar_window(session, "run-1", 0, names=["loss"])
        frames = read_frames(session, "run-1", 0, 0, 600)
    retain_once(store, _settings(), RECEIVED + 2 * DAY)
    with store.read() as session:
        after = scalar_window(session, "run-1", 0, names=["loss"])
        kept = read_frames(session, "run-1", 0, 0, 600)
    np.testing.assert_array_equal(before.mean, after.mean)
    assert [f.scalars for f in frames] == [f.scalars for f in kept]
    assert np.isnan(kept[0].stats).all()
    assert kept[0].stats.shape == frames[0].stats.shape


def test_over_the_budget_the_finest_tiers_go_first(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The coarsest tier is never taken; what is left over is told to the operator."""
    stats = np.random.default_rng(0).normal(size=(600, 2, 13)).astype(np.float32)
    write(store, make_batch(num_frames=600, schema=SCHEMA, stats=stats), schema=SCHEMA)
    detected(store, "run-1", 600)
    compact_once(store)
    settings = ServiceSettings.model_construct(retention_days=1e6, disk_budget_bytes=1)
    assert retain_once(store, settings, RECEIVED) == 2
    assert 256 in _tiers(store)
    assert 1 not in _tiers(store)
    assert "FORESHOCK_DISK_BUDGET_BYTES" in caplog.text


def test_inside_the_budget_nothing_goes(store: Store) -> None:
    """The budget counts bytes, not blocks."""
    _fill(store)
    assert retain_once(store, _settings(disk_budget_bytes=16 * MIB), RECEIVED) == 0
    with store.read() as session:
        assert session.connection.scalar(select(func.count()).select_from(chunk))
