"""NaN and Inf: named in the order of the flow, and silent where they are handled."""

from __future__ import annotations

import numpy as np
from foreshock.wire import FrameFlag

from tests.detectors.traces import Trace, healthy, opened


def _nan(trace: Trace, series: str, first: int, last: int | None = None) -> None:
    trace.put(series, "nan_count", 10, slice(first, last))


def test_the_first_tensor_in_the_flow_is_named() -> None:
    """Of NaN in three activations and all gradients, the shallowest activation is the root."""
    trace = healthy(80)
    for name in ("blocks.1.mlp.up", "blocks.1.mlp.down", "head"):
        _nan(trace, f"activation:{name}", 60)
    for series in trace.schema.series:
        if series.kind == "gradient":
            _nan(trace, f"gradient:{series.name}", 60)
    (incident,) = opened(trace)
    assert incident.kind == "non_finite"
    assert incident.root_series == "activation:blocks.1.mlp.up"
    assert (incident.onset_step, incident.opened_step) == (60, 60)


def test_gradients_are_named_from_the_loss_down() -> None:
    """Without a NaN in the forward pass, the deepest gradient is where it was made."""
    trace = healthy(80)
    for name in ("blocks.0.attn.qkv", "blocks.2.mlp.up", "blocks.1.mlp.up"):
        _nan(trace, f"gradient:{name}.weight", 60)
    (incident,) = opened(trace)
    assert incident.root_series == "gradient:blocks.2.mlp.up.weight"


def test_a_skipped_step_is_no_fault() -> None:
    """Gradients of a step that loss scaling skipped may overflow."""
    trace = healthy(80)
    for row in (0, 1, 2, 40, 70):
        _nan(trace, "gradient:head.weight", row, row + 1)
        trace.flags[row] |= int(FrameFlag.SKIPPED)
    assert opened(trace) == []


def test_a_logged_loss_scale_with_still_updates_is_handled() -> None:
    """The same without the flag: a loss scale is logged and nothing was updated."""
    trace = healthy(80)
    trace.scalars["loss_scale"] = np.full(80, 65536.0)
    _nan(trace, "gradient:head.weight", 40, 41)
    for series in trace.schema.series:
        if series.kind == "update":
            trace.scale(f"update:{series.name}", np.where(np.arange(80) == 40, 0.0, 1.0))
    assert opened(trace) == []


def test_a_skipped_step_does_not_excuse_an_activation() -> None:
    """Loss scaling handles gradients, not a forward pass that is no number any more."""
    trace = healthy(80)
    trace.flags[40] |= int(FrameFlag.SKIPPED)
    _nan(trace, "activation:head", 40, 41)
    assert [i.kind for i in opened(trace)] == ["non_finite"]


def test_a_mask_that_was_always_infinite_is_none() -> None:
    """An activation that holds -Inf from its first row on is an additive mask."""
    trace = healthy(80)
    trace.put("activation:blocks.0.attn.qkv", "inf_count", 100, slice(0, None))
    assert opened(trace) == []


def test_a_loss_that_is_nan_is_found_without_any_series() -> None:
    """NaN is a value of the loss; it is nobody's fault as far as is known."""
    trace = healthy(80)
    trace.scalars["loss"][50:] = np.nan
    (incident,) = opened(trace)
    assert (incident.kind, incident.group, incident.loss_step) == ("non_finite", None, 50)


def test_a_loss_that_was_not_logged_is_not_nan() -> None:
    """Absent is not NaN."""
    trace = healthy(80)
    trace.missing |= {("loss", row) for row in range(30, 60)}
    assert opened(trace) == []


def test_nan_does_not_poison_the_baselines() -> None:
    """After a NaN that passes, the same series' later growth is found all the same."""
    trace = healthy(300)
    _nan(trace, "weight:blocks.1.mlp.up.weight", 50, 52)
    trace.scale("weight:blocks.1.mlp.up.weight", np.exp2(np.arange(100) / 10), 200)
    trace.scale("update:blocks.1.mlp.up.weight", 40.0)
    kinds = [i.kind for i in opened(trace)]
    assert kinds == ["non_finite", "explosion"]
