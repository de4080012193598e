"""The Incident page as values: what happened in which order, and how it spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from foreshock_service.domain.incidents import Departure, Incident, State
from foreshock_service.domain.runs import Run, RunEvent
from foreshock_service.incidents.explanations import explained_kinds
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT
from foreshock_service.web.explanation_page import Explanation, explanation_page
from foreshock_service.web.silences_page import DURATIONS, Scope, SilenceNote, scopes
from foreshock_service.web.verdict import last_clean_checkpoint
from foreshock_service.web.words import measure, ratio, steps, whole

LISTED: Final = 40
"""Departures in the table; the map on the Run page shows them all."""
MAX_CHANGE: Final = 200
"""Of the text of an announced change."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 72.0, 940.0, 18.0, 258.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the sequence."""

    at: int
    text: str
    tone: str = ""

    @property
    def step(self) -> str:
        """The step as it is written."""
        return whole(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepartureRow:
    """One tensor in the order of departure."""

    place: int
    name: str
    kind: str
    step: str
    after: str
    ratio: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A place in the picture, in its units."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A label under the picture."""

    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Departures over steps and depth; `dots[0]` is the first to go."""

    dots: Sequence[Dot]
    ticks: Sequence[Tick]
    loss_x: float | None
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentPage:
    """What the template shows."""

    name: str
    number: int
    tone: str
    link: str
    run_link: str
    can_acknowledge: bool
    can_resolve: bool
    scopes: Sequence[Scope]
    durations: Sequence[str]
    silence: SilenceNote | None
    explanation: Explanation | None
    departures: Sequence[DepartureRow]
    sequence: Sequence[Moment]
    spread: Spread | None


def incident_page(
    incident: Incident,
    *,
    run: Run,
    events: Sequence[RunEvent],
    depths: Mapping[str, int],
    silence: SilenceNote | None,
) -> IncidentPage:
    """`depths` gives the place in the forward pass of each series, named `kind:name`."""
    run_link = f"/runs/{quote(run.run_id)}"
    closed = incident.state is State.RESOLVED
    first = min((d.step for d in incident.departures), default=incident.onset_step)
    return IncidentPage(
        name=run.name,
        number=incident.number,
        tone=str(incident.severity),
        link=f"{run_link}/incidents/{incident.number}",
        run_link=run_link,
        can_acknowledge=not closed and incident.acknowledged_by is None,
        can_resolve=not closed,
        scopes=scopes(incident, run),
        durations=list(DURATIONS),
        silence=silence,
        explanation=_explanation(incident.kind),
        departures=[
            _departure(place, departure, first)
            for place, departure in enumerate(incident.departures[:LISTED], 1)
        ],
        sequence=_sequence(incident, events),
        spread=_spread(incident, depths),
    )


def _explanation(kind: str) -> Explanation | None:
    return explanation_page(kind) if kind in explained_kinds() else None


def _departure(place: int, departure: Departure, first: int) -> DepartureRow:
    kind, _, name = departure.series.partition(":")
    return DepartureRow(
        place=place,
        name=name,
        kind=kind.replace("_", " "),
        step=whole(departure.step),
        after="" if place == 1 else f"+{whole(departure.step - first)}",
        ratio=ratio(departure.ratio),
    )


def _sequence(incident: Incident, events: Sequence[RunEvent]) -> Sequence[Moment]:
    tone = str(incident.severity)
    moments = []
    clean = last_clean_checkpoint(events, incident.onset_step)
    if clean is not None:
        moments.append(Moment(at=clean, text="the last checkpoint before it began"))
    root = (incident.root_series or "").partition(":")[2] or incident.group
    began = f"{root} leaves its baseline" if root else "the run leaves its baseline"
    back = "everything is back inside its baseline"
    if "accepted_step" in incident.evidence:
        back = "the new level is taken for normal"
    if incident.kind == SILENT_CLIENT:
        began, back = "the last step that came", "frames come again"
    moments.append(Moment(at=incident.onset_step, text=began, tone=tone))
    others = [d for d in incident.departures if d.series != incident.root_series]
    if others:
        text = f"{others[0].series.partition(':')[2]} follows"
        if len(others) > 1:
            text += f", and {whole(len(others) - 1)} more after it"
        moments.append(Moment(at=others[0].step, text=text, tone=tone))
    moments.append(Moment(at=incident.opened_step, text="the incident is opened"))
    if incident.loss_step is not None:
        lead = incident.lead_steps or 0
        text = f"the loss moves, {steps(lead)} later" if lead > 0 else "the loss moves"
        moments.append(Moment(at=incident.loss_step, text=text))
    if incident.recovered_step is not None:
        moments.append(Moment(at=incident.recovered_step, text=back, tone="good"))
    for event in events:
        inside = event.step is not None and event.step >= incident.onset_step
        if event.kind == "change" and event.step is not None:
            text = str(event.data.get("text", ""))[:MAX_CHANGE]
            moments.append(Moment(at=event.step, text=f"announced: {text}"))
        if event.kind == "exception" and event.step is not None and inside:
            moments.append(Moment(at=event.step, text="the training raises an exception"))
    return sorted(moments, key=lambda moment: moment.at)


def _spread(incident: Incident, depths: Mapping[str, int]) -> Spread | None:
    """A picture only where there is something to see: several tensors of known depth."""
    known = [d for d in incident.departures if d.series in depths]
    if len(known) < 3:
        return None
    first = known[0].step
    loss = None if incident.loss_step is None else incident.loss_step - first
    last = max([d.step - first for d in known] + [loss or 0, 1])
    deepest = max(max(depths.values()), 1)

    def x(after: float) -> float:
        return round(_LEFT + (after / last) * (_RIGHT - _LEFT), 1)

    dots = [
        Dot(x(d.step - first), round(_TOP + depths[d.series] / deepest * (_BOTTOM - _TOP), 1))
        for d in known
    ]
    shares = (0.25, 0.5, 0.75, 1.0)
    ticks = [Tick(x(0), "first")]
    ticks += [Tick(x(round(s * last)), f"+{whole(round(s * last))}") for s in shares]
    return Spread(
        dots=dots,
        ticks=ticks if last >= len(shares) else ticks[:1],
        loss_x=None if loss is None or loss < 0 else x(loss),
        label=f"{len(known)} tensors left their baselines within {measure(last)} steps",
    )
