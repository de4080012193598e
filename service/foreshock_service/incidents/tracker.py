"""The tracker: findings that share a cause become one incident, from its first sign to its end.

Acute kinds (spikes, growth, loss, non-finite) that overlap in time are one incident: the later ones
are what the first one did. Slow kinds (dead units, vanishing gradients) are incidents of their own,
unless they begin while an acute one is open, whose consequence they then are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import (
    Departure,
    Incident,
    IncidentChange,
    State,
    Transition,
)
from foreshock_service.incidents.attribution import Cause
from foreshock_service.incidents.evidence import (
    cause_of,
    cause_since_onset,
    first_evidence,
    merged,
    named_by,
    newer_evidence,
)
from foreshock_service.incidents.lifecycle import (
    COOLDOWN_ROWS,
    NEAR_ROWS,
    QUIET_ROWS,
    SYMPTOMS,
    change,
    graver,
    is_news,
    rank_of,
)
from foreshock_service.incidents.live import Live
from foreshock_service.incidents.loss_moved import LossWatch
from foreshock_service.incidents.names import family_of

ACUTE: Final = "acute"
STALLED: Final = "stalled"
SLOW_KEYS: Final = {
    "vanishing_gradient": STALLED,
    "update_too_small": STALLED,
    "precision_underflow": STALLED,
    "plateau": STALLED,
    "dead_units": "dead_units",
    "loss_of_plasticity": "dead_units",
    "saturation": "saturation",
    "output_logit_drift": "output_logit_drift",
    "representation_collapse": "representation_collapse",
    "massive_activation": "massive_activation",
}
"""Slow kinds by the incident they join. Gradients that vanish make small updates, and these make a
loss that stays: one cause, one incident; so are dead units and what is no longer learned for want
of them."""
DAMAGE: Final = frozenset({"loss_spike", "divergence", "non_finite"})
"""Kinds that are harm themselves, and no signs of it."""
LOSS_ROWS: Final = 512
"""How far back a loss is remembered, so that the level before a late-found onset is known."""
NAMING_ROWS: Final = 64
"""Within so many rows of opening, the layer may still be named; later it would be a guess."""


class IncidentTracker:
    """One run's incidents. Pure: the same frames and findings give the same changes."""

    def __init__(self, *, first_number: int = 1) -> None:
        self._next_number = first_number
        self._row = 0
        self._live: list[Live] = []
        self._losses: deque[tuple[int, float]] = deque(maxlen=LOSS_ROWS)
        self.whose: dict[str, float | int | str] = {}
        """Evidence that every new incident gets: `rank` and `host` where a run has several ranks.
        It is what the stage knows when it takes the tracker up, and no part of its state."""
        self.accepted: frozenset[str] = frozenset()
        """Series, as `kind:name`, whose levels have become normal on the last row."""
        self.kept: list[tuple[Finding, int]] = []
        """The last row's findings worth storing, with their incident's number: the first of each
        detector, kind and series."""

    @property
    def incidents(self) -> list[Incident]:
        """Those that may still change."""
        return [live.incident for live in self._live]

    @property
    def frozen_run(self) -> bool:
        """Whether baselines must not learn at all: an acute incident is open."""
        return any(
            live.key == ACUTE and live.incident.state is State.OPEN and not live.accepted
            for live in self._live
        )

    @property
    def frozen_series(self) -> frozenset[str]:
        """Series of open slow incidents, as `kind:name`."""
        return frozenset(
            d.series
            for live in self._live
            if live.incident.state is State.OPEN and not live.accepted
            for d in live.incident.departures
        )

    def push(
        self,
        frame: Frame,
        findings: Sequence[Finding],
        departures: Sequence[Departure] = (),
    ) -> list[IncidentChange]:
        """What the row changed. `departures` are the series outside their baselines, in order."""
        self._row += 1
        self.kept = []
        loss = frame.scalars.get("loss")
        if loss is not None:
            self._losses.append((frame.step, loss))
        changes: list[IncidentChange] = []
        for key, group in self._grouped(findings):
            live = self._find(key)
            if live is not None and self._is_other_trouble(live, frame, group):
                self._live.remove(live)
                live = None
            if live is None:
                live = self._open(frame, key, group, departures)
                changes.append(_take(live, Transition.OPENED, frame))
            else:
                changes += self._join(frame, live, group, departures)
            self._keep(live, group)
        changes += self._watch_loss(frame, loss)
        self._accept(frame)
        changes += self._settle(frame, loss)
        return changes

    def number_from(self, number: int) -> None:
        """Count on from `number` at least: the ranks of a run share their incidents' numbers."""
        self._next_number = max(self._next_number, number)

    def adopt(self, incident: Incident) -> None:
        """Take over what a person did to an incident: acknowledged or resolved it."""
        for live in self._live:
            if live.incident.number == incident.number:
                state = live.incident.state
                if incident.state is State.RESOLVED:
                    state = State.RESOLVED
                live.incident = replace(
                    live.incident,
                    state=state,
                    acknowledged_by=incident.acknowledged_by,
                    num_changes=incident.num_changes,
                )

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as JSON values."""
        return {
            "next_number": self._next_number,
            "row": self._row,
            "losses": [list(pair) for pair in self._losses],
            "live": [live.to_json() for live in self._live],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self._next_number = int(state["next_number"])
        self._row = int(state["row"])
        self._losses = deque(((int(s), float(x)) for s, x in state["losses"]), maxlen=LOSS_ROWS)
        self._live = [Live.from_json(item) for item in state["live"]]

    def _grouped(self, findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
        acute_open = self.frozen_run
        groups: dict[str, list[Finding]] = {}
        for finding in findings:
            key = SLOW_KEYS.get(finding.kind, ACUTE)
            if key != ACUTE and acute_open and self._find(key) is None:
                key = ACUTE
            groups.setdefault(key, []).append(finding)
        return sorted(groups.items())

    def _is_other_trouble(self, live: Live, frame: Frame, findings: Sequence[Finding]) -> bool:
        """After recovery only the same kind is a relapse; another kind has another cause, and so,
        once it has been quiet for long, have series that it did not name, and what is critical."""
        incident = live.incident
        if incident.state is not State.RECOVERED:
            return False
        if not any(f.kind in incident.kinds for f in findings):
            return True
        if live.key != ACUTE or self._row - live.last_row <= NEAR_ROWS:
            return False
        if any(f.severity is Severity.CRITICAL for f in findings):
            return True
        named = {d.series for d in named_by(frame, findings)}
        return not named or named.isdisjoint(d.series for d in incident.departures)

    def _find(self, key: str) -> Live | None:
        return next((live for live in self._live if live.key == key), None)

    def _open(
        self,
        frame: Frame,
        key: str,
        findings: Sequence[Finding],
        departures: Sequence[Departure],
    ) -> Live:
        lead = max(findings, key=lambda f: (f.kind not in SYMPTOMS, rank_of(f.kind), f.score))
        lead = next(f for f in findings if f.kind == lead.kind)
        named = named_by(frame, [f for f in findings if f.kind == lead.kind])
        left = departures if key == ACUTE else ()
        cause = cause_of(frame, lead.kind, named, left, opens=True)
        onset = min(f.onset_step for f in findings)
        root = next((d for d in departures if d.series == cause.root), None)
        if root is not None and key == ACUTE:
            onset = min(onset, root.step)
        onset = min(onset, frame.step)
        before, since = self._split_losses(onset)
        watch = LossWatch.before(before)
        loss_step = watch.replay(since)
        if loss_step is None and any(f.statistic == "loss" for f in findings):
            loss_step = min(f.onset_step for f in findings if f.statistic == "loss")
        severity = Severity.WARNING
        for finding in findings:
            severity = graver(severity, finding.severity)
        incident = Incident(
            number=self._next_number,
            kind=lead.kind,
            severity=severity,
            state=State.OPEN,
            onset_step=onset,
            opened_step=frame.step,
            opened_ord=frame.ord,
            updated_step=frame.step,
            group=cause.group,
            root_series=cause.root,
            confidence=cause.confidence,
            loss_step=loss_step,
            num_affected=max(len(named), len(departures)),
            num_series=len(frame.schema.series),
            kinds=tuple(dict.fromkeys([lead.kind, *(f.kind for f in findings)])),
            departures=merged(named, departures),
            evidence={**self.whose, **first_evidence(lead, cause, departures)},
        )
        self._next_number += 1
        live = Live.begin(incident, key, watch, row=self._row, step=frame.step)
        self._live.append(live)
        return live

    def _join(
        self,
        frame: Frame,
        live: Live,
        findings: Sequence[Finding],
        departures: Sequence[Departure],
    ) -> list[IncidentChange]:
        live.last_row, live.last_step = self._row, frame.step
        old = live.incident
        if old.state is State.RESOLVED:
            return []
        severity = old.severity
        for finding in findings:
            severity = graver(severity, finding.severity)
        # A relapse that does damage is told once, and so is what is graver than a relapse without;
        # signs that come and go say no more than they have said.
        again = old.state is State.RECOVERED and "relapsed_step" not in old.evidence
        relapsed = again and any(f.kind in DAMAGE for f in findings)
        if old.state is State.RECOVERED:
            live.begin_anew(self._row)
        if again:
            live.shown = set() if relapsed else {f.kind for f in findings} & set(old.kinds)
        added = [k for k in dict.fromkeys(f.kind for f in findings) if k not in live.shown]
        news = [k for k in added if is_news(k, live.shown)]
        added = [*(k for k in added if k not in news), *news]
        kinds = (*(k for k in old.kinds if k not in added), *added)
        named = named_by(frame, findings)
        new = replace(
            old,
            state=State.OPEN,
            recovered_step=None,
            severity=severity,
            kinds=kinds,
            updated_step=frame.step,
            num_affected=max(old.num_affected, len(named), len(departures)),
            departures=merged(old.departures, (*named, *departures)),
        )
        changes: list[IncidentChange] = []
        if self._row - live.opened_row <= NAMING_ROWS:
            left = departures if live.key == ACUTE else ()
            cause = cause_of(frame, old.kind, named, left, opens=False)
            if old.group is None and cause.group is None:
                cause = cause_since_onset(frame, old.onset_step, findings)
            if _says_more(old, cause):
                new = replace(
                    new, group=cause.group, root_series=cause.root, confidence=cause.confidence
                )
                changes.append(change(new, Transition.NAMED, step=frame.step))
                new = changes[-1].incident
        evidence = newer_evidence(new, findings)
        if not live.accepted:
            evidence.pop("accepted_step", None)
        if relapsed:
            evidence["relapsed_step"] = frame.step
        new = replace(new, evidence=evidence)
        live.shown.update(added)
        if severity is not old.severity or news:
            live.begin_anew(self._row)
            changes.append(change(new, Transition.ESCALATED, step=frame.step))
            new = changes[-1].incident
        live.incident = new
        return changes

    def _watch_loss(self, frame: Frame, loss: float | None) -> list[IncidentChange]:
        changes: list[IncidentChange] = []
        if loss is None:
            return changes
        for live in self._live:
            incident = live.incident
            fresh = incident.opened_ord == frame.ord
            if incident.state is not State.OPEN or fresh:
                continue
            if incident.loss_step is not None:
                live.watch.follow(loss, frame.step)
                continue
            moved = live.watch.push(loss, frame.step)
            if moved is not None:
                live.incident = replace(incident, loss_step=moved, updated_step=frame.step)
                changes.append(_take(live, Transition.LOSS_MOVED, frame))
        return changes

    def _accept(self, frame: Frame) -> None:
        """Take the levels for normal that have done no harm: a run whose baselines rest for good
        shows nothing of what comes later."""
        lasting = [v for v in self._live if v.key == ACUTE and v.is_harmless(self._row)]
        self.accepted = frozenset(d.series for v in lasting for d in v.incident.departures)
        for live in lasting:
            evidence = {**live.incident.evidence, "accepted_step": frame.step}
            live.incident = replace(live.incident, evidence=evidence, updated_step=frame.step)
            live.accepted = True

    def _settle(self, frame: Frame, loss: float | None) -> list[IncidentChange]:
        changes: list[IncidentChange] = []
        for live in list(self._live):
            quiet = self._row - live.last_row
            state = live.incident.state
            if state is State.OPEN and quiet >= QUIET_ROWS:
                moved = live.incident.loss_step is not None
                if moved and loss is not None and not live.watch.is_back(loss):
                    continue
                live.incident = replace(
                    live.incident,
                    state=State.RECOVERED,
                    recovered_step=live.last_step + 1,
                    updated_step=frame.step,
                )
                changes.append(_take(live, Transition.RECOVERED, frame))
            elif state is not State.OPEN and quiet >= COOLDOWN_ROWS:
                self._live.remove(live)
        return changes

    def _split_losses(self, onset: int) -> tuple[list[float], list[tuple[int, float]]]:
        rows = list(self._losses)
        # The newest row before the onset: steps may repeat after a resume, so look from the end.
        cut = len(rows)
        while cut and rows[cut - 1][0] >= onset:
            cut -= 1
        return [loss for _, loss in rows[:cut]], rows[cut:]

    def _keep(self, live: Live, findings: Sequence[Finding]) -> None:
        for finding in findings:
            mark = (f"{finding.detector}/{finding.kind}", str(finding.series))
            if mark not in live.told:
                live.told.add(mark)
                self.kept.append((finding, live.incident.number))


def _take(live: Live, transition: Transition, frame: Frame) -> IncidentChange:
    made = change(live.incident, transition, step=frame.step)
    live.incident = made.incident
    return made


def _says_more(old: Incident, cause: Cause) -> bool:
    """A first name, or the same layer in several blocks where one was named before."""
    if cause.group is None or cause.group == old.group:
        return False
    if old.group is None:
        return True
    return family_of(old.group) == cause.group
