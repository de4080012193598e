"""Shadow clipping of stored runs: which frames are read, and which steps count as healthy."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.errors import NotFound
from foreshock_service.pipeline.clipping import Span, shadow_clipping, sick_steps, span_of
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.pipeline.detect import Detection
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store

from tests.detect.runs import drain, store_run
from tests.factories import make_batch
from tests.silent_client.runs import Place
from tests.store.writing import write

FIXED: dict[str, dict[str, float]] = {"fixed": {"max_norm": 100.0}}


def test_steps_of_an_incident_are_not_healthy(store: Store) -> None:
    """The run is sick from step 60 on, for good: 60 of 160 steps are healthy."""
    store_run(store, "sick", num_frames=160, nan_from=60)
    drain(Detection(store, ServiceSettings()))

    report = shadow_clipping(store, "sick", 0, span_of(store, "sick", 0), chosen=FIXED)

    (result,) = report.results
    assert (report.num_frames, result.num_steps) == (160, 160)
    assert (result.num_healthy, result.num_healthy_clipped) == (60, 60)
    assert result.num_clipped == 160


def test_a_silence_says_nothing_of_gradients(sqlite_store: Store) -> None:
    """Its steps are as healthy as the others."""
    place = Place(sqlite_store)
    place.send("quiet")
    place.wait(300)
    assert len(place.incidents("quiet")) == 1

    with sqlite_store.read() as session:
        assert sick_steps(session, "quiet", 0) == []


def test_frames_in_blocks_are_read_like_hot_ones(sqlite_store: Store) -> None:
    """Compaction changes no result."""
    store_run(sqlite_store, "well", num_frames=600)
    span = span_of(sqlite_store, "well", 0)
    hot = shadow_clipping(sqlite_store, "well", 0, span)
    drain(Detection(sqlite_store, ServiceSettings()))
    assert compact_once(sqlite_store)

    assert shadow_clipping(sqlite_store, "well", 0, span) == hot


def test_a_span_is_bounded_by_frames_and_by_values(sqlite_store: Store) -> None:
    """The newest frames, or those from where they are asked for."""
    store_run(sqlite_store, "long", num_frames=600)

    def span(**given: int) -> tuple[int, int]:
        found = span_of(sqlite_store, "long", 0, **given)
        return found.from_ord, found.to_ord

    assert span() == (0, 600)
    assert span(max_frames=100) == (500, 600)
    assert span(max_frames=100, from_ord=50) == (50, 150)
    assert span(max_frames=100, to_ord=300) == (200, 300)
    assert span(from_ord=700) == (600, 600)
    # 12 series of 13 statistics are 156 values a frame.
    assert span(max_values=156 * 300) == (300, 600)


def test_a_part_says_that_it_is_one() -> None:
    """Because the rules begin to remember there."""
    assert Span(from_ord=0, to_ord=9, end_ord=9).note() == ""
    assert Span(from_ord=3, to_ord=9, end_ord=9).note() == (
        "Frames 3 to 9 of 9 were read; the rules begin there, as if the run did."
    )


def test_a_run_of_scalars_is_enough_for_rules_of_the_whole(sqlite_store: Store) -> None:
    """Nothing but a logged norm: 4 of 40 are above the limit."""
    norms = np.full(40, 0.5)
    norms[[5, 6, 7, 30]] = 8.0
    write(sqlite_store, make_batch("bare", num_frames=40, scalars={"grad_norm": norms}))

    report = shadow_clipping(sqlite_store, "bare", 0, span_of(sqlite_store, "bare", 0))

    found = {result.algorithm: result for result in report.results}
    assert found["fixed"].num_clipped == 4
    assert found["fixed"].approximate == ()
    assert not found["fira"].available


def test_a_run_or_rank_that_does_not_exist_is_not_found(sqlite_store: Store) -> None:
    """Each says which."""
    store_run(sqlite_store, "here", num_frames=16)

    with pytest.raises(NotFound, match="absent"):
        span_of(sqlite_store, "absent", 0)
    with pytest.raises(NotFound, match="rank 3"):
        span_of(sqlite_store, "here", 3)
