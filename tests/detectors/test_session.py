"""What holds for every detector: restarts, resumes, renaming, shifting, schema changes, silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from foreshock.wire import SeriesSchema
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.traces import Trace, changes_of, healthy, opened, renamed


def _sick() -> Trace:
    trace = healthy(150)
    trace.scale("gradient:head.weight", np.where(np.arange(150) == 60, 200.0, 1.0))
    trace.scale("weight:blocks.1.attn.qkv.weight", np.exp2(np.maximum(np.arange(150) - 90, 0) / 9))
    trace.scalars["loss"][135:] += 3
    return trace


def test_a_restart_at_every_row_changes_nothing() -> None:
    """Saved and taken up again after each row, a session tells the same, to the last digit."""
    trace = _sick()
    told = []
    data = DetectionSession().state()
    for frame in trace.frames():
        session = DetectionSession()
        session.restore(data)
        told += session.push(frame).changes
        data = session.state()
    assert told == changes_of(trace)
    assert told


def test_shifting_the_steps_shifts_the_story() -> None:
    """A run that starts at step 10,000 opens the same incidents 10,000 steps later."""
    plain = opened(_sick())
    trace = _sick()
    trace.steps = trace.steps + 10_000
    assert [i.onset_step + 10_000 for i in plain] == [i.onset_step for i in opened(trace)]


def test_renaming_layers_changes_no_alert() -> None:
    """Rules know the structure, not the names."""
    plain, other = opened(_sick()), opened(renamed(_sick()))
    assert [(i.kind, i.onset_step) for i in plain] == [(i.kind, i.onset_step) for i in other]


@pytest.mark.parametrize("seed", range(4))
def test_healthy_runs_are_quiet(seed: int) -> None:
    """Six hundred rows without a word."""
    assert opened(healthy(600, seed=seed)) == []


def test_a_resumed_run_is_quiet() -> None:
    """Steps go back to a checkpoint and repeat; rows still count up."""
    frames = list(healthy(200).frames())
    again = [replace(f, ord=f.ord + 50, attempt=1) for f in frames[150:]]
    assert opened([*frames, *again]) == []


def test_series_are_known_again_under_another_schema() -> None:
    """A series added in front does not cost the others their baselines."""
    trace = healthy(200)
    trace.scale("weight:head.weight", np.exp2(np.maximum(np.arange(200) - 120, 0) / 9))
    order = list(reversed(range(len(trace.schema.series))))
    other = SeriesSchema(tuple(trace.schema.series[i] for i in order))
    frames = [
        f if f.ord < 100 else replace(f, schema=other, stats=f.stats[order]) for f in trace.frames()
    ]
    (incident,) = opened(frames)
    assert incident.root_series == "weight:head.weight"


def test_frames_of_scalars_alone_forget_nothing() -> None:
    """A frame without statistics between others, and after a restart, costs no baseline."""
    trace = _sick()
    empty = SeriesSchema(())
    session, told = DetectionSession(), []
    for frame in trace.frames():
        bare = replace(frame, schema=empty, stats=np.zeros((0, 13), np.float32))
        if frame.ord % 10 == 0:
            restarted = DetectionSession()
            restarted.restore(session.state())
            restarted.push(bare)
            session = restarted
        told += session.push(frame).changes
    assert [c.incident.kind for c in told if c.transition == "opened"] == [
        i.kind for i in opened(trace)
    ]


def test_a_foreign_state_is_refused() -> None:
    """Bytes that are no state are told so."""
    with pytest.raises(ValueError, match="detector state"):
        DetectionSession().restore(b"\x00")


def test_an_unknown_detector_cannot_be_left_out() -> None:
    """A typing error in a setting is told with the names that exist."""
    with pytest.raises(ValueError, match="no detector is called spikes"):
        EngineConfig(disabled=frozenset({"spikes"}))
