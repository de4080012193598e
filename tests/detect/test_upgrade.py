"""What another version has saved of a run: read as far as it can be, and never in the way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from foreshock_service.detectors.codec import decode_state, encode_state
from foreshock_service.pipeline.compare import RUN_WIDE, Compare
from foreshock_service.pipeline.detect import Detection
from foreshock_service.store.detection import load_state, next_ord
from foreshock_service.store.incidents import list_incidents
from foreshock_service.store.session import Store
from foreshock_service.store.tables import detector_state
from sqlalchemy import update

from tests.compare.runs import drain as compare_all
from tests.compare.runs import store_ranks, told
from tests.detect.runs import drain, settings_with_webhook, store_run

FRAMES, READ = 128, 64


def _rewrite(store: Store, run: str, rank: int, change: Callable[[bytes], bytes]) -> None:
    with store.write() as session:
        stored = load_state(session, run, rank)
        assert stored is not None
        session.connection.execute(
            update(detector_state)
            .where(detector_state.c.run_id == run, detector_state.c.rank == rank)
            .values(state=change(stored[1]))
        )


def _tree(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def rewritten(data: bytes) -> bytes:
        state = decode_state(data)
        change(state)
        return encode_state(state)

    return rewritten


def _other_arrays(state: dict[str, Any]) -> None:
    def shorter(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shorter(item) for key, item in value.items()}
        if isinstance(value, np.ndarray) and value.ndim:
            return value[..., :-1]
        return value

    state["engine"]["baselines"] = shorter(state["engine"]["baselines"])


LOST = {
    "nothing": lambda data: b"",
    "noise": lambda data: b"\x07" * 400,
    "cut off": lambda data: data[:-9],
    "another format": _tree(lambda state: state.update(format=0)),
    "no format": _tree(lambda state: state.pop("format")),
    "no tree": lambda data: encode_state([1, 2]),
    "without baselines": _tree(lambda state: state["engine"].pop("baselines")),
    "arrays of another size": _tree(_other_arrays),
    "incidents of another kind": _tree(lambda state: state["tracker"].update(live=[{"a": 1}])),
}


@pytest.mark.parametrize("name", list(LOST))
def test_a_state_that_cannot_be_read_does_not_stop_detection(
    store: Store, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once in the log, the run goes on behind what was read, and so do the others."""
    store_run(store, "old", num_frames=FRAMES, nan_from=120)
    store_run(store, "other", num_frames=FRAMES)
    first = Detection(store, settings_with_webhook(), frames_a_commit=READ)
    first.run_once()
    first.close()
    _rewrite(store, "old", 0, LOST[name])

    with caplog.at_level(logging.WARNING):
        assert drain(Detection(store, settings_with_webhook(), frames_a_commit=8)) == 2 * READ

    assert len([r for r in caplog.records if "fresh baselines" in r.getMessage()]) == 1
    with store.read() as session:
        assert [next_ord(session, run, 0) for run in ("old", "other")] == [FRAMES, FRAMES]
        (found,) = list_incidents(session, "old")
    assert (found.incident.kind, found.incident.onset_step) == ("non_finite", 120)


def test_a_detector_that_cannot_read_its_part_starts_fresh_alone(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The baselines and the open incident stay: it goes on, and is not told again."""
    store_run(store, "old", num_frames=FRAMES, nan_from=60)
    first = Detection(store, settings_with_webhook(), frames_a_commit=READ)
    first.run_once()
    first.close()

    def change(state: dict[str, Any]) -> None:
        state["engine"]["detectors"]["spike"] = {"of": "another version"}

    _rewrite(store, "old", 0, _tree(change))
    with caplog.at_level(logging.WARNING):
        drain(Detection(store, settings_with_webhook()))

    assert [r.getMessage() for r in caplog.records] == ["spike start afresh on rank 0 of run old"]
    with store.read() as session:
        (found,) = list_incidents(session, "old")
    assert found.incident.updated_step == FRAMES - 1


def test_a_comparison_that_cannot_be_read_begins_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Ranks are compared on, from their last rows."""
    store_ranks(store, "r", num_frames=32)
    compare_all(Compare(store, settings_with_webhook(), owner="me"))
    _rewrite(store, "r", RUN_WIDE, lambda data: b"")
    store_ranks(store, "r", first=32, odd=2, since=48)

    with caplog.at_level(logging.WARNING):
        compare_all(Compare(store, settings_with_webhook(), owner="me"))

    assert len([r for r in caplog.records if "from their last rows on" in r.getMessage()]) == 1
    assert [found.rank for found in told(store, "r")] == [2]
