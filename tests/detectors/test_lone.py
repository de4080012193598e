"""Lone tensors: one that leaves its place among its peers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.detectors.faults import FIRST, LAYER, lonely_update, small_updates
from tests.detectors.traces import changes_of, names_of, opened, told_by


def test_an_update_that_grows_alone_is_named() -> None:
    """On its third row, dated to the first."""
    trace = lonely_update()
    (finding,) = told_by("lone", trace)
    assert (finding.kind, finding.severity) == ("update_too_large", "warning")
    assert names_of([finding], trace) == [f"update:{LAYER}.weight"]
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 2)


def test_a_gradient_that_grows_alone_is_a_spike_of_it() -> None:
    """A sum where there was a mean, in one layer."""
    trace = small_updates(160)
    trace.scale(f"gradient:{LAYER}.weight", 30.0, FIRST)
    (finding,) = told_by("lone", trace)
    assert finding.kind == "gradient_spike"
    assert names_of([finding], trace) == [f"gradient:{LAYER}.weight"]


def test_an_activation_that_grows_alone_is_an_explosion() -> None:
    """A gain that was applied twice: eight times is plain, whatever the loss does."""
    trace = small_updates(160)
    trace.scale(f"activation:{LAYER}", 8.0, FIRST)
    (finding,) = told_by("lone", trace)
    assert finding.kind == "explosion"
    assert names_of([finding], trace) == [f"activation:{LAYER}"]


def test_the_deepest_activation_may_leave_its_place() -> None:
    """It begins near zero and grows as it learns to answer."""
    trace = small_updates(160)
    trace.scale("activation:head", 8.0, FIRST)
    assert told_by("lone", trace) == []


def test_one_of_three_is_told() -> None:
    """The median one is still another, so a small network has a place to leave."""
    trace = small_updates(160)
    for name in trace.names("gradient")[3:]:
        trace.stats[:, trace.index(name), :] = np.nan
    trace.scale(trace.names("gradient")[1], 30.0, FIRST)
    assert names_of(told_by("lone", trace), trace) == [trace.names("gradient")[1]]


def test_the_incident_names_the_layer() -> None:
    """Whatever the other detectors say beside it."""
    assert [i.group for i in opened(lonely_update())] == [LAYER]


def test_updates_that_grow_together_are_left_to_others() -> None:
    """A rate moves all of them."""
    trace = small_updates(160)
    for name in trace.names("update"):
        trace.scale(name, 16.0, FIRST)
    assert told_by("lone", trace) == []


def test_noise_that_all_share_hides_nothing() -> None:
    """Batches that scale every gradient by up to sixteen do not hide the one that left."""
    trace = lonely_update()
    shared = np.exp2(np.random.default_rng(1).normal(0, 1.3, 160))
    for name in trace.names("update"):
        trace.scale(name, shared)
    assert names_of(told_by("lone", trace), trace) == [f"update:{LAYER}.weight"]


def test_two_rows_are_quiet() -> None:
    """Single tensors jump now and then."""
    trace = small_updates(160)
    trace.scale(f"update:{LAYER}.weight", 16.0, FIRST)
    trace.scale(f"update:{LAYER}.weight", 1 / 16.0, FIRST + 2)
    assert told_by("lone", trace) == []


def test_a_group_of_its_own_from_the_start_is_quiet() -> None:
    """Layer-wise rates give every layer its place."""
    trace = small_updates(160)
    trace.scale(f"update:{LAYER}.weight", 16.0)
    assert told_by("lone", trace) == []


def test_one_that_stays_while_all_others_fall_is_quiet() -> None:
    """Its place is another, but it has not moved."""
    trace = small_updates(160)
    for kind in ("gradient", "update"):
        for name in trace.names(kind):
            if LAYER not in name:
                trace.scale(name, 1 / 30.0, FIRST)
    assert told_by("lone", trace) == []


def test_the_sentence_speaks_of_the_place_not_of_a_jump() -> None:
    """Thirty times its place is not thirty times its size where the others moved as well."""
    trace = small_updates(160)
    for name in trace.names("gradient"):
        trace.scale(name, 4.0 if LAYER in name else 1 / 4.0, FIRST)
    (change,) = [c for c in changes_of(trace) if c.transition == "opened"]
    ratio = change.incident.evidence["ratio"]
    assert change.sentence.startswith(
        f"The gradient of {LAYER} stands {ratio:.1f}x above its usual place among the others "
        f"from step {FIRST}"
    )
    assert 14 < float(ratio) < 18


def test_growth_that_is_slow_makes_no_room_for_itself() -> None:
    """Twice as large every eight rows, the scale of its place does not grow along."""
    trace = small_updates(160)
    trace.scale(f"gradient:{LAYER}.weight", _ramp(160, octaves=6.0, rows_an_octave=8))
    (finding, *_) = told_by("lone", trace)
    assert (finding.kind, names_of([finding], trace)) == (
        "gradient_spike",
        [f"gradient:{LAYER}.weight"],
    )
    assert finding.step < FIRST + 40


def test_a_noisy_gradient_needs_more_rows() -> None:
    """Eight, within six scales of where it usually is."""
    trace = small_updates(200)
    noise = np.exp2(np.random.default_rng(3).normal(0, 1.0, 200))
    trace.scale(f"gradient:{LAYER}.weight", noise)
    trace.scale(f"gradient:{LAYER}.weight", 2.0**5, 120)
    (finding, *_) = told_by("lone", trace)
    assert names_of([finding], trace) == [f"gradient:{LAYER}.weight"]
    assert 127 <= finding.step < 140


def test_the_smallest_of_four_may_pass_the_others_by() -> None:
    """Then the median is another one, which is no move of the rest, nor less of its own."""
    trace = small_updates(160)
    names = trace.names("gradient")
    for name in names[4:]:
        trace.stats[:, trace.index(name), :] = np.nan
    for place, name in enumerate(names[:4]):
        trace.scale(name, 4.0**place)
    trace.scale(names[0], 12.0, FIRST)
    told = told_by("lone", trace)
    assert names_of(told[:1], trace) == names[:1]
    assert told[0].score > 3.0


def test_attention_logits_are_left_to_their_own_rule() -> None:
    """They begin near zero too, and have a scale of their own."""
    trace = small_updates(160)
    trace.describe(f"activation:{LAYER}", name="blocks.1.attn.logits")
    trace.scale("activation:blocks.1.attn.logits", 8.0, FIRST)
    assert told_by("lone", trace) == []


def test_a_gradient_that_sinks_alone_has_vanished() -> None:
    """On its twentieth row, dated to the first."""
    trace = small_updates(160)
    trace.scale(f"gradient:{LAYER}.weight", 1 / 16.0, FIRST)
    (finding,) = told_by("lone", trace)
    assert (finding.kind, finding.severity) == ("vanishing_gradient", "warning")
    assert names_of([finding], trace) == [f"gradient:{LAYER}.weight"]
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 19)


def test_a_gradient_that_is_as_good_as_gone_takes_six_rows() -> None:
    """A millionth of what it was is no noise."""
    trace = small_updates(160)
    trace.scale(f"gradient:{LAYER}.weight", 1e-6, FIRST)
    (finding,) = told_by("lone", trace)
    assert (finding.kind, finding.onset_step) == ("vanishing_gradient", FIRST)
    assert finding.step == FIRST + 5


def test_the_sentence_says_how_far_below() -> None:
    """And of what."""
    trace = small_updates(160)
    trace.scale(f"gradient:{LAYER}.weight", 1 / 16.0, FIRST)
    (change,) = [c for c in changes_of(trace) if c.transition == "opened"]
    below = 1 / float(change.incident.evidence["ratio"])
    assert change.sentence.startswith(
        f"The gradient of {LAYER} stands {below:.1f}x below its usual place among the others "
        f"from step {FIRST}"
    )


def test_of_activations_that_sink_together_the_first_is_named() -> None:
    """All from one layer on, up to the last; the quarter before it has stayed."""
    trace = small_updates(160)
    names = trace.names("activation")
    for name in names[4:]:
        trace.scale(name, _ramp(160, octaves=-5.0, rows_an_octave=4))
    told = told_by("lone", trace)
    assert {f.kind for f in told} == {"representation_collapse"}
    assert names_of(told[:1], trace) == names[4:5]


def test_gradients_that_sink_together_are_quiet() -> None:
    """Converging shrinks all of them; so do all but a few."""
    trace = small_updates(160)
    for name in trace.names("gradient")[:11]:
        trace.scale(name, 1 / 16.0, FIRST)
    assert told_by("lone", trace) == []


def _ramp(num_rows: int, *, octaves: float, rows_an_octave: int) -> npt.NDArray[np.float64]:
    """Factors that double, or halve, every so many rows from the first on, up to a limit."""
    grown = np.maximum(np.arange(num_rows) - FIRST, 0) / rows_an_octave
    return np.asarray(np.exp2(np.sign(octaves) * np.minimum(grown, abs(octaves))))
