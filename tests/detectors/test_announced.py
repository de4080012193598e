"""A change on purpose is no incident; unannounced it is one, and so is a fault after it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from foreshock.wire import FrameFlag, SeriesSchema
from foreshock_service.detectors.announced import BEGIN_ANEW, MOVED
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Severity
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import (
    FIRST,
    corrupt_weight,
    lonely_update,
    too_easy_data,
    unreached_weights,
)
from tests.detectors.traces import Trace, changes_of, healthy, opened, told_by
from tests.docs.markdown import ROOT

CHANGE, ROWS = 200, 420


def announce(trace: Trace, row: int = CHANGE) -> Trace:
    """Mark the frame of a row."""
    trace.flags[row] |= int(FrameFlag.ANNOUNCED)
    return trace


def test_weights_that_are_written_with_the_change_are_not_corrupted() -> None:
    """A head that is drawn anew, weights that are pruned; what changes on the next step is told."""
    trace = corrupt_weight()
    assert [i.kind for i in opened(trace)] == ["weight_corruption"]
    assert opened(announce(corrupt_weight(), FIRST)) == []
    assert [i.kind for i in opened(announce(corrupt_weight(), FIRST - 1))] == ["weight_corruption"]


def lose_more(trace: Trace) -> None:
    """The loss doubles."""
    trace.scalars["loss"][CHANGE:] *= 2


def lose_less(trace: Trace) -> None:
    """The loss halves and climbs no further than that."""
    trace.scalars["loss"][CHANGE:] *= 0.5


def step_further(trace: Trace) -> None:
    """Updates are eight times as large."""
    for name in trace.names("update"):
        trace.scale(name, 8.0, first=CHANGE)


def step_less(trace: Trace) -> None:
    """Updates are a thousandth."""
    for name in trace.names("update"):
        trace.scale(name, 1e-3, first=CHANGE)


def steeper(trace: Trace, factor: float = 20.0) -> None:
    """Gradients are twenty times as large."""
    for name in trace.names("gradient"):
        trace.scale(name, factor, first=CHANGE)


def other_inputs(trace: Trace) -> None:
    """Activations are forty times as large, and gradients with them."""
    steeper(trace, 300.0)
    for name in trace.names("activation"):
        trace.scale(name, 40.0, first=CHANGE)


def all_at_once(trace: Trace) -> None:
    """A larger rate and other data: loss, gradients, updates and activations move together."""
    lose_more(trace)
    steeper(trace, 8.0)
    step_further(trace)
    for name in trace.names("activation"):
        trace.scale(name, 5.0, first=CHANGE)


CHANGES = [lose_more, step_further, step_less, steeper, other_inputs, all_at_once]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("change", [*CHANGES, lose_less])
def test_an_announced_change_is_quiet(change: Callable[[Trace], None], seed: int) -> None:
    """And stays so: the new level is the normal one."""
    trace = announce(healthy(ROWS, seed=seed))
    change(trace)
    assert [(i.kind, i.opened_step) for i in opened(trace)] == []


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_change_unannounced_is_an_incident(change: Callable[[Trace], None]) -> None:
    """So that the quiet above is the announcement's doing."""
    trace = healthy(ROWS)
    change(trace)
    assert opened(trace)


def test_faults_after_an_announced_change_are_found() -> None:
    """Against the new level: a loss that leaps, a layer that grows, a gradient that spikes."""
    later = CHANGE + 120

    def leap(trace: Trace) -> None:
        for name in trace.names("update"):
            trace.scale(name, 12.0, first=later)

    faults: dict[str, Callable[[Trace], object]] = {
        "loss_spike": lambda t: t.scalars["loss"].__iadd__(np.where(t.steps >= later, 6.0, 0.0)),
        "gradient_spike": lambda t: t.scale(
            "gradient:head.weight", np.where(t.steps == later, 400.0, 1.0)
        ),
        "explosion": lambda t: t.scale(
            "weight:blocks.1.attn.qkv.weight", np.exp2(np.maximum(t.steps - later, 0) / 9)
        ),
        "update_too_large": leap,
    }
    for kind, fault in faults.items():
        trace = announce(healthy(ROWS))
        all_at_once(trace)
        fault(trace)
        found = opened(trace)
        assert [item.kind for item in found] == [kind]
        assert later <= found[0].opened_step <= later + 60


def test_what_no_change_explains_is_told_within_the_grace() -> None:
    """Not finite, and a weight that nobody's update changed, one row after the announcement."""
    trace = announce(healthy(ROWS))
    trace.put("activation:blocks.1.mlp.up", "nan_count", 4, slice(CHANGE + 1, None))
    assert [i.kind for i in opened(trace)] == ["non_finite"]
    trace = announce(healthy(ROWS))
    trace.scale("weight:blocks.1.mlp.up.weight", 8.0, first=CHANGE + 1)
    (found,) = opened(trace)
    assert (found.kind, found.onset_step) == ("weight_corruption", CHANGE + 1)


