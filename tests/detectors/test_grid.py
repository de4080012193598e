"""Grid: gradients that are a few steps of a number format's smallest numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import FIRST, on_a_grid
from tests.detectors.traces import COLUMN, Trace, healthy, names_of, only, told_by


def _tiny(size: float = 1e-7) -> Trace:
    """Gradients as small as those, of float32."""
    trace = healthy(200)
    for name in trace.names("gradient"):
        trace.scale(name, size)
    return trace


def test_gradients_of_a_few_steps_are_named() -> None:
    """On the sixteenth row, those with the smallest elements first."""
    trace = on_a_grid()
    found = told_by("grid", trace)
    assert set(names_of(found, trace)) == set(trace.names("gradient")[:3])
    assert {(f.kind, str(f.severity)) for f in found} == {("precision_underflow", "warning")}
    assert {(f.onset_step, f.step) for f in found} == {(FIRST, FIRST + 15)}


def test_the_sentence_says_how_small_they_are() -> None:
    """Beside the least normal float16."""
    session = DetectionSession(only("grid"))
    changes = [c for frame in on_a_grid().frames() for c in session.push(frame).changes]
    assert any("a few steps of a number format's smallest numbers" in c.sentence for c in changes)


def test_a_loss_scale_changes_nothing() -> None:
    """It is a power of two, taken out or not."""
    trace = on_a_grid()
    for name in trace.names("gradient")[:3]:
        trace.scale(name, 2.0**12, FIRST)
    assert len(told_by("grid", trace)) == 3


def test_rows_on_which_all_is_zero_belong_to_it() -> None:
    """What little there was is gone now and then."""
    trace = on_a_grid()
    for name in trace.names("gradient")[:3]:
        trace.scale(name, np.where(np.arange(120) % 3 == 1, 0.0, 1.0))
    assert len(told_by("grid", trace)) == 3


def test_small_gradients_of_a_wide_format_are_quiet() -> None:
    """Their largest elements have all their bits."""
    assert told_by("grid", _tiny()) == []


def test_small_gradients_of_bfloat16_are_quiet() -> None:
    """Eight bits are more than five on most rows."""
    trace = _tiny()
    mantissa, exponent = np.frexp(trace.stats)
    trace.stats[:] = np.ldexp(np.round(mantissa * 256) / 256, exponent)
    assert told_by("grid", trace) == []


def test_counts_are_quiet() -> None:
    """The gradient of an absolute error is a count, and not small."""
    trace = on_a_grid()
    for name in trace.names("gradient")[:3]:
        trace.scale(name, 2.0**30, FIRST)
    assert told_by("grid", trace) == []


def test_more_bits_than_there_are_is_no_error() -> None:
    """Every small gradient has no more than that."""
    config = EngineConfig.from_document({"thresholds": {"grid": {"bits": 2000}}})
    session = DetectionSession(config)
    found = [f for frame in _tiny().frames() for f, _ in session.push(frame).findings]
    assert any(f.detector == "grid" for f in found)


def test_a_single_tensor_is_quiet() -> None:
    """A format is the same for all."""
    assert told_by("grid", on_a_grid(1)) == []


def test_what_rounding_leaves_of_a_bias_of_keys_is_quiet() -> None:
    """Its gradient is nought, but for the last bits of a sum."""
    trace = on_a_grid()
    for name in trace.names("gradient")[:3]:
        trace.describe(name, shape=(32,), numel=32)
        for statistic in ("std", "min", "max"):
            trace.stats[FIRST:, trace.index(name), COLUMN[statistic]] *= 2.0**-8
    assert told_by("grid", trace) == []


def test_a_schema_that_loses_its_gradients_is_no_trouble() -> None:
    """They may be left out of a later attempt."""
    session = DetectionSession()
    rows = list(on_a_grid().frames())
    for frame in rows[: FIRST + 8]:
        session.push(frame)
    kept = [i for i, s in enumerate(rows[0].schema.series) if s.kind != "gradient"]
    schema = replace(
        rows[0].schema, series=tuple(s for s in rows[0].schema.series if s.kind != "gradient")
    )
    for frame in rows[FIRST + 8 : FIRST + 12]:
        session.push(replace(frame, schema=schema, stats=frame.stats[kept]))
