"""Fading: layers that shrink away while the others go on."""

from __future__ import annotations

import numpy as np

from tests.detectors.faults import (
    FIRST,
    LAYER,
    WEIGHT,
    decaying_weights,
    fading_weight,
    small_updates,
)
from tests.detectors.traces import changes_of, names_of, told_by


def test_a_weight_that_fades_is_named() -> None:
    """Once it has lost 1.75 octaves for 12 rows."""
    trace = fading_weight()
    (finding,) = told_by("fading", trace)
    assert (finding.kind, finding.severity) == ("representation_collapse", "warning")
    assert names_of([finding], trace) == [WEIGHT]
    assert finding.onset_step > FIRST


def test_the_sentence_says_how_much_is_left() -> None:
    """And not that samples are answered alike, which nobody measured."""
    sentences = [c.sentence for c in changes_of(fading_weight()) if "fades" in c.sentence]
    assert sentences
    assert f"{LAYER} fades since step" in sentences[0]
    assert "of the largest size it had" in sentences[0]


def test_an_activation_that_fades_is_named() -> None:
    """Whatever silenced it."""
    trace = small_updates(160)
    rows = np.clip(np.arange(160) - FIRST, 0, 30)
    trace.scale(f"activation:{LAYER}", np.power(0.9, rows, dtype=np.float64))
    assert names_of(told_by("fading", trace), trace) == [f"activation:{LAYER}"]


def test_outputs_near_zero_are_quiet() -> None:
    """Targets near zero make them small."""
    trace = small_updates(160)
    rows = np.clip(np.arange(160) - FIRST, 0, 30)
    trace.scale("activation:head", np.power(0.9, rows, dtype=np.float64))
    assert told_by("fading", trace) == []


def test_weights_that_shrink_together_have_nobody_to_name() -> None:
    """A decay that takes a tenth of all on each row."""
    trace = decaying_weights(0.9)
    (finding,) = told_by("fading", trace)
    assert (finding.kind, finding.severity) == ("representation_collapse", "warning")
    assert finding.series is None
    assert FIRST < finding.onset_step < finding.step < FIRST + 24
    for name in trace.names("update"):  # Else `updates` tells of them first, by the weights.
        trace.scale(name, np.power(0.9, np.clip(np.arange(160) - FIRST, 0, 100)))
    (change, *_) = changes_of(trace)
    assert "All weights shrink since step" in change.sentence


def test_weights_that_are_measured_now_and_then_may_shrink_together() -> None:
    """Rows between them say neither one nor the other."""
    trace = decaying_weights(0.95)
    for name in trace.names("weight"):
        trace.stats[np.arange(160) % 4 != 0, trace.index(name)] = np.nan
    (finding,) = told_by("fading", trace)
    assert finding.series is None


def test_a_decay_that_a_network_grows_against_is_quiet() -> None:
    """A thousandth a row halves nothing within the slow average."""
    assert told_by("fading", decaying_weights(0.999)) == []


def test_a_batch_of_small_outputs_is_quiet() -> None:
    """The level is an average over eight rows."""
    trace = small_updates(160)
    trace.scale(f"activation:{LAYER}", np.where(np.arange(160) == FIRST, 1e-3, 1.0))
    assert told_by("fading", trace) == []


def test_of_activations_that_fade_together_the_first_is_named() -> None:
    """What a layer loses is lost to all after it; a quarter before it has kept its size."""
    trace = small_updates(160)
    names = trace.names("activation")
    for place, name in enumerate(names[4:-1]):
        rows = np.clip(np.arange(160) - FIRST, 0, 40)
        trace.scale(name, np.power(0.9 - 0.005 * (place % 2), rows, dtype=np.float64))
    told = told_by("fading", trace)
    assert names_of(told[:1], trace) == names[4:5]


def test_a_weight_that_fell_less_comes_after_one_that_fell_more() -> None:
    """The flow decides among those alone that fell alike."""
    trace = small_updates(200)
    for name, share in (("blocks.0.mlp.up", 0.3), ("blocks.1.mlp.up", 0.03)):
        rows = np.clip((np.arange(200) - FIRST) / 60, 0.0, 1.0)
        trace.scale(f"weight:{name}.weight", np.power(share, rows))
    last = told_by("fading", trace)
    assert names_of(last[-1:], trace) != []
    both = [f for f in last if f.step == last[-1].step]
    assert names_of(both[:1], trace) == ["weight:blocks.1.mlp.up.weight"]


def test_weights_that_were_cut_once_are_quiet() -> None:
    """Halved on purpose, and they stay where they are."""
    trace = small_updates(160)
    for name in trace.names("weight"):
        trace.scale(name, 0.5, FIRST)
    assert told_by("fading", trace) == []


def test_a_weight_that_was_put_down_and_grows_again_is_quiet() -> None:
    """An adapter that was merged begins at nought once more."""
    trace = small_updates(160)
    trace.scale(WEIGHT, np.arange(1, 61) / 60, 100)
    assert told_by("fading", trace) == []
