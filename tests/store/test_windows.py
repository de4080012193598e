"""Windows: the same truth at every zoom, before and after compaction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from foreshock.wire import STATISTICS, SeriesSchema
from foreshock_service.errors import NotFound, Unprocessable
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.store.extent import Range
from foreshock_service.store.session import Store
from foreshock_service.store.windows import (
    StatsWindow,
    heatmap_window,
    scalar_window,
    series_window,
)

from tests.factories import make_batch, make_schema, make_stats
from tests.store.writing import detected, write

SCHEMA = make_schema(num_layers=3, kinds=("activation", "gradient"))
NUM_FRAMES = 700
NAN_STEP = 333
EVERYTHING = Range()
COLUMN = {name: index for index, name in enumerate(STATISTICS)}
Stats = npt.NDArray[np.float32]


def _fill(store: Store, stats: Stats, *, schema: SeriesSchema = SCHEMA) -> None:
    loss = 2.0 - 0.001 * np.arange(len(stats), dtype=np.float64)
    loss[NAN_STEP:][:1] = np.nan
    write(
        store,
        *(
            make_batch(
                seq=seq,
                first_step=start,
                num_frames=len(stats[start : start + 50]),
                schema=schema,
                stats=stats[start : start + 50],
                scalars={"loss": loss[start : start + 50]},
            )
            for seq, start in enumerate(range(0, len(stats), 50))
        ),
        schema=schema,
    )


def _compact(store: Store) -> None:
    detected(store, "run-1", NUM_FRAMES)
    assert compact_once(store) == NUM_FRAMES // 256


@pytest.fixture(params=["hot", "compacted"])
def place(request: pytest.FixtureRequest) -> Callable[[Store], None]:
    """Leaves frames where they are, or compacts the full spans."""
    return _compact if request.param == "compacted" else lambda store: None


def _heatmap(
    store: Store, statistic: str, columns: int, wanted: Range = EVERYTHING, kind: str = "gradient"
) -> StatsWindow:
    with store.read() as session:
        return heatmap_window(
            session, "run-1", 0, kind=kind, statistic=statistic, wanted=wanted, max_columns=columns
        )


def test_full_resolution_gives_what_was_sent(store: Store, place: Callable[[Store], None]) -> None:
    """With enough columns every value comes back as it was."""
    stats = make_stats(NUM_FRAMES, 6)
    _fill(store, stats)
    place(store)
    window = _heatmap(store, "std", 1000)
    assert window.series.tolist() == [3, 4, 5]
    assert window.axis.step.tolist() == list(range(NUM_FRAMES))
    np.testing.assert_array_equal(window.high, stats[:, 3:, COLUMN["std"]].T)
    np.testing.assert_array_equal(window.low, window.high)


@pytest.mark.parametrize("columns", [1, 7, 40, 200, 400])
def test_a_spike_survives_every_zoom(
    store: Store, place: Callable[[Store], None], columns: int
) -> None:
    """One frame a million times its neighbours shows in exactly the column that covers it."""
    stats = make_stats(NUM_FRAMES, 6)
    stats[123, 4, COLUMN["std"]] = 1e6
    _fill(store, stats)
    place(store)
    window = _heatmap(store, "rms", columns)
    assert len(window.axis.ord) <= columns
    expected = [column * window.axis.width <= 123 < (column + 1) * window.axis.width
                for column in range(len(window.axis.ord))]  # fmt: skip
    assert (window.high[1] > 9e5).tolist() == expected
    assert not (window.high[[0, 2]] > 9e5).any()


@pytest.mark.parametrize("columns", [1, 7, 40, 200, 1000])
@pytest.mark.parametrize("statistic", ["rms", "mean", "abs_max", "zero_frac"])
def test_a_single_nan_element_is_marked_at_every_zoom(
    store: Store, place: Callable[[Store], None], columns: int, statistic: str
) -> None:
    """The finite statistics of that frame look healthy: only the mark tells."""
    stats = make_stats(NUM_FRAMES, 6)
    stats[200, 5, COLUMN["nan_count"]] = 1
    _fill(store, stats)
    place(store)
    window = _heatmap(store, statistic, columns)
    assert window.nonfinite.sum() == 1
    row, column = np.argwhere(window.nonfinite)[0]
    assert (row, column) == (2, 200 // window.axis.width)


def test_derived_statistics_are_computed_in_float64(
    store: Store, place: Callable[[Store], None]
) -> None:
    """A float32 square of 1e30 would overflow; the root of the mean square does not."""
    stats = make_stats(NUM_FRAMES, 6)
    stats[:, 3, COLUMN["mean"]] = 3e30
    stats[:, 3, COLUMN["std"]] = 4e30
    _fill(store, stats)
    place(store)
    np.testing.assert_allclose(_heatmap(store, "rms", 1000).high[0], 5e30, rtol=1e-6)
    np.testing.assert_allclose(_heatmap(store, "rms", 20).mean[0], 5e30, rtol=1e-6)
    np.testing.assert_allclose(_heatmap(store, "l2", 1000).high[0], 5e30 * 64, rtol=1e-6)


def test_a_series_that_was_not_measured_stays_empty(
    store: Store, place: Callable[[Store], None]
) -> None:
    """NaN rows are no measurement: neither a value nor a mark comes of them."""
    stats = make_stats(NUM_FRAMES, 6)
    stats[:, 3] = np.nan
    stats[1::4, 4] = np.nan
    _fill(store, stats)
    place(store)
    window = _heatmap(store, "rms", 20)
    assert np.isnan(window.high[0]).all()
    assert not window.nonfinite.any()
    measured = np.delete(stats[:16, 4, COLUMN["zero_frac"]], np.s_[1::4])
    assert _heatmap(store, "zero_frac", 44).mean[1, 0] == measured.mean()


def test_means_and_extremes_agree_with_the_frames(
    store: Store, place: Callable[[Store], None]
) -> None:
    """A column of 16 frames holds their minimum, mean and maximum."""
    stats = make_stats(NUM_FRAMES, 6)
    _fill(store, stats)
    place(store)
    with store.read() as session:
        window = series_window(session, "run-1", 0, index=4, statistic="std", max_columns=44)
    assert window.axis.width == 16
    values = stats[: 43 * 16, 4, COLUMN["std"]].reshape(43, 16)
    np.testing.assert_array_equal(window.low[0, :43], values.min(axis=1))
    np.testing.assert_array_equal(window.high[0, :43], values.max(axis=1))
    np.testing.assert_allclose(window.mean[0, :43], values.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize("columns", [1, 7, 40, 200, 1000])
def test_a_nan_loss_is_marked_and_its_neighbours_are_drawn(
    store: Store, place: Callable[[Store], None], columns: int
) -> None:
    """The curve goes on around the NaN, and the column says that it was there."""
    _fill(store, make_stats(NUM_FRAMES, 6))
    place(store)
    with store.read() as session:
        window = scalar_window(session, "run-1", 0, names=["loss", "absent"], max_columns=columns)
    marked = np.flatnonzero(window.nonfinite[0])
    assert marked.tolist() == [NAN_STEP // window.axis.width]
    assert not window.nonfinite[1].any()
    assert np.isnan(window.mean[1]).all()
    assert window.high[0, 0] == 2.0
    assert np.nanmin(window.low[0]) == pytest.approx(2.0 - 0.001 * (NUM_FRAMES - 1))


@pytest.mark.parametrize(("low", "high"), [(0, 10), (250, 260), (255, 256), (300, 699), (690, 900)])
def test_a_range_of_steps_is_exact(
    store: Store, place: Callable[[Store], None], low: int, high: int
) -> None:
    """Both ends are inside, on either side of a block's edge."""
    _fill(store, make_stats(NUM_FRAMES, 6))
    place(store)
    window = _heatmap(store, "std", 1000, Range(from_step=low, to_step=high))
    assert window.axis.step.tolist() == list(range(low, min(high, NUM_FRAMES - 1) + 1))


