"""Slow growth: found before it is large, and not confused with learning."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.traces import Trace, changes_of, healthy, names_of, opened, told_by


def _ramp(rows: int, first: int, doubling: float) -> np.ndarray:
    return np.exp2(np.maximum(np.arange(rows) - first, 0) / doubling)


def _grow(trace: Trace, name: str) -> None:
    """A weight doubles every 25 rows, by updates that allow it."""
    trace.scale(f"update:{name}", 20.0)
    trace.scale(f"weight:{name}", _ramp(300, 150, 25.0))


def test_a_weight_that_keeps_doubling_is_found_and_named() -> None:
    """Doubling every 25 rows is found within three doublings."""
    trace = healthy(300)
    _grow(trace, "blocks.1.attn.qkv.weight")
    (incident,) = opened(trace)
    assert (incident.kind, incident.group) == ("explosion", "blocks.1.attn.qkv")
    assert incident.opened_step <= 225


def test_the_same_layer_in_every_block_is_named_as_a_family() -> None:
    """QKV in three blocks leaving is `attn.qkv` once it is known."""
    trace = healthy(300)
    for block in range(3):
        _grow(trace, f"blocks.{block}.attn.qkv.weight")
    changes = changes_of(trace)
    assert {c.incident.number for c in changes} == {1}
    assert changes[-1].incident.group == "attn.qkv"


def test_attention_logits_beyond_the_useful_range() -> None:
    """The logged maximum on three rows above 40 and three times its start."""
    trace = healthy(200)
    trace.scalars["attn_logit_max"] = 2.0 * _ramp(200, 80, 10.0)
    (incident,) = opened(trace)
    assert (incident.kind, incident.group) == ("attention_logit_growth", None)
    assert 124 <= incident.opened_step <= 128


def test_attention_logits_that_sharpen_within_range_are_quiet() -> None:
    """From 0.1 to 20 is how attention learns."""
    trace = healthy(200)
    trace.scalars["attn_logit_max"] = np.minimum(0.1 * _ramp(200, 20, 12.0), 20.0)
    assert opened(trace) == []


def test_warm_up_decay_and_a_warm_restart_are_quiet() -> None:
    """Updates that all follow a schedule are no fault."""
    trace = healthy(400)
    rows = np.arange(400)
    rate = np.minimum((rows + 1) / 60, 1) * np.where(rows < 250, 0.5 + 0.5 * np.cos(rows / 80), 1)
    for series in trace.schema.series:
        if series.kind == "update":
            trace.scale(f"update:{series.name}", np.maximum(rate, 1e-3))
    assert opened(trace) == []


def test_a_weight_that_grows_up_from_zero_is_quiet() -> None:
    """An adapter that starts at zero grows fast for long."""
    trace = healthy(300)
    small = 1e-3 * np.sqrt(np.arange(300) + 1)
    trace.scale("weight:blocks.0.mlp.up.weight", small)
    trace.scale("activation:blocks.0.mlp.up", small)
    assert opened(trace) == []


def test_of_layers_that_grow_together_the_first_in_the_flow_is_named() -> None:
    """Though noise lets a later one be seen to leave before it."""
    trace = healthy(200)
    names = trace.names("activation")
    for name in names[5:]:
        trace.scale(name, np.exp2(np.maximum(np.arange(200) - 80, 0) / 10))
    noise = np.exp2(np.random.default_rng(2).normal(0, 0.25, 200))
    trace.scale(names[5], noise)
    (incident,) = opened(trace)
    assert (incident.kind, incident.group) == ("explosion", names[5].partition(":")[2])


def test_gradients_that_grow_while_nothing_is_learned_are_told() -> None:
    """A hundred times what they were; while the loss falls it would be learning."""
    trace = healthy(300)
    for name in trace.names("gradient"):
        trace.scale(name, np.exp2(np.clip(np.arange(300) - 160, 0, 70) / 10))
    found = told_by("growth", trace)
    assert {f.kind for f in found} == {"explosion"}
    trace.scalars["loss"] = np.geomspace(5.0, 0.5, 300)
    assert told_by("growth", trace) == []


def test_what_grows_with_a_loss_that_has_no_lower_bound_is_told() -> None:
    """It is not learning once the loss lies further below nought than it began above it."""
    trace = healthy(300)
    for name in trace.names("activation"):
        trace.scale(name, np.exp2(np.clip(np.arange(300) - 160, 0, 70) / 10))
    trace.scalars["loss"] = np.geomspace(5.0, 0.5, 300)
    assert told_by("growth", trace) == []
    trace.scalars["loss"] = 5.0 - np.exp2(np.arange(300) / 35)
    assert {f.kind for f in told_by("growth", trace)} == {"explosion"}


def test_attention_that_sharpens_while_the_loss_falls_is_given_twice_as_much() -> None:
    """Sixty while it learns is no news; it is once the loss stays."""
    trace = healthy(200)
    trace.scalars["attn_logit_max"] = np.linspace(5.0, 65.0, 200)
    trace.scalars["loss"] = np.linspace(5.0, 0.5, 200)
    assert told_by("growth", trace) == []
    trace.scalars["loss"][120:] = trace.scalars["loss"][120]
    (finding,) = told_by("growth", trace)
    assert finding.kind == "attention_logit_growth"


def test_a_gradient_that_grows_up_to_the_others_is_quiet() -> None:
    """As behind a gate that opens: it is still smaller than most."""
    trace = healthy(300)
    name = "gradient:blocks.1.mlp.up.weight"
    trace.scale(name, np.exp2(np.clip(np.arange(300) - 160, 0, 70) / 10))
    assert names_of(told_by("growth", trace), trace) == [name]
    trace.scale(name, 1e-3)
    assert told_by("growth", trace) == []


def test_attention_that_grew_with_the_logits_is_named() -> None:
    """A scalar says that they are too large, the weights of queries and keys say where."""
    trace = healthy(200)
    trace.scalars["attn_logit_max"] = 2.0 * _ramp(200, 80, 10.0)
    for block in (1, 2):
        trace.scale(f"weight:blocks.{block}.attn.qkv.weight", np.sqrt(_ramp(200, 80, 24.0)))
    found = [f for f in told_by("growth", trace) if f.kind == "attention_logit_growth"]
    assert found[0].series is None
    named = sorted(names_of(found, trace))
    assert named == [f"weight:blocks.{b}.attn.qkv.weight" for b in (1, 2)]


@pytest.mark.parametrize("name", ["attn_max", "attention/max_score/3", "layers.1.attn.max_logit"])
def test_attention_logits_are_known_by_other_names(name: str) -> None:
    """The largest of them counts."""
    trace = healthy(200)
    trace.scalars[name] = 2.0 * _ramp(200, 80, 10.0)
    trace.scalars["layers.0.attn.max_logit"] = np.full(200, 2.0)
    trace.scalars["layers.9.attn.max_logit"] = np.full(200, np.nan)
    assert {f.kind for f in told_by("growth", trace)} == {"attention_logit_growth"}


@pytest.mark.parametrize("name", ["attn_entropy_max", "attn/grad_max", "max_steps", "attn"])
def test_other_scalars_are_no_attention_logits(name: str) -> None:
    """They may be of any size."""
    trace = healthy(200)
    trace.scalars[name] = 2.0 * _ramp(200, 80, 100.0)
    assert told_by("growth", trace) == []


def test_gradients_that_grew_as_half_of_the_loss_was_learned_are_quiet() -> None:
    """They are largest on the way down, and where it ends."""
    trace = healthy(300)
    for name in trace.names("gradient"):
        trace.scale(name, np.exp2(np.clip(np.arange(300) - 160, 0, 70) / 10))
    trace.scalars["loss"] = np.where(np.arange(300) < 170, 3.0, 0.9)
    assert told_by("growth", trace) == []


def test_a_single_number_is_no_matrix() -> None:
    """A gain of a residual branch begins at nought and grows a hundredfold."""
    trace = healthy(300)
    trace.scale("weight:blocks.1.mlp.up.weight", np.exp2(np.clip(np.arange(300) - 160, 0, 70) / 10))
    assert told_by("growth", trace)
    trace.describe("weight:blocks.1.mlp.up.weight", shape=(), numel=1)
    assert told_by("growth", trace) == []
