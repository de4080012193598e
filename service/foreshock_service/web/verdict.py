"""The head of the Run and Incident pages: what went wrong first, in a sentence and a few facts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from foreshock_service.domain.incidents import Incident, State
from foreshock_service.domain.runs import RunEvent
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT, length
from foreshock_service.web.health import Health
from foreshock_service.web.words import ratio, steps, whole

_NEAR: Final = math.log(1.05)
"""A tensor within 5 % of its baseline is not off it."""
_DEFAULT_DETAIL: Final = "Every layer is measured against its own baseline."
_SCALARS_ONLY: Final = "Only scalars are reported: there are no layers."
_SILENT_DETAIL: Final = (
    "What happened since then is not known: the training hangs, was killed, or cannot reach the "
    "service."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One number beside the sentence."""

    name: str
    value: str
    note: str = ""
    mono: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the template shows; `link` leads to the incident, None where there is none."""

    tone: str
    sentence: str
    detail: str
    kicker: str
    badge: str = ""
    facts: tuple[Fact, ...] = ()
    link: str | None = None


def verdict_of_incident(
    incident: Incident,
    sentence: str,
    *,
    link: str | None,
    events: Sequence[RunEvent],
    newest_step: int,
) -> Verdict:
    """The verdict that an incident gives; `newest_step` is the run's, for the steps to redo."""
    return Verdict(
        tone="good" if incident.state is not State.OPEN else str(incident.severity),
        badge=str(incident.severity),
        kicker=f"Incident {incident.number} · {_state(incident)}",
        sentence=sentence,
        detail=_detail(incident),
        facts=_facts(incident, events, newest_step),
        link=link,
    )


def verdict_of_calm(health: Health, *, num_series: int, newest_step: int | None) -> Verdict:
    """The verdict on a run without incidents."""
    sentence = {
        "Steady": "Nothing has left its baseline",
        "Silent": "The run has fallen silent",
        "Crashed": "The run ended without saying so",
        "Done": "The run finished without an incident",
    }.get(health.word, "Nothing has left its baseline")
    if newest_step is None:
        return Verdict(
            tone="ended", kicker=health.word, sentence="No step has been measured yet", detail=""
        )
    if health.word == "Steady":
        sentence += f" in {steps(newest_step)}"
    detail = _DEFAULT_DETAIL if num_series else _SCALARS_ONLY
    return Verdict(
        tone=health.tone,
        kicker=health.word if num_series == 0 else f"{health.word} · {whole(num_series)} tensors",
        sentence=sentence,
        detail=detail,
    )


def _state(incident: Incident) -> str:
    words = {
        State.OPEN: "still open",
        State.RECOVERED: "recovered",
        State.RESOLVED: "resolved",
    }[incident.state]
    if incident.acknowledged_by:
        words += f" · seen by {incident.acknowledged_by}"
    return words


def _detail(incident: Incident) -> str:
    if incident.kind == SILENT_CLIENT:
        return _SILENT_DETAIL if incident.state is State.OPEN else _DEFAULT_DETAIL
    sentences = []
    if incident.num_affected and incident.num_series:
        off = f"{whole(incident.num_affected)} of {whole(incident.num_series)} tensors"
        sentences.append(f"{off} have left their baseline.")
    if len(incident.departures) > 1:
        left = [d.step for d in incident.departures]
        if left[-1] > min(left):
            sentences.append(f"The last listed followed after {steps(left[-1] - min(left))}.")
    known = [d for d in incident.departures if 0 < d.ratio < math.inf]
    farthest = max(known, key=lambda d: abs(math.log(d.ratio)), default=None)
    if farthest is not None and abs(math.log(farthest.ratio)) > _NEAR:
        name = farthest.series.partition(":")[2]
        sentences.append(f"{name} is now the farthest off, at {ratio(farthest.ratio)}.")
    return " ".join(sentences) or (_DEFAULT_DETAIL if incident.num_series else _SCALARS_ONLY)


def _facts(incident: Incident, events: Sequence[RunEvent], newest_step: int) -> tuple[Fact, ...]:
    if incident.kind == SILENT_CLIENT:
        return (*_silent_facts(incident), *_checkpoint_facts(incident, events, newest_step))
    onset = whole(incident.onset_step)
    first = (incident.root_series or "").partition(":")[2] or incident.group
    facts = [
        Fact(name="First layer to leave baseline", value=first, note=f"step {onset}", mono=True)
        if first
        else Fact(
            name="Began",
            value=f"step {onset}",
            note="no layer before the others" if incident.num_series else "",
        )
    ]
    lead = incident.lead_steps
    if lead is None:
        facts.append(
            Fact(name="Lead over the loss", value="\N{EN DASH}", note="the loss has not moved")
        )
    elif lead > 0:
        note = f"it moved at {whole(incident.onset_step + lead)}"
        facts.append(Fact(name="Lead over the loss", value=steps(lead), note=note))
    else:
        facts.append(Fact(name="Lead over the loss", value="none", note="both moved together"))
    if incident.num_series:
        value = f"{whole(incident.num_affected)} of {whole(incident.num_series)}"
        facts.append(Fact(name="Tensors affected", value=value, note="off their baseline"))
    return (*facts, *_checkpoint_facts(incident, events, newest_step))


def _silent_facts(incident: Incident) -> tuple[Fact, ...]:
    usual = incident.evidence.get("usual_seconds")
    often = f"usually every {usual:g} s" if isinstance(usual, int | float) else ""
    host = str(incident.evidence.get("host", ""))
    return (
        Fact(name="Last step that came", value=whole(incident.onset_step), note=host),
        Fact(name="Nothing came for", value=length(incident.evidence), note=often),
    )


def _checkpoint_facts(
    incident: Incident, events: Sequence[RunEvent], newest_step: int
) -> tuple[Fact, ...]:
    clean = last_clean_checkpoint(events, incident.onset_step)
    if clean is None:
        return ()
    note = f"{steps(max(0, newest_step - clean))} to redo"
    return (Fact(name="Last clean checkpoint", value=whole(clean), note=note),)


def last_clean_checkpoint(events: Sequence[RunEvent], onset_step: int) -> int | None:
    """The step of the last checkpoint written before the onset; None where none was reported."""
    return max(
        (
            event.step
            for event in events
            if event.kind == "checkpoint" and event.step is not None and event.step < onset_step
        ),
        default=None,
    )
