"""What the exponents of a tensor say of the number format that a run computes in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from foreshock_service.detectors.codec import decode_state, encode_state
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import LAYER, lost_in_rounding
from tests.detectors.traces import Trace, changes_of, healthy, names_of, only, told_by

HALF = RunFacts(number_format="float16")
EVERY = 8
ACTIVATION = f"activation:{LAYER}"


def _bin_of(exponent: int) -> int:
    return (exponent + 127) // 4


def _frames(trace: Trace, shares: dict[str, dict[int, float]]) -> Iterable[Frame]:
    """The rows, every eighth with histograms: by series, the share of elements at 2^exponent."""
    for frame in trace.frames():
        histograms = {}
        for name, parts in shares.items():
            counts = np.zeros(64, np.float32)
            for exponent, share in parts.items():
                counts[_bin_of(exponent)] += 1024 * share
            histograms[trace.index(name)] = counts
        yield replace(frame, histograms={} if frame.ord % EVERY else histograms)


def _told(trace: Trace, shares: dict[str, dict[int, float]]) -> list[Finding]:
    session = DetectionSession(only("formats"), trace.facts)
    found = [f for frame in _frames(trace, shares) for f in session.push(frame).findings]
    return [finding for finding, _ in found]


def _gradients(trace: Trace, num: int, small: int, share: float) -> dict[str, dict[int, float]]:
    """So many gradients have a share of elements of 2^small, the others are of a usual size."""
    names = trace.names("gradient")
    parts = {name: {-4: 1.0} for name in names}
    return parts | {name: {small: share, -4: 1 - share} for name in names[:num]}


def _in_half(num_rows: int = 60) -> Trace:
    trace = healthy(num_rows)
    trace.facts = HALF
    return trace


def test_gradients_below_the_normal_range_of_the_runs_format_are_named() -> None:
    """On the third histogram, from the first on."""
    trace = _in_half()
    found = _told(trace, _gradients(trace, 4, -22, 0.6))
    assert names_of(found, trace) == trace.names("gradient")[3::-1]
    assert {(f.kind, f.step, f.onset_step) for f in found} == {("precision_underflow", 16, 0)}
    assert found[0].value == pytest.approx(0.6)


def test_the_same_gradients_in_float32_are_quiet() -> None:
    """Nobody asks float16 of a run that does not use it."""
    trace = healthy(60)
    assert _told(trace, _gradients(trace, 4, -22, 0.6)) == []


def test_the_format_of_the_series_itself_counts() -> None:
    """A gradient that is kept in float16 needs nobody to say so."""
    trace = healthy(60)
    for name in trace.names("gradient"):
        trace.describe(name, dtype="float16")
    assert len(_told(trace, _gradients(trace, 4, -22, 0.6))) == 4


@pytest.mark.parametrize("small", [-22, -40])
def test_bfloat16_has_the_range_of_float32(small: int) -> None:
    """What float16 loses it keeps."""
    trace = healthy(60)
    trace.facts = RunFacts(number_format="bfloat16")
    assert _told(trace, _gradients(trace, 4, small, 0.9)) == []


def test_the_loss_scale_counts() -> None:
    """At 2^16 float16 saw gradients of 2^-22 as 2^-6; at 1 it did not."""
    large, small = _in_half(), healthy(60)
    large.scalars["loss_scale"] = np.full(60, 2.0**16)
    small.scalars["loss_scale"] = np.full(60, 1.0)
    assert _told(large, _gradients(large, 4, -22, 0.6)) == []
    assert len(_told(small, _gradients(small, 4, -22, 0.6))) == 4


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_loss_scale_that_is_none_is_passed_over(scale: float) -> None:
    """The format counts as it stands."""
    trace = _in_half()
    trace.scalars["loss_scale"] = np.full(60, scale)
    assert len(_told(trace, _gradients(trace, 4, -22, 0.6))) == 4


def test_float8_is_scaled_by_the_tensor() -> None:
    """Only what lies further below the largest element than E5M2 reaches is lost."""
    trace = healthy(60)
    trace.facts = RunFacts(number_format="float8")
    assert _told(trace, _gradients(trace, 4, -22, 0.6)) == []
    assert len(_told(trace, _gradients(trace, 4, -44, 0.6))) == 4


def test_few_small_elements_and_few_matrices_are_quiet() -> None:
    """The tails of all gradients are small, and one layer may have small ones."""
    trace = _in_half()
    assert _told(trace, _gradients(trace, 4, -22, 0.3)) == []
    assert _told(trace, _gradients(trace, 2, -22, 0.9)) == []


def test_an_activation_that_float16_cannot_hold_is_named() -> None:
    """On the second histogram; in float32 alone it is none."""
    shares = {ACTIVATION: {18: 0.01, 0: 0.99}}
    trace = _in_half()
    (finding,) = _told(trace, shares)
    assert (finding.kind, finding.step) == ("precision_overflow", EVERY)
    assert names_of([finding], trace) == [ACTIVATION]
    assert _told(healthy(60), shares) == []


def test_the_end_of_float32_is_near_from_121_octaves_on() -> None:
    """Whatever the run computes in."""
    weight = f"weight:{LAYER}.weight"
    trace = healthy(60)
    assert names_of(_told(trace, {weight: {121: 0.01, 0: 0.99}}), trace) == [weight]
    assert _told(trace, {weight: {116: 0.5, 0: 0.5}}) == []


def _sentence(trace: Trace, shares: dict[str, dict[int, float]]) -> str:
    session = DetectionSession(only("formats"), trace.facts)
    return next(c.sentence for f in _frames(trace, shares) for c in session.push(f).changes)


def test_the_sentences_say_no_more_than_the_histograms() -> None:
    """Seven octaves from the end is near it; zeros are not among the elements that are counted."""
    assert f"{LAYER} comes near the end of float32 at" in _sentence(
        healthy(60), {f"weight:{LAYER}.weight": {121: 0.01, 0: 0.99}}
    )
    assert f"{LAYER} holds values too large for float16 at" in _sentence(
        _in_half(), {ACTIVATION: {18: 0.01, 0: 0.99}}
    )
    assert ": 60 % of its non-zero elements are too small for float16" in _sentence(
        _in_half(), _gradients(_in_half(), 5, -30, 0.6)
    )


def test_histograms_that_are_none_are_passed_over() -> None:
    """Empty ones, ones of another length, and those of a series that does not exist."""
    trace = _in_half()
    bad = {0: np.zeros(64, np.float32), 1: np.ones(3, np.float32), 999: np.ones(64, np.float32)}
    nan = {20: np.full(64, np.nan, np.float32), 21: np.full(64, np.inf, np.float32)}
    session = DetectionSession(only("formats"), HALF)
    frames = [replace(frame, histograms=bad | nan) for frame in trace.frames()]
    assert [item for frame in frames for item in session.push(frame).findings] == []


def test_restarts_between_histograms_change_no_finding() -> None:
    """The rows between them are remembered."""
    trace = _in_half()
    shares = _gradients(trace, 4, -22, 0.6) | {ACTIVATION: {18: 0.01, 0: 0.99}}
    found = []
    data = DetectionSession(only("formats"), HALF).state()
    for frame in _frames(trace, shares):
        session = DetectionSession(only("formats"), HALF)
        session.restore(data)
        found += [finding for finding, _ in session.push(frame).findings]
        data = session.state()
    assert found == _told(trace, shares) != []


def test_updates_that_bfloat16_rounds_away_are_told_once_the_loss_stands() -> None:
    """A hundred rows of it, and the sentence says how small they are."""
    trace = lost_in_rounding()
    found = told_by("formats", trace)
    assert {(f.kind, f.evidence["number_format"]) for f in found} == {
        ("precision_underflow", "bfloat16")
    }
    sentences = [c.sentence for c in changes_of(trace)]
    assert any("lost in the rounding of bfloat16 weights" in text for text in sentences)


def test_rounding_is_quiet_while_the_loss_falls_or_has_fallen() -> None:
    """Stochastic rounding learns in such steps, and what has converged needs none."""
    falls, fell = lost_in_rounding(), lost_in_rounding()
    falls.scalars["loss"] = 5.0 * np.exp(-np.arange(260) / 500)
    fell.scalars["loss"][20:] /= 100
    assert told_by("formats", falls) == told_by("formats", fell) == []


def test_rounding_is_quiet_under_a_rate_that_was_taken_down() -> None:
    """The end of a schedule is meant to be small."""
    trace = lost_in_rounding()
    trace.scalars["lr"] = np.where(np.arange(260) < 30, 1e-3, 1e-5)
    assert told_by("formats", trace) == []


def test_float32_weights_take_small_updates() -> None:
    """Their last place is 2^15 times finer."""
    trace = lost_in_rounding()
    for name in trace.names("weight"):
        trace.describe(name, dtype="float32")
    assert told_by("formats", trace) == []


def test_state_is_bytes() -> None:
    """Nothing in it but numbers."""
    session = DetectionSession(only("formats"), HALF)
    for frame in _in_half(9).frames():
        session.push(frame)
    state = session.engine.state()
    assert decode_state(encode_state(state))["detectors"].keys() == {"formats"}


def test_rounding_is_quiet_in_a_run_that_is_seen_from_its_middle_on() -> None:
    """It may have converged long before its first row."""
    trace = lost_in_rounding()
    trace.steps = trace.steps + 5000
    assert told_by("formats", trace) == []
