"""What a person is told, as a line of plain JSON, in the form that scorers of detection read."""

from __future__ import annotations

from typing import Any, Final

from foreshock_service.domain.alerts import plain
from foreshock_service.domain.incidents import IncidentChange, Transition
from foreshock_service.incidents.names import module_of, tensor_of

NOTIFIED: Final = frozenset({Transition.OPENED, Transition.ESCALATED, Transition.NAMED})
"""Transitions that call a person; that the loss moved or a run recovered is told, and calls no
one."""
MAX_SERIES: Final = 5


def notification(run: str, change: IncidentChange) -> dict[str, Any]:
    """One change; `kind` of an escalation is the kind that joined last, `series` the tensors that
    left, one of a module, root first: a parameter by its name, an activation by its module's."""
    incident = change.incident
    names = [incident.root_series] if incident.root_series else []
    names += [d.series for d in incident.departures]
    of_modules: dict[str, str] = {}
    for name in names:
        of_modules.setdefault(module_of(name), tensor_of(name))
    escalated = change.transition is Transition.ESCALATED
    return {
        "run": run,
        "step": change.step,
        "kind": incident.kinds[-1] if escalated else incident.kind,
        "severity": str(incident.severity),
        "series": list(of_modules.values())[:MAX_SERIES] if incident.group else [],
        "opened_step": incident.opened_step,
        "transition": str(change.transition),
        "onset_step": incident.onset_step,
        "loss_step": incident.loss_step,
        "number": incident.number,
        "group": incident.group,
        "confidence": plain(incident.confidence),
        "sentence": change.sentence,
    }
