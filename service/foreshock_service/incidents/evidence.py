"""What an incident has to show: the series that it names, its cause, and the numbers to quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Departure, Incident
from foreshock_service.incidents.attribution import NAMED_BY_RULE, NOBODY, Cause, attribute

GROWING: Final = frozenset({"explosion", "update_too_large", "attention_logit_growth"})
OF_THEIR_OWN: Final = frozenset({"gradient_spike", "update_too_large"})
"""Kinds of the run whose ratio is that of their own statistic, whoever departs with it."""
MAX_DEPARTURES: Final = 64


def cause_of(
    frame: Frame,
    kind: str,
    named: Sequence[Departure],
    departures: Sequence[Departure],
    *,
    opens: bool,
) -> Cause:
    """The cause of an incident of `kind` as it looks on this row, on which it opens or not."""
    if not named and not departures:
        return NOBODY
    if kind == "non_finite" and _came_forward_unseen(frame, named):
        return NOBODY
    series = frame.schema.series
    return attribute(
        kind,
        named=named,
        departures=departures,
        opens=opens,
        step=frame.step,
        num_series=len(series),
        num_updates=sum(s.kind == "update" for s in series),
    )


def cause_since_onset(frame: Frame, onset_step: int, findings: Sequence[Finding]) -> Cause:
    """What a rule of its own names whose first sign is as old as the incident: it only took more
    rows to be sure."""
    early = [f for f in findings if f.onset_step <= onset_step]
    for kind in dict.fromkeys(f.kind for f in early):
        if kind in NAMED_BY_RULE:
            named = named_by(frame, [f for f in early if f.kind == kind])
            return cause_of(frame, kind, named, (), opens=False)
    return NOBODY


def _came_forward_unseen(frame: Frame, named: Sequence[Departure]) -> bool:
    """The loss is no number, and the activations that made it were not measured on this row: the
    gradients are no number either, from the loss down, and say nothing of where it began."""
    loss = frame.scalars.get("loss")
    forward = any(d.series.startswith("activation:") for d in named)
    return loss is not None and not math.isfinite(loss) and not forward


def named_by(frame: Frame, findings: Sequence[Finding]) -> tuple[Departure, ...]:
    """The series that findings name, foremost first."""
    series = frame.schema.series
    return tuple(
        Departure(
            series=f"{series[f.series].kind}:{series[f.series].name}",
            step=f.onset_step,
            statistic=f.statistic,
            ratio=_ratio(f),
        )
        for f in findings
        if f.series is not None
    )


def merged(first: Sequence[Departure], more: Sequence[Departure]) -> tuple[Departure, ...]:
    """Each series once, at its earliest step with its newest ratio, in the order of first sight."""
    by_series: dict[str, Departure] = {}
    for departure in (*first, *more):
        known = by_series.get(departure.series)
        if known is None:
            by_series[departure.series] = departure
        else:
            by_series[departure.series] = replace(departure, step=min(known.step, departure.step))
    return tuple(by_series.values())[:MAX_DEPARTURES]


def _ratio(finding: Finding) -> float:
    if finding.kind == "non_finite" or not math.isfinite(finding.value):
        return math.inf
    if finding.baseline is None or not finding.baseline:
        return math.inf
    return finding.value / finding.baseline


def newer_evidence(incident: Incident, findings: Sequence[Finding]) -> dict[str, float | int | str]:
    """The evidence with the newest value of its own statistic, and the root's newest ratio."""
    evidence = dict(incident.evidence)
    for finding in findings:
        same = finding.kind == incident.kind and finding.statistic == evidence.get("statistic")
        if same and incident.kind in ("attention_logit_growth", "divergence", "dead_units"):
            evidence["value"] = finding.value
            break
    forecast = next((f.evidence for f in findings if "overflow_step" in f.evidence), None)
    if forecast is not None and incident.kind == "explosion":
        evidence |= {name: x for name, x in forecast.items() if name.startswith("overflow_")}
    root = next((d for d in incident.departures if d.series == incident.root_series), None)
    if root is None or incident.kind not in GROWING or evidence.get("statistic") == "place":
        return evidence
    if incident.kind != "update_too_large" or root.series.startswith("update:"):
        evidence["ratio"] = root.ratio
    return evidence


def first_evidence(
    lead: Finding, cause: Cause, departures: Sequence[Departure]
) -> dict[str, float | int | str]:
    """What an incident has to show when it opens: the numbers of its leading finding."""
    evidence: dict[str, float | int | str] = {
        "detector": lead.detector,
        "statistic": lead.statistic,
        "value": lead.value,
        **lead.evidence,
    }
    if lead.baseline is not None:
        evidence["baseline"] = lead.baseline
        if lead.statistic != "loss":
            evidence.setdefault("ratio", _ratio(lead))
    root = next((d for d in departures if d.series == cause.root), None)
    if root is not None and _is_told_of(root, lead):
        evidence["ratio"] = root.ratio
    return evidence


def _is_told_of(root: Departure, lead: Finding) -> bool:
    """Whether a sentence tells the ratio of who left first, and not of who first went too far."""
    if lead.series is None:
        return lead.kind not in OF_THEIR_OWN
    if lead.kind not in GROWING or lead.statistic != "rms":
        return False
    return lead.kind != "update_too_large" or root.series.startswith("update:")
