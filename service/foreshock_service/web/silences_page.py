"""Silences on the pages: the list of them, and the form on an incident's page that makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import escape
from typing import Any, Final

from foreshock_service.domain.incidents import Incident
from foreshock_service.domain.runs import Run
from foreshock_service.domain.silences import Silence, SilenceState
from foreshock_service.errors import BadRequest
from foreshock_service.web.words import ago, lasting

DURATIONS: Final = {"1 hour": 3600, "8 hours": 8 * 3600, "1 day": 86_400, "1 week": 7 * 86_400}
MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Scope:
    """What the form offers to silence: its value, and how it reads."""

    value: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceNote:
    """One silence as the pages tell it."""

    silence_id: int
    what: str
    when: str
    until: str
    until_iso: str
    by: str
    reason: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SilencesPage:
    """What the template shows."""

    headline: str
    standing: Sequence[SilenceNote]
    ended: Sequence[SilenceNote]


def silences_page(found: Sequence[Silence], *, now: float) -> SilencesPage:
    """Those in force or to come first, then those that have ended."""
    standing = [item for item in found if item.state(now) is not SilenceState.ENDED]
    ended = [item for item in found if item.state(now) is SilenceState.ENDED]
    num_live = sum(item.state(now) is SilenceState.LIVE for item in standing)
    return SilencesPage(
        headline=_headline(num_live, len(standing) - num_live),
        standing=[silence_note(item, now=now) for item in standing],
        ended=[silence_note(item, now=now) for item in ended],
    )


def silence_note(item: Silence, *, now: float) -> SilenceNote:
    """One silence in words."""
    state = item.state(now)
    when = {
        SilenceState.LIVE: f"for another {lasting(item.ends_at - now)}",
        SilenceState.PENDING: f"begins in {lasting(item.starts_at - now)}",
        SilenceState.ENDED: f"ended {ago(now - item.ends_at)}",
    }[state]
    until = datetime.fromtimestamp(item.ends_at, UTC)
    return SilenceNote(
        silence_id=item.silence_id,
        what=_what(item),
        when=when,
        until=f"{until:%Y-%m-%d %H:%M} UTC",
        until_iso=until.isoformat(timespec="seconds"),
        by=item.created_by,
        reason=item.reason,
        state=str(state),
    )


def scopes(incident: Incident, run: Run) -> Sequence[Scope]:
    """What may be silenced from an incident's page."""
    kind = incident.kind.replace("_", " ")
    return [
        Scope("run", f"{kind} on this run"),
        Scope("project", f"{kind} in all of {run.project}"),
        Scope("all", "everything on this run"),
    ]


def asked(
    form: Mapping[str, str], incident: Incident, run: Run, *, now: float
) -> Mapping[str, Any]:
    """What the form on an incident's page asks for.

    Raises:
        BadRequest: it holds what the page never offered.
    """
    seconds = DURATIONS.get(form.get("duration", ""))
    matchers = {
        "run": {"run": run.run_id, "kind": incident.kind},
        "project": {"project": escape(run.project), "kind": incident.kind},
        "all": {"run": run.run_id},
    }.get(form.get("scope", ""))
    if seconds is None or matchers is None:
        raise BadRequest("choose what to silence and for how long, as the page offers it")
    reason = " ".join(form.get("reason", "").replace("\0", "").split())
    return {**matchers, "ends_at": now + seconds, "reason": reason[:MAX_REASON]}


def _headline(num_live: int, num_pending: int) -> str:
    who = {0: "No silence is", 1: "1 silence is"}.get(num_live, f"{num_live} silences are")
    later = {0: "", 1: ", 1 begins later"}.get(num_pending, f", {num_pending} begin later")
    return f"{who} in force{later}"


def _what(item: Silence) -> str:
    kind = item.kind.replace("_", " ") if item.kind and item.kind != "*" else "everything"
    parts = [kind[0].upper() + kind[1:]]
    if item.group:
        parts.append(f"at {item.group}")
    if item.run:
        parts.append(f"on run {item.run}")
    if item.project:
        parts.append(f"in project {item.project}")
    return " ".join(parts)
