"""The life of an incident: opening, naming, the loss, recovery, people."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.domain.incidents import State
from foreshock_service.incidents.lifecycle import acknowledge, is_news, resolve
from foreshock_service.incidents.names import family_of, module_of, tensor_of
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import GRADIENT, LAYER, WEIGHT
from tests.detectors.traces import COLUMN, Trace, changes_of, findings_of, healthy, only, opened


def test_recovery_is_told_with_its_length() -> None:
    """Quiet rows end an incident at the step after its last finding."""
    trace = healthy(200)
    trace.scalars["loss"][120:126] += 2.5
    last = changes_of(trace)[-1]
    assert last.transition == "recovered"
    assert last.incident.recovered_step is not None
    after = last.incident.recovered_step - last.incident.onset_step
    assert f"recovered after {after} steps" in last.sentence


def test_a_relapse_is_the_same_incident() -> None:
    """A second spike within the cooldown opens nothing new; one after it is told again."""
    trace = healthy(300)
    for row in (120, 165, 225):
        trace.put("weight:head.weight", "nan_count", 3, slice(row, row + 2))
    assert [incident.opened_step for incident in opened(trace)] == [120, 225]


def test_a_relapse_that_does_damage_is_told() -> None:
    """Who was told that a run has recovered must hear that it has not."""
    trace = healthy(300)
    for row in (120, 165):
        trace.put("weight:head.weight", "nan_count", 3, slice(row, row + 2))
    told = [(c.transition, c.step) for c in changes_of(trace)]
    assert ("escalated", 165) in told
    (again,) = [c for c in changes_of(trace) if c.transition == "escalated"]
    assert again.sentence.startswith("Again at step 165: ")


def test_what_joins_a_relapse_is_news_also_if_it_was_there_before() -> None:
    """A small spike that takes an old incident up again must not hide the large one after it."""
    trace = healthy(400)
    trace.scalars["grad_norm"] = np.ones(400)
    trace.scalars["grad_norm"][[120, 168]] = (40.0, 90.0)
    trace.scalars["loss"][120:124] += 6
    trace.scalars["loss"][176:184] += 30
    told = [(c.transition, c.step, c.incident.kinds[-1]) for c in changes_of(trace)]
    assert [item for item in told if item[1] == 168] == []
    assert ("escalated", 177, "loss_spike") in told


def test_a_kind_that_comes_with_a_relapse_is_recorded_and_told() -> None:
    """A relapse says nothing of what was said, but something of what is new and graver."""
    trace = healthy(300)
    trace.scalars["grad_norm"] = np.ones(300)
    trace.scalars["grad_norm"][[120, 168]] = (40.0, 90.0)
    for name in trace.names("activation")[1:]:
        trace.scale(name, np.where(np.arange(300) == 168, 30.0, 1.0))
    (change,) = [c for c in changes_of(trace) if c.transition == "escalated"]
    assert (change.step, change.incident.kinds[-1]) == (168, "explosion")


def _spiking(*spikes: tuple[int, float, str]) -> Trace:
    """Gradients that jump on one row each."""
    trace = healthy(300)
    for row, factor, name in spikes:
        trace.scale(name, np.where(np.arange(300) == row, factor, 1.0))
    return trace


def test_long_after_recovery_a_warning_of_the_same_series_is_silent() -> None:
    """It is the same incident, of which nothing is told but its end."""
    changes = changes_of(_spiking((120, 200.0, GRADIENT), (206, 600.0, GRADIENT)))
    told = [(c.incident.number, str(c.transition), c.step) for c in changes]
    assert told == [(1, "opened", 120), (1, "recovered", 145), (1, "recovered", 231)]


def test_long_after_recovery_another_series_is_told_anew() -> None:
    """Sooner it would be the same trouble."""
    head = "gradient:head.weight"
    for row, told in ((166, [120]), (206, [120, 206])):
        trace = _spiking((120, 200.0, GRADIENT), (row, 200.0, head))
        assert [incident.opened_step for incident in opened(trace)] == told


def test_long_after_recovery_what_is_critical_is_told_anew() -> None:
    """Also of a series that the incident had named."""
    trace = healthy(300)
    for row in (120, 207):
        trace.put(WEIGHT, "nan_count", 3, slice(row, row + 2))
    assert [incident.opened_step for incident in opened(trace)] == [120, 207]


def test_long_after_recovery_a_loss_that_jumps_is_told_anew() -> None:
    """It names no series that could be the same."""
    trace = healthy(300)
    trace.scalars["loss"][120:126] += 2.5
    trace.scalars["loss"][211:217] += 4.5
    assert [incident.onset_step for incident in opened(trace)] == [120, 211]


@pytest.mark.parametrize(
    ("kind", "shown", "is_told"),
    [
        ("update_too_large", {"loss_spike"}, True),
        ("bad_batch", {"gradient_spike", "loss_spike"}, True),
        ("dead_units", {"loss_spike"}, False),
        ("gradient_spike", {"loss_spike"}, False),
        ("bad_batch", {"loss_spike", "update_too_large"}, False),
        ("divergence", {"loss_spike", "update_too_large"}, True),
    ],
)
def test_the_first_explanation_of_symptoms_is_news(
    kind: str, shown: set[str], is_told: bool
) -> None:
    """A jump of the loss says that something happened; what says what is told, a second is not."""
    assert is_news(kind, shown) is is_told


@pytest.mark.parametrize(
    ("kind", "shown", "is_told"),
    [
        ("dead_units", {"weight_corruption"}, True),
        ("non_finite", {"weight_corruption", "explosion"}, True),
        ("explosion", {"weight_corruption", "explosion"}, False),
        ("saturation", {"update_too_large", "vanishing_gradient"}, False),
        ("loss_spike", {"weight_corruption"}, False),
        ("plateau", {"update_too_large"}, False),
    ],
)
def test_what_came_of_a_cause_is_news(kind: str, shown: set[str], is_told: bool) -> None:
    """What was done to the weights does not say what has become of the network."""
    assert is_news(kind, shown) is is_told


def test_units_that_die_after_a_jump_of_the_loss_are_recorded() -> None:
    """It leaves them behind, and they explain nothing."""
    trace = healthy(300)
    trace.scalars["loss"][120:126] += 2.5
    trace.put(f"activation:{LAYER}", "zero_frac", 1.0, slice(110, None))
    assert [c.transition for c in changes_of(trace) if c.transition == "escalated"] == []
    assert ("dead_units", 1) in [(f.kind, number) for f, number in findings_of(trace)]


def test_of_findings_on_one_row_the_explanation_leads() -> None:
    """Gradients that jump further than the inputs are what a bad batch does."""
    trace = healthy(300)
    for kind, factor in (("gradient", 30.0), ("activation", 20.0)):
        for name in trace.names(kind):
            trace.scale(name, np.where(np.arange(300) == 150, factor, 1.0))
    (incident,) = opened(trace)
    assert incident.kinds == ("bad_batch", "gradient_spike")
    assert (incident.kind, incident.group) == ("bad_batch", "blocks.0.attn.qkv")


def test_the_lead_is_told_when_the_loss_moves() -> None:
    """The sentence names the group, the lead and the step, all from the incident."""
    trace = healthy(300)
    rows = np.maximum(np.arange(300) - 150, 0)
    trace.scale("weight:blocks.1.attn.qkv.weight", np.exp2(rows / 15))
    trace.scalars["loss"][240:] += 3
    moved = [c for c in changes_of(trace) if c.transition == "loss_moved"]
    (change,) = moved
    incident = change.incident
    assert incident.loss_step == 240
    assert incident.lead_steps == 240 - incident.onset_step
    assert f"{incident.lead_steps} steps before the loss moved (step 240)" in change.sentence
    assert "blocks.1.attn.qkv" in change.sentence


def test_kinds_read_differently() -> None:
    """Two kinds are two stories, not one template with another word in it."""
    spike, nan = healthy(200), healthy(200)
    spike.scalars["loss"][120:126] += 2.5
    nan.put("activation:head", "nan_count", 3, slice(120, None))
    assert changes_of(spike)[0].sentence.startswith("The loss jumped from 2.")
    assert changes_of(nan)[0].sentence.startswith("First NaN or Inf in the activation of head")


def test_a_resolved_incident_stays_silent_while_its_cause_goes_on() -> None:
    """Nothing is opened or told again until the cause has gone."""
    trace = healthy(200)
    trace.put("weight:head.weight", "nan_count", 3, slice(100, None))
    session, told = DetectionSession(), []
    for frame in trace.frames():
        told += session.push(frame).changes
        if frame.ord == 110:
            session.tracker.adopt(resolve(session.incidents()[0], by="ada").incident)
    assert [str(c.transition) for c in told] == ["opened"]


def test_every_change_has_a_number_of_its_own() -> None:
    """Also beside what people do meanwhile, and the same when the rows are read again."""
    trace = healthy(300)
    for row in (120, 165):
        trace.put("weight:head.weight", "nan_count", 3, slice(row, row + 2))

    def story() -> list[tuple[int, str]]:
        session, told = DetectionSession(), []
        for frame in trace.frames():
            told += session.push(frame).changes
            if frame.ord == 130:
                told.append(acknowledge(session.incidents()[0], by="ada"))
                session.tracker.adopt(told[-1].incident)
        return [(c.incident.num_changes, str(c.transition)) for c in told]

    words = ["opened", "acknowledged", "recovered", "escalated", "recovered"]
    assert story() == list(enumerate(words, start=1))


def test_acknowledging_marks_and_resolving_closes() -> None:
    """A person's name goes with both, and a closed incident can't be closed again."""
    trace = healthy(120)
    trace.put("weight:head.weight", "nan_count", 3, slice(100, None))
    (incident,) = opened(trace)
    seen = acknowledge(incident, by="ada").incident
    assert (seen.state, seen.acknowledged_by) == (State.OPEN, "ada")
    closed = resolve(seen, by="bob").incident
    assert closed.state is State.RESOLVED
    with pytest.raises(ValueError, match="resolved already"):
        resolve(closed, by="bob")


@pytest.mark.parametrize(
    ("series", "module", "tensor", "family"),
    [
        (
            "gradient:blocks.3.attn.qkv.weight",
            "blocks.3.attn.qkv",
            "blocks.3.attn.qkv.weight",
            "attn.qkv",
        ),
        ("activation:layers.3", "layers.3", "layers.3", None),
        ("activation:encoder.rnn[0]", "encoder.rnn", "encoder.rnn", None),
        ("weight:book.codes", "book", "book.codes", None),
    ],
)
def test_names(series: str, module: str, tensor: str, family: str | None) -> None:
    """A parameter is about its module, of which it may be one of several, and a module in a block
    has a family."""
    assert (module_of(series), tensor_of(series), family_of(module)) == (module, tensor, family)


def _two_jumps(num_rows: int = 420) -> Trace:
    """An activation that jumps and stays there, and another one much later."""
    trace, rows = healthy(num_rows), np.arange(num_rows)
    trace.scale(f"activation:{LAYER}", np.where(rows >= 120, 30.0, 1.0))
    trace.scale("activation:blocks.0.attn.qkv", np.where(rows >= 330, 30.0, 1.0))
    return trace


def test_a_level_that_does_no_harm_for_long_becomes_normal() -> None:
    """Or a run whose baselines rest for good would show nothing that comes later."""
    changes = changes_of(_two_jumps())
    told = [(str(c.transition), c.incident.number, c.incident.group) for c in changes]
    first, second = LAYER, "blocks.0.attn.qkv"
    assert told == [("opened", 1, first), ("recovered", 1, first), ("opened", 2, second)]
    accepted = changes[1].incident.evidence["accepted_step"]
    assert f"taken for normal since step {accepted}" in changes[1].sentence
    assert changes[2].incident.onset_step == 330


def test_a_level_that_did_harm_does_not_become_normal() -> None:
    """The loss moved, and has not come back."""
    trace = _two_jumps()
    trace.scalars["loss"][124:] += 2.5
    assert {c.incident.number for c in changes_of(trace)} == {1}
    assert not any(c.transition == "recovered" for c in changes_of(trace))


def test_a_loss_that_is_back_on_single_rows_has_not_returned() -> None:
    """Its level has moved by less than its noise."""
    trace = _two_jumps()
    noise = np.random.default_rng(8).normal(0, 0.1, 420)
    trace.scalars["loss"] = 2.0 + 3 * np.exp(-np.arange(420) / 30) + noise
    trace.scalars["loss"][124:] += 0.4
    assert not any(c.transition == "recovered" for c in changes_of(trace))


def test_a_loss_that_has_returned_lets_a_level_become_normal() -> None:
    """It was hit, and learned on."""
    trace = _two_jumps()
    trace.scalars["loss"][124:130] += 2.5
    told = [(str(c.transition), c.incident.number) for c in changes_of(trace)]
    assert told[-2:] == [("recovered", 1), ("opened", 2)]


@pytest.mark.parametrize("cut", [200, 260])
def test_what_has_become_normal_stays_so_after_a_restart(cut: int) -> None:
    """Before or after it did."""
    trace, session = _two_jumps(), DetectionSession()
    told = []
    for frame in trace.frames():
        if frame.ord == cut:
            taken_up = DetectionSession()
            assert taken_up.restore(session.state()) == []
            session = taken_up
        told += [(c.transition, c.step) for c in session.push(frame).changes]
    assert told == [(c.transition, c.step) for c in changes_of(trace)]


def test_a_layer_is_named_by_a_rule_that_only_takes_longer_to_be_sure() -> None:
    """The loss jumped with what it sees, and names nobody."""
    trace, name = healthy(200), f"activation:{LAYER}"
    for activation in trace.names("activation"):
        size = trace.stats[:, trace.index(activation), COLUMN["std"]]
        trace.put(activation, "batch_std", 0.5 * size, slice(None))
    trace.put(name, "batch_std", 1e-4, slice(120, None))
    trace.scalars["loss"][120:] += 1.0
    changes = changes_of(trace)
    assert (changes[0].incident.kind, changes[0].incident.group) == ("loss_spike", None)
    assert LAYER in [c.incident.group for c in changes if c.transition in ("named", "escalated")]


def test_a_ratio_is_that_of_the_layer_that_is_told() -> None:
    """Who left first is named, and not who was the first to go too far."""
    trace, rows = healthy(240), np.arange(240)
    for name, pace in ((f"activation:{LAYER}", 24.0), ("activation:blocks.2.mlp.up", 8.0)):
        trace.scale(name, np.exp2(np.clip((rows - 120) / pace, 0, 12)))
    session = DetectionSession(only("growth"))
    first = next(c.incident for frame in trace.frames() for c in session.push(frame).changes)
    ratios = {d.series: d.ratio for d in first.departures}
    assert first.root_series is not None
    assert first.evidence["ratio"] == ratios[first.root_series]
