"""The forecast of the step at which what grows overflows."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import LAYER, WEIGHT
from tests.detectors.traces import Trace, changes_of, healthy, only

BEGIN = 90
ACTIVATION = f"activation:{LAYER}"


def _doubling(series: str, *, rows: int, until: int = 200, dtype: str = "float32") -> Trace:
    """A series that doubles every so many rows, up to a row."""
    trace = healthy(200)
    grown = np.clip(np.arange(200), BEGIN, until) - BEGIN
    trace.describe(series, dtype=dtype)
    trace.scale(series, np.exp2(grown / rows))
    return trace


def _true_step(trace: Trace, series: str, *, rows: int, octaves: int) -> float:
    start = np.log2(np.abs(trace.stats[:BEGIN, trace.index(series), 4])).mean()
    return float(BEGIN + rows * (octaves - start))


def _exploded(trace: Trace) -> list[IncidentChange]:
    return [change for change in changes_of(trace) if change.incident.kind == "explosion"]


@pytest.mark.parametrize(
    ("series", "dtype", "octaves"),
    [(WEIGHT, "float32", 128), (WEIGHT, "bfloat16", 128), (ACTIVATION, "float16", 16)],
)
def test_the_step_of_the_overflow_is_near_the_true_one(
    series: str, dtype: str, octaves: int
) -> None:
    """Within a fifth of the way that is left."""
    trace = _doubling(series, rows=9, dtype=dtype)
    newest = _exploded(trace)[-1]
    told = newest.incident.evidence["overflow_step"]
    true = _true_step(trace, series, rows=9, octaves=octaves)
    assert told == pytest.approx(true, abs=0.2 * (true - newest.step))
    assert newest.incident.evidence["overflow_series"] == series


def test_the_sentence_says_it_with_the_number_of_the_evidence() -> None:
    """Which format, and near which step."""
    change = _exploded(_doubling(ACTIVATION, rows=9, dtype="float16"))[0]
    step = change.incident.evidence["overflow_step"]
    assert f"; at this rate float16 overflows near step {step}" in change.sentence


def test_steps_between_the_rows_count() -> None:
    """A run that is measured on every tenth step overflows ten times as many steps later."""
    trace = _doubling(WEIGHT, rows=9)
    trace.steps = 10 * trace.steps
    newest = _exploded(trace)[-1]
    true = 10 * _true_step(trace, WEIGHT, rows=9, octaves=128)
    told = newest.incident.evidence["overflow_step"]
    assert told == pytest.approx(true, abs=0.2 * (true - newest.step))


def test_what_is_too_far_away_is_not_told() -> None:
    """Beyond ten thousand rows a straight line is a guess, as in a format of 1024 octaves."""
    trace = _doubling(WEIGHT, rows=12, dtype="float64")
    assert [c.incident.evidence.get("overflow_step") for c in _exploded(trace)[:1]] == [None]


def test_an_unknown_format_has_no_forecast() -> None:
    """Nobody says where it ends."""
    change = _exploded(_doubling(WEIGHT, rows=9, dtype="int4"))[0]
    assert "overflow_step" not in change.incident.evidence


def test_nothing_overflows_after_the_recovery() -> None:
    """A growth that has ended has no rate."""
    trace = _doubling(WEIGHT, rows=4, until=118)
    trace.scale(WEIGHT, np.exp2(-np.clip(np.arange(200) - 122, 0, 28) / 4))
    session = DetectionSession(only("growth"))
    changes = [change for frame in trace.frames() for change in session.push(frame).changes]
    assert [str(change.transition) for change in changes] == ["opened", "recovered"]
    assert ["overflows near" in change.sentence for change in changes] == [True, False]
