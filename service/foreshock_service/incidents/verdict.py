"""The sentences that tell an incident; every number in them is taken from the incident itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from foreshock_service.domain.incidents import Incident, State, Transition
from foreshock_service.incidents import optimizer_words, silent_client_words
from foreshock_service.incidents.names import whose
from foreshock_service.incidents.phrases import number, pair, place, plain, subject, times


def sentence(incident: Incident, transition: Transition | None = None) -> str:
    """What an incident says of itself now, or on the given transition."""
    if incident.kind == silent_client_words.SILENT_CLIENT:
        return silent_client_words.told(incident, transition)
    if transition is Transition.ACKNOWLEDGED:
        return f"Acknowledged by {incident.acknowledged_by}: {_story(incident)}"
    if transition is Transition.ESCALATED and _relapsed(incident):
        return f"Again at step {incident.updated_step}: {_continued(incident)}"
    if transition is Transition.ESCALATED and incident.kinds[-1] != incident.kind:
        return f"Now with {incident.kinds[-1].replace('_', ' ')}: {_continued(incident)}"
    if transition is Transition.RESOLVED or incident.state is State.RESOLVED:
        return f"Resolved by {incident.acknowledged_by}: {_story(incident)}"
    if incident.state is State.RECOVERED and incident.recovered_step is not None:
        after = incident.recovered_step - incident.onset_step
        if "accepted_step" in incident.evidence:
            kept = f"{subject(incident)} keeps to its new level, which is taken for normal"
            return f"{kept} since step {incident.evidence['accepted_step']}; {_continued(incident)}"
        if incident.evidence.get("eased"):
            # The loss may stay where it fell to: nobody can tell whether it has come back.
            return f"No new sign since step {incident.recovered_step}; {_continued(incident)}"
        return f"{subject(incident)} recovered after {_steps(after)}; {_continued(incident)}"
    return _story(incident)


def _relapsed(incident: Incident) -> bool:
    return incident.evidence.get("relapsed_step") == incident.updated_step


def _story(incident: Incident) -> str:
    opening = _OPENINGS.get(incident.kind, _left)(incident)
    told = f"{opening}{whose(incident.evidence)}{_loss(incident, opening)}"
    return f"{told}{_forecast(incident)}"


def _loss(incident: Incident, opening: str) -> str:
    if incident.loss_step is None:
        return "" if "least_loss" in incident.evidence else "; the loss has not moved"
    if incident.kind in ("loss_spike", "plateau") or incident.evidence.get("statistic") == "loss":
        return ""
    lead = incident.loss_step - incident.onset_step
    if lead > 0:
        return f", {_steps(lead)} before the loss moved (step {incident.loss_step})"
    if incident.kind == "non_finite":
        return f"; the loss was hit at step {incident.loss_step}"
    return "; the loss moved at the same step"


def _forecast(incident: Incident) -> str:
    step = incident.evidence.get("overflow_step")
    if incident.state is not State.OPEN or not isinstance(step, int):
        return ""
    if step <= incident.updated_step:
        return ""
    return f"; at this rate {incident.evidence['overflow_dtype']} overflows near step {step}"


def _massive(incident: Incident) -> str:
    value, start = number(incident, "value"), number(incident, "baseline")
    where = f"A few elements of {incident.group or 'several layers'} stand above all others"
    if value is None or start is None:
        return f"{where} since step {incident.onset_step}"
    return (
        f"{where} since step {incident.onset_step}: the largest is {times(value)} the rms, "
        f"{times(start)} at first"
    )


def _growth(incident: Incident) -> str:
    if incident.evidence.get("statistic") == "depth_growth":
        return _depth(incident)
    if incident.evidence.get("statistic") == "place":
        return place(incident, "output")
    if incident.evidence.get("statistic") == "steady":
        return _steady(incident)
    if incident.evidence.get("statistic") == "peak":
        return _outliers(incident)
    where = f"from step {incident.onset_step}"
    if incident.loss_step is not None and incident.loss_step > incident.onset_step:
        return f"{subject(incident)} left its baseline{_peak(incident)}"
    ratio = number(incident, "ratio")
    if ratio is None or ratio <= 1:
        return f"{subject(incident)} left its baseline {where}"
    return f"{subject(incident)} grew {times(ratio)} above its baseline {where}"


def _outliers(incident: Incident) -> str:
    value, before = number(incident, "value"), number(incident, "baseline")
    where = f"Single weights of {incident.group or 'several layers'} outgrow all others"
    if value is None or before is None:
        return f"{where} since step {incident.onset_step}"
    return (
        f"{where} since step {incident.onset_step}: the largest is {times(value)} their rms, "
        f"{times(before)} before"
    )


def _steady(incident: Incident) -> str:
    value, first = number(incident, "value"), number(incident, "baseline")
    size = "" if not value or not first else f", to {times(value / first)}"
    adds = ": they add up" if incident.evidence.get("cause") == "adds up" else ""
    return (
        f"Gradients of {incident.group or 'the weights'} rise on each row since step "
        f"{incident.onset_step}{size}{adds}"
    )


def _depth(incident: Incident) -> str:
    value, evidence = number(incident, "value"), incident.evidence
    size = "" if value is None else f" {times(value)}"
    return (
        f"Activations grow{size} from the first to the last of "
        f"{evidence.get('num_layers')} {evidence.get('module_type')} layers "
        f"from step {incident.onset_step}"
    )


def _attention(incident: Incident) -> str:
    value = number(incident, "value")
    if incident.loss_step is not None and incident.loss_step > incident.onset_step:
        who = incident.group or "The attention logits"
        return f"{who} left its baseline" if incident.group else f"{who} left their baseline"
    logits = "" if value is None else f" and reached {plain(value)}"
    who = f" (first {incident.group})" if incident.group else ""
    return f"Attention logits grow from step {incident.onset_step}{logits}{who}"


def _non_finite(incident: Incident) -> str:
    if incident.root_series is None:
        return f"The loss is not finite from step {incident.onset_step}"
    kind, _, name = incident.root_series.partition(":")
    return (
        f"First NaN or Inf in the {kind.replace('_', ' ')} of {name} at step {incident.onset_step}"
    )


def _gradient(incident: Incident) -> str:
    if incident.evidence.get("statistic") == "place":
        return place(incident, "gradient")
    ratio = number(incident, "ratio")
    size = "" if ratio is None else f" to {times(ratio)} its usual size"
    if incident.group is None:
        return f"The gradient norm jumped{size} at step {incident.onset_step}"
    return (
        f"Gradients jumped{size} at step {incident.onset_step}, "
        f"furthest from its own normal {incident.group}"
    )


def _eased(incident: Incident) -> str:
    if incident.evidence["eased"] == "at once":
        return f"The loss fell from {pair(incident)} at once at step {incident.onset_step}"
    return (
        f"The loss fell from {pair(incident)} within a few steps before step "
        f"{incident.opened_step}, and the gradients with it"
    )


def _batch(incident: Incident) -> str:
    if incident.evidence.get("eased"):
        return f"{_eased(incident)}: the data have become too easy"
    if incident.evidence.get("statistic") == "input_size":
        return (
            f"The input of {subject(incident)}, the first layer, has changed its size since step "
            f"{incident.onset_step} (output over weight from {pair(incident)})"
        )
    ratio = number(incident, "ratio")
    size = "" if ratio is None else f" {times(ratio)}"
    first = f" at {incident.group}, the first layer" if incident.group else ""
    return (
        f"The batch of step {incident.onset_step} is unlike the others:{size} the usual input"
        f"{first}"
    )


def _loss_spike(incident: Incident) -> str:
    return f"The loss jumped from {pair(incident)} at step {incident.onset_step}{_with(incident)}"


def _divergence(incident: Incident) -> str:
    if incident.evidence.get("statistic") == "lr":
        rate = number(incident, "value")
        size = "" if rate is None else f" ({plain(rate)})"
        return (
            f"The learning rate is negative{size} since step {incident.onset_step}: "
            "every step now climbs the loss"
        )
    if incident.evidence.get("detector") == "climb":
        return (
            f"The loss has risen since step {incident.onset_step} (from {pair(incident)}), and "
            f"nothing has been learned{_with(incident)}"
        )
    return (
        f"The loss left its course at step {incident.onset_step} and has not come back "
        f"(from {pair(incident)}){_with(incident)}"
    )


def _vanishing(incident: Incident) -> str:
    if incident.evidence.get("statistic") == "place":
        return place(incident, "gradient")
    ratio = number(incident, "ratio")
    if incident.evidence.get("cause") == "nought":
        return f"All gradients are exactly zero since step {incident.onset_step}, the loss is not"
    if incident.evidence.get("cause") == "no gradient":
        return f"No gradient comes to {subject(incident)} any more since step {incident.onset_step}"
    if incident.evidence.get("cause") == "all" and ratio is not None:
        return (
            f"The median gradient has fallen to {plain(ratio)} of its size since step "
            f"{incident.onset_step}, though the loss has more to learn"
        )
    count = incident.num_affected
    where = incident.group or "Several layers"
    others = f" and {count - 1} more" if incident.group and count > 1 else ""
    return f"Gradients of {where}{others} have vanished since step {incident.onset_step}"


def _dead(incident: Incident) -> str:
    value, start = number(incident, "value"), number(incident, "baseline")
    where, worse = incident.group or "Units", "loss_of_plasticity" in incident.kinds
    siblings, lost = incident.evidence.get("num_siblings"), incident.evidence.get("num_series")
    if siblings is not None:
        return (
            f"{where} has had nothing to do since step {incident.onset_step}, while others of its "
            f"{siblings} siblings had ({lost} tensors are idle)"
        )
    if start is not None and start >= 1.0:
        return f"{where} has put out nothing but zeros since step {incident.onset_step}"
    if value is None or start is None:
        return f"{where} has dead units since step {incident.onset_step}"
    return (
        f"{where} puts out {100 * value:.0f} % zeros since step {incident.onset_step}, "
        f"{100 * start:.0f} % when the run began"
        f"{', and each new task is learned worse' if worse else ''}"
    )


def _plasticity(incident: Incident) -> str:
    value, start = number(incident, "value"), number(incident, "baseline")
    before, now = number(incident, "recovered_before"), number(incident, "recovered_to")
    where = incident.group or "the network"
    loss = ""
    if before is not None and now is not None:
        loss = f" (the loss recovers to {plain(now)}, to {plain(before)} before)"
    units = ""
    if value is not None and start is not None:
        zeros = incident.evidence.get("statistic") == "zero_frac"
        are = "of its outputs are zero" if zeros else "of them are off"
        units = f", {100 * value:.0f} % {are}, {100 * start:.0f} % when the run began"
    return (
        f"Each new task is learned worse{loss} and units of {where} have fallen silent "
        f"since step {incident.onset_step}{units}"
    )


def _corruption(incident: Incident) -> str:
    ratio = number(incident, "ratio")
    size = "" if ratio is None or 0.99 < ratio < 1.01 else f", to {times(ratio)} its size"
    return (
        f"The weight of {incident.group or 'several layers'} changed at step "
        f"{incident.onset_step} by more than its update allows{size}"
    )


def _replicas(incident: Incident) -> str:
    evidence, since = incident.evidence, f"from step {incident.onset_step}"
    if "ranks" not in evidence:
        where = f", furthest in {incident.group}" if incident.group else ""
        logged = evidence.get("statistic")
        if where or logged in ("weight_checksum", "rms"):
            return f"The ranks no longer hold the same weights {since}{where}"
        return f"The ranks no longer agree on {logged} {since}, which was the same on all of them"
    differ = f" ({evidence.get('num_apart')} of {evidence.get('num_compared')} weights differ)"
    where = f", first in {incident.group}" if incident.group else ""
    host = f" on {evidence['host']}" if evidence.get("host") else ""
    who = f"Rank {evidence['ranks']}{host} no longer holds"
    if "," in str(evidence["ranks"]):
        who = f"Ranks {evidence['ranks']}{host} no longer hold"
    if evidence.get("num_odd") == evidence.get("num_ranks"):
        return f"{who} the same weights {since}{where}{differ}"
    return f"{who} the weights of the other ranks {since}{where}{differ}"


def _saturation(incident: Incident) -> str:
    value = number(incident, "value")
    size = "" if value is None else f" (mean square {plain(value)} of 1)"
    return f"{subject(incident)} sits at its limits since step {incident.onset_step}{size}"


def _plateau(incident: Incident) -> str:
    start, best = number(incident, "baseline"), number(incident, "value")
    least, classes = number(incident, "least_loss"), number(incident, "classes")
    if least is not None and classes is not None and best is not None:
        return (
            f"The loss cannot fall below {plain(least)}: logits of {subject(incident)} differ by "
            f"{plain(best)} between samples, and it stays within the cross entropy of "
            f"{classes:.0f} probabilities, as where softmax is taken twice"
        )
    if start is None or best is None:
        return f"Nothing has been learned by step {incident.opened_step}"
    return (
        f"Nothing has been learned by step {incident.opened_step}: the loss began at "
        f"{plain(start)} and its best level is {plain(best)}"
    )


def _drift(incident: Incident) -> str:
    if incident.evidence.get("detector") == "offset":
        return (
            f"The outputs of {subject(incident)} run away from zero together from step "
            f"{incident.onset_step} (from {pair(incident)}), and do not differ more for it"
        )
    if incident.evidence.get("detector") == "runaway":
        return (
            f"The outputs of {subject(incident)} grow from step {incident.onset_step} "
            f"(from {pair(incident)}), and the loss falls below nought with them: it has no bound"
        )
    return (
        f"The level of the output logits drifts from step {incident.onset_step} "
        f"(log Z from {pair(incident)})"
    )


def _collapse(incident: Incident) -> str:
    if incident.evidence.get("eased"):
        return f"{_eased(incident)}, though the input is as before: the loss asks for less"
    if incident.evidence.get("detector") == "fading":
        return _fading(incident)
    if incident.evidence.get("statistic") == "place":
        return place(incident, "output")
    if incident.evidence.get("cause") == "symmetry":
        return (
            f"All elements of {subject(incident)} are the same since step {incident.onset_step}: "
            "its units are copies of one another and learn as one"
        )
    value, start = number(incident, "value"), number(incident, "baseline")
    size = (
        ""
        if value is None or start is None
        else f": the spread over the batch is {plain(value)} of its size, {plain(start)} at first"
    )
    return f"{subject(incident)} answers every sample alike since step {incident.onset_step}{size}"


def _fading(incident: Incident) -> str:
    ratio = number(incident, "ratio")
    if incident.evidence.get("cause") == "all":
        size = "" if ratio is None else f", to {plain(ratio)} of their usual size"
        return f"All weights shrink since step {incident.onset_step}{size}"
    size = "" if ratio is None else f", to {plain(ratio)} of the largest size it had"
    return f"{subject(incident)} fades since step {incident.onset_step}{size}"


def _left(incident: Incident) -> str:
    return f"{subject(incident)} left its baseline at step {incident.onset_step}"


_OPENINGS: Final[dict[str, Callable[[Incident], str]]] = {
    "explosion": _growth,
    "attention_logit_growth": _attention,
    "non_finite": _non_finite,
    "gradient_spike": _gradient,
    "bad_batch": _batch,
    "loss_spike": _loss_spike,
    "divergence": _divergence,
    "vanishing_gradient": _vanishing,
    "dead_units": _dead,
    "update_too_large": optimizer_words.large_update,
    "update_too_small": optimizer_words.small_update,
    "weight_corruption": _corruption,
    "replica_divergence": _replicas,
    "saturation": _saturation,
    "plateau": _plateau,
    "precision_underflow": optimizer_words.underflow,
    "precision_overflow": optimizer_words.overflow,
    "output_logit_drift": _drift,
    "representation_collapse": _collapse,
    "massive_activation": _massive,
    "loss_of_plasticity": _plasticity,
}


def _with(incident: Incident) -> str:
    return f", together with {incident.group}" if incident.group else ""


def _peak(incident: Incident) -> str:
    ratio = number(incident, "ratio")
    return "" if ratio is None or ratio <= 1 else f" (now {times(ratio)})"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _continued(incident: Incident) -> str:
    """The story behind other words: a sentence's first letter becomes small, a layer's does not."""
    story = _story(incident)
    if story[:2].isupper() or (incident.group and story.startswith(incident.group)):
        return story
    return story[0].lower() + story[1:]
