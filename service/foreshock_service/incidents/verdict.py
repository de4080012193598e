"""The sentences that tell an incident; every number in them is taken from the incident itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from foreshock_service.domain.incidents import Incident, State, Transition


def sentence(incident: Incident, transition: Transition | None = None) -> str:
    """What an incident says of itself now, or on the given transition."""
    if transition is Transition.ACKNOWLEDGED:
        return f"Acknowledged by {incident.acknowledged_by}: {_story(incident)}"
    if transition is Transition.RESOLVED or incident.state is State.RESOLVED:
        return f"Resolved by {incident.acknowledged_by}: {_story(incident)}"
    if incident.state is State.RECOVERED and incident.recovered_step is not None:
        after = incident.recovered_step - incident.onset_step
        return f"{_subject(incident)} recovered after {_steps(after)}; {_lower(_story(incident))}"
    return _story(incident)


def _story(incident: Incident) -> str:
    opening = _OPENINGS.get(incident.kind, _left)(incident)
    return f"{opening}{_loss(incident, opening)}"


def _loss(incident: Incident, opening: str) -> str:
    if incident.loss_step is None:
        return "; the loss has not moved"
    if incident.kind in ("loss_spike", "divergence"):
        return ""
    lead = incident.loss_step - incident.onset_step
    if lead > 0:
        return f", {_steps(lead)} before the loss moved (step {incident.loss_step})"
    if incident.kind == "non_finite":
        return f"; the loss was hit at step {incident.loss_step}"
    return "; the loss moved at the same step"


def _growth(incident: Incident) -> str:
    where = f"from step {incident.onset_step}"
    if incident.loss_step is not None and incident.loss_step > incident.onset_step:
        return f"{_subject(incident)} left its baseline{_peak(incident)}"
    ratio = _number(incident, "ratio")
    if ratio is None or ratio <= 1:
        return f"{_subject(incident)} left its baseline {where}"
    return f"{_subject(incident)} grew {_times(ratio)} above its baseline {where}"


def _attention(incident: Incident) -> str:
    value = _number(incident, "value")
    if incident.loss_step is not None and incident.loss_step > incident.onset_step:
        who = incident.group or "The attention logits"
        return f"{who} left its baseline" if incident.group else f"{who} left their baseline"
    logits = "" if value is None else f" and reached {_plain(value)}"
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
    ratio = _number(incident, "ratio")
    size = "" if ratio is None else f" to {_times(ratio)} its usual size"
    if incident.group is None:
        return f"The gradient norm jumped{size} at step {incident.onset_step}"
    return (
        f"Gradients jumped{size} at step {incident.onset_step}, "
        f"furthest from its own normal {incident.group}"
    )


def _batch(incident: Incident) -> str:
    ratio = _number(incident, "ratio")
    size = "" if ratio is None else f" {_times(ratio)}"
    first = f" at {incident.group}, the first layer" if incident.group else ""
    return (
        f"The batch of step {incident.onset_step} is unlike the others:{size} the usual input"
        f"{first}"
    )


def _loss_spike(incident: Incident) -> str:
    return f"The loss jumped from {_pair(incident)} at step {incident.onset_step}{_with(incident)}"


def _divergence(incident: Incident) -> str:
    return (
        f"The loss left its course at step {incident.onset_step} and has not come back "
        f"(from {_pair(incident)}){_with(incident)}"
    )


def _vanishing(incident: Incident) -> str:
    count = incident.num_affected
    where = incident.group or "Several layers"
    others = f" and {count - 1} more" if incident.group and count > 1 else ""
    return f"Gradients of {where}{others} have vanished since step {incident.onset_step}"


def _dead(incident: Incident) -> str:
    value, start = _number(incident, "value"), _number(incident, "baseline")
    where = incident.group or "Units"
    if value is None or start is None:
        return f"{where} has dead units since step {incident.onset_step}"
    return (
        f"{where} puts out {100 * value:.0f} % zeros since step {incident.onset_step}, "
        f"{100 * start:.0f} % when the run began"
    )


def _update(incident: Incident) -> str:
    ratio = _number(incident, "ratio")
    if incident.loss_step is not None and incident.loss_step > incident.onset_step:
        return f"Updates of {incident.group or 'the weights'} left their baseline"
    size = "" if ratio is None else f" {_times(ratio)} their usual size"
    return (
        f"Updates of {incident.group or 'the weights'} are{size or ' too large'} "
        f"from step {incident.onset_step}"
    )


def _left(incident: Incident) -> str:
    return f"{_subject(incident)} left its baseline at step {incident.onset_step}"


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
    "update_too_large": _update,
}


def _subject(incident: Incident) -> str:
    return incident.group or "The run"


def _with(incident: Incident) -> str:
    return f", together with {incident.group}" if incident.group else ""


def _peak(incident: Incident) -> str:
    ratio = _number(incident, "ratio")
    return "" if ratio is None or ratio <= 1 else f" (now {_times(ratio)})"


def _pair(incident: Incident) -> str:
    start, value = _number(incident, "baseline"), _number(incident, "value")
    if start is None or value is None:
        return "its level"
    return f"{_plain(start)} to {_plain(value)}"


def _number(incident: Incident, name: str) -> float | None:
    value = incident.evidence.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _times(ratio: float) -> str:
    if ratio < 100:
        return f"{ratio:.1f}x"
    # Three digits are known; beyond a million they say no more than that it is far too much.
    return f"{float(f'{ratio:.3g}'):,.0f}x" if ratio < 1e6 else "over 1,000,000x"


def _plain(value: float) -> str:
    return f"{value:.3g}"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _lower(text: str) -> str:
    return text if text[:2].isupper() else text[0].lower() + text[1:]