def test_a_range_without_frames_is_empty(store: Store, place: Callable[[Store], None]) -> None:
    """Steps that the run has not reached have no columns."""
    _fill(store, make_stats(NUM_FRAMES, 6))
    place(store)
    window = _heatmap(store, "std", 1000, Range(from_step=5000))
    assert window.high.shape == (3, 0)


def test_series_are_followed_across_a_change_of_schema(
    store: Store, place: Callable[[Store], None]
) -> None:
    """A layer keeps its line when another layer is added before it."""
    wider = make_schema(num_layers=4, kinds=("gradient", "activation"))
    stats = make_stats(300, 6)
    _fill(store, stats)
    added = make_stats(400, 8, seed=1)
    write(
        store,
        make_batch(seq=99, first_step=300, num_frames=400, schema=wider, stats=added),
        schema=wider,
    )
    place(store)
    window = _heatmap(store, "std", 1000)
    assert window.series.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(window.high[:3, :300], stats[:, 3:, COLUMN["std"]].T)
    np.testing.assert_array_equal(window.high[:, 300:], added[:, :4, COLUMN["std"]].T)
    assert np.isnan(window.high[3, :300]).all()
    pooled = _heatmap(store, "std", 44)
    assert np.nanmax(pooled.high) == np.nanmax(window.high)


def test_bad_questions_say_what_to_ask(store: Store) -> None:
    """The message lists what is known."""
    _fill(store, make_stats(NUM_FRAMES, 6))
    with pytest.raises(Unprocessable, match="zero_frac"):
        _heatmap(store, "variance", 100)
    with pytest.raises(Unprocessable, match="activation_grad"):
        _heatmap(store, "rms", 100, kind="momentum")
    with pytest.raises(Unprocessable, match="columns"):
        _heatmap(store, "rms", 0)
    with store.read() as session:
        with pytest.raises(NotFound, match="rank 3"):
            scalar_window(session, "run-1", 3)
        with pytest.raises(NotFound, match="series 0 to 5"):
            series_window(session, "run-1", 0, index=6, statistic="rms")