def test_a_negative_rate_is_told_within_the_grace() -> None:
    """A divergence that is no course of the loss: nobody means that."""
    trace = announce(healthy(ROWS))
    trace.scalars["lr"] = np.where(trace.steps < CHANGE + 2, 1e-3, -1e-3)
    (found,) = opened(trace)
    assert (found.kind, found.severity) == ("divergence", Severity.CRITICAL)


def test_the_grace_ends() -> None:
    """A loss that leaps 40 rows after the announcement is judged again."""
    trace = announce(healthy(ROWS))
    trace.scalars["loss"][CHANGE + 40 :] += 4.0
    assert [i.kind for i in opened(trace)][:1] == ["loss_spike"]


def test_a_restart_within_the_grace_changes_nothing() -> None:
    """Saved and taken up again after each row, the same is told."""
    trace = announce(healthy(260))
    all_at_once(trace)
    trace.put("activation:head", "nan_count", 4, slice(CHANGE + 20, None))
    told = []
    data = DetectionSession().state()
    for frame in trace.frames():
        session = DetectionSession()
        session.restore(data)
        told += session.push(frame).changes
        data = session.state()
    assert told == changes_of(trace)
    assert told


def test_a_change_in_the_first_rows_is_quiet() -> None:
    """Announced before there is any normal, and twice in a row."""
    trace = announce(announce(healthy(ROWS), 12), 20)
    trace.scalars["loss"][12:] *= 3
    for name in trace.names("gradient"):
        trace.scale(name, 40.0, first=20)
    assert opened(trace) == []


def test_a_frame_of_scalars_alone_can_be_announced() -> None:
    """With only a loss, as in a log of other tools."""
    frames = []
    for frame in announce(healthy(ROWS)).frames():
        schema = SeriesSchema(())
        loss = frame.scalars["loss"] * (2.0 if frame.ord >= CHANGE else 1.0)
        stats = np.zeros((0, 13), np.float32)
        frames.append(replace(frame, schema=schema, stats=stats, scalars={"loss": loss}))
    assert opened(frames) == []


def test_a_run_that_had_learned_still_has() -> None:
    """Small updates after the change are no fault of a run that had come far before it."""
    trace = announce(healthy(ROWS))
    trace.facts = RunFacts(optimizer="AdamW")
    trace.scalars["lr"] = np.full(ROWS, 1e-2)
    step_less(trace)
    assert told_by("updates", trace) == []


def test_a_run_that_had_not_learned_is_not_stuck_by_the_change() -> None:
    """Losses of before and after are no plateau together."""
    trace = announce(healthy(ROWS), 40)
    trace.scalars["loss"] = np.random.default_rng(0).normal(5, 0.2, ROWS)
    trace.scalars["loss"][40:] *= 2
    assert opened(trace) == []


def test_a_level_that_is_lost_after_the_change_is_told() -> None:
    """The run was seen from its start, however late the change comes."""
    trace = announce(healthy(ROWS))
    rows = np.arange(ROWS) - CHANGE
    level = np.where(rows < 0, 3.0, np.where(rows < 150, 2 + np.exp(-rows / 20), 3.0))
    trace.scalars["loss"] = level + np.random.default_rng(1).normal(0, 0.2, ROWS)
    (first, *_) = told_by("loss", trace)
    assert (first.kind, first.onset_step >= CHANGE + 150) == ("loss_spike", True)


def test_a_run_that_was_joined_still_is() -> None:
    """What it had learned before it was seen nobody knows after the change either."""
    trace = announce(healthy(ROWS), 60)
    trace.steps = trace.steps + 5000
    trace.facts = RunFacts(optimizer="AdamW")
    trace.scalars["loss"] = np.random.default_rng(0).normal(2, 0.02, ROWS)
    trace.scalars["lr"] = np.full(ROWS, 1.0)
    for name in trace.names("update"):
        trace.scale(name, 1e-3)
    assert told_by("updates", trace) == []
    trace.steps = trace.steps - 5000
    assert [f.kind for f in told_by("updates", trace)] == ["update_too_small"]


def test_data_that_are_easier_on_purpose_are_no_windfall() -> None:
    """The smallest loss of before is no measure, nor is a place among peers."""
    trace = announce(too_easy_data(), 120)
    assert told_by("windfall", trace) == []
    trace = announce(lonely_update(), FIRST)
    assert told_by("lone", trace) == []


def test_weights_that_are_frozen_on_purpose_are_quiet() -> None:
    """A gradient that is absent from the announcement on is not missed, also after the grace."""
    assert told_by("unreached", announce(unreached_weights(), FIRST)) == []


def test_what_begins_anew_is_on_the_page() -> None:
    """Every detector that forgets is listed where people read of it."""
    text = (ROOT / "docs" / "detection.md").read_text()
    (line,) = re.findall(r"\n- ([^.]*) begin as in a new run", text)
    assert sorted(BEGIN_ANEW) == sorted(re.findall("`([a-z_]+)`", line))


def test_what_begins_anew_exists() -> None:
    """A detector or a part of its state that was renamed is found here."""
    for name, kept in BEGIN_ANEW.items():
        state = DETECTORS[name]().state()
        assert [key for key in kept if key not in state] == []
    assert "non_finite" not in MOVED
