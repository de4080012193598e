"""The sentences about an optimizer's updates and about the number formats that they are kept in."""

from __future__ import annotations

from foreshock_service.domain.incidents import Incident
from foreshock_service.incidents.phrases import number, pair, place, plain, subject, times


def large_update(incident: Incident) -> str:
    """Updates that are too large: a state that was lost, a tensor out of place, or all of them."""
    if incident.evidence.get("cause") == "reset":
        return _reset(incident)
    if incident.evidence.get("statistic") == "place":
        return place(incident, "update")
    if incident.evidence.get("cause") == "overwritten":
        return _overwritten(incident)
    if incident.evidence.get("cause") == "climbs":
        return _climbing_rate(incident)
    ratio = number(incident, "ratio")
    if incident.loss_step is not None and incident.loss_step > incident.onset_step:
        return f"Updates of {incident.group or 'the weights'} left their baseline"
    size = "" if ratio is None else f" {times(ratio)} their usual size"
    return (
        f"Updates of {incident.group or 'the weights'} are{size or ' too large'} "
        f"from step {incident.onset_step}"
    )


def _reset(incident: Incident) -> str:
    leap = number(incident, "leap")
    size = "" if leap is None else f", {times(leap)} their usual size"
    return (
        f"The optimizer has lost its state at step {incident.onset_step}: "
        f"updates are those of a first step{size}"
    )


def _overwritten(incident: Incident) -> str:
    value = number(incident, "value")
    size = "" if value is None else f" ({plain(value)} of the weight, in the median)"
    return (
        f"Updates overwrite the weights from step {incident.onset_step}: "
        f"a few of them replace what was learned{size}"
    )


def _climbing_rate(incident: Incident) -> str:
    size = f" (from {pair(incident)})" if number(incident, "baseline") else ""
    return (
        "The learning rate climbs by the same factor on each step since step "
        f"{incident.onset_step}{size}"
    )


def small_update(incident: Incident) -> str:
    """Updates that are too small, and why where that is known."""
    if "cause" in incident.evidence:
        return _held_down(incident)
    value = number(incident, "value")
    ratio = number(incident, "ratio")
    if incident.evidence.get("statistic") == "update_level" and ratio is not None:
        return (
            f"Updates fell from step {incident.onset_step} on to {plain(ratio)} of what they were"
        )
    of = (
        "the learning rate"
        if incident.evidence.get("statistic") == "update_by_rate"
        else "the weights"
    )
    size = "" if value is None else f", {plain(value)} of {of}"
    return f"Updates are too small to learn from since step {incident.onset_step}{size}"


def _held_down(incident: Incident) -> str:
    """Small updates whose cause is known."""
    of, since = incident.group or "the weights", f"since step {incident.onset_step}"
    value, cause = number(incident, "value"), incident.evidence.get("cause")
    share = "" if value is None else f" to {plain(value)} of their size"
    eps = number(incident, "eps")
    if cause == "epsilon" and value is not None and eps is not None:
        return (
            f"Updates of {of} are held down {since}: the optimizer's epsilon ({plain(eps)}) "
            f"outweighs gradients of {plain(value)}"
        )
    if cause == "stopped" and incident.group is None:
        return f"No weight moves {since}: all updates are exactly zero, the gradients are not"
    if cause == "stopped":
        return f"{of} no longer moves {since}: its updates are exactly zero, its gradients are not"
    if cause == "no gradient":
        return f"{of} has no gradient any more {since}, though it still takes part"
    if cause == "left out":
        return f"{of} has gradients {since}, and no optimizer that is watched holds it"
    baseline = number(incident, "baseline")
    if cause == "gone" and value is not None and baseline is not None:
        return (
            f"The learning rate is gone {since}: it fell from {plain(baseline)} to {plain(value)}"
        )
    if cause == "worn" and value is not None and baseline is not None:
        return (
            f"The learning rate has worn away {since}: it was {plain(baseline)} and is "
            f"{plain(value)}, though the loss has more to learn"
        )
    if cause == "clipped":
        return (
            f"Updates no longer follow their gradients {since}: for gradients of that size they "
            "were never so small, as where clipping takes most of them"
        )
    if cause == "momentum":
        return f"Updates of {of} have no momentum any more {since}"
    if cause == "second moment":
        return (
            f"Updates of {of} fell{share} {since} and the gradients did not: "
            "the second moment is out of date"
        )
    if cause == "loss scale":
        return (
            f"Updates of {of} fell{share} {since} with gradients that all became smaller alike: "
            "the second moment is out of date"
        )
    return (
        f"Updates of {of} fell{share} {since} and the gradients did not: "
        "their learning rate is lost"
    )


def underflow(incident: Incident) -> str:
    """Values that are too small for their format, or lost in its rounding."""
    kind = (incident.root_series or "").partition(":")[0]
    value = number(incident, "value")
    statistic, name = incident.evidence.get("statistic"), incident.evidence.get("number_format")
    if statistic == "update_size" and value is not None:
        return (
            f"Updates of {subject(incident)} are lost in the rounding of {name} weights since "
            f"step {incident.onset_step} ({plain(value)} of the weight)"
        )
    if statistic == "share_outside" and value is not None:
        return (
            f"Gradients of {subject(incident)} underflow since step {incident.onset_step}: "
            f"{100 * value:.0f} % of its non-zero elements are too small for {name}"
        )
    if statistic == "abs_max" and value is not None:
        return (
            f"Gradients of {subject(incident)} underflow since step {incident.onset_step}: its "
            f"largest ({plain(value)}) is a few steps of a number format's smallest numbers"
        )
    share = "" if value is None else f", {100 * value:.0f} % of its elements are exactly zero"
    if kind == "weight":
        return f"Updates of {subject(incident)} are rounded away since step {incident.onset_step}"
    return f"Gradients of {subject(incident)} underflow since step {incident.onset_step}{share}"


def overflow(incident: Incident) -> str:
    """Values that are too large for their format, or near its end."""
    value = number(incident, "value")
    size, scale = ("", "") if value is None else (f" {plain(value)}", f" {value:g}")
    if incident.evidence.get("statistic") == "loss_scale":
        return f"The loss scale has collapsed to{scale} at step {incident.onset_step}"
    if incident.evidence.get("statistic") == "skipped":
        return (
            f"All steps are skipped since step {incident.onset_step}: "
            f"gradients overflow at a loss scale of{scale}"
        )
    if incident.evidence.get("statistic") == "unheeded":
        return (
            f"Steps are skipped again and again since step {incident.onset_step}: "
            f"the loss scale stays at{scale}, at which gradients overflow"
        )
    if incident.evidence.get("statistic") == "share_outside":
        name = incident.evidence.get("number_format")
        verb = "comes near the end of"
        if str(name).startswith(("float16", "float8")):
            verb = "holds values too large for"
        return f"{subject(incident)} {verb} {name} at step {incident.onset_step}"
    where = f"{subject(incident)} reaches{size} at step {incident.onset_step}"
    return f"{where}, and float16 ends at 65504"
