"""Silent client: a run, or a rank of it, that goes on by its own account and sends nothing.

`silent_client`: nothing has come for longer than the largest of

- the setting `silent_seconds` (120 s), five times that before 8 steps were measured, because the
  first ones compile and load;
- 20 x the median time between its own last steps, an hour at most, but never less than 3 x;
- 2 x the longest time between them, and 2 x the longest pause that it came back from: an
  evaluation or a checkpoint that blocks the loop is told once and not every time.

Twelve hours at most. A warning; critical after 5 x as long, by default the 10 minutes after which
PyTorch itself gives up a collective of NCCL: whoever was only waiting for others has been ended.

Only time in which somebody listened counts: from the last arrival, or from when this process began
to listen, whichever is later; for a rank that stays away while its run comes back from a pause as
a whole, from that return. One incident tells a pause. It recovers when something comes, and
is resolved when the run says that it has ended. The rule is pure: the time is given.

Source: the median rule is ours; 10 minutes are the default of `torch.distributed` for NCCL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Incident, IncidentChange, State, Transition
from foreshock_service.domain.runs import RunStatus
from foreshock_service.incidents.lifecycle import change, graver
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT, span

KNOWN_STEPS: Final = 8
UNKNOWN_FACTOR: Final = 5.0
MEDIAN_FACTOR: Final = 20.0
MEDIAN_SECONDS: Final = 3600.0
SLOW_FACTOR: Final = 3.0
HABIT_FACTOR: Final = 2.0
LONGEST_SECONDS: Final = 12 * 3600.0
CRITICAL_FACTOR: Final = 5.0
PROLONG_FACTOR: Final = 1.25
MAX_HOSTS: Final = 8
"""Hosts named in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a rank has stepped lately: the number of steps looked at, the median and the longest
    time between two, and the longest pause that its run came back from; in seconds."""

    num_steps: int = 0
    usual: float | None = None
    longest: float = 0.0
    survived: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSeen:
    """A rank of the newest attempt as it was last seen; `heard_at` by the service's clock."""

    rank: int
    host: str
    attempt: int
    step: int | None
    next_ord: int
    heard_at: float
    pace: Pace
    awaited_since: float = 0.0
    """When its run came back from a pause as a whole, where the rank did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentClient:
    """Who is silent: `ranks` are empty for the whole run. `seen` is the one heard last of them."""

    ranks: tuple[RankSeen, ...]
    seen: RankSeen
    seconds: float
    severity: Severity
    num_ranks: int


def patience(pace: Pace, least: float) -> float:
    """Seconds without anything after which a rank of that pace is silent."""
    known = pace.num_steps >= KNOWN_STEPS and pace.usual is not None
    usual = pace.usual if known and pace.usual is not None else 0.0
    longest = max(
        least if known else UNKNOWN_FACTOR * least,
        min(MEDIAN_FACTOR * usual, MEDIAN_SECONDS),
        SLOW_FACTOR * usual,
        HABIT_FACTOR * max(pace.longest, pace.survived),
    )
    return min(longest, LONGEST_SECONDS)


def silent_of(
    ranks: Sequence[RankSeen], *, now: float, listening_since: float, least: float
) -> SilentClient | None:
    """Who is silent in a run that has not ended, or None. `ranks` are those of its newest attempt.

    The run is silent once the rank that was heard last is. A rank is silent while others go on if
    they were heard half of its patience after it: ranks that stop together are silent as a whole.
    """
    if not ranks:
        return None

    def quiet(rank: RankSeen) -> float:
        return now - max(rank.heard_at, listening_since)

    def overdue(rank: RankSeen) -> float:
        return min(quiet(rank), now - rank.awaited_since)

    def gravity(rank: RankSeen) -> Severity:
        grave = overdue(rank) > CRITICAL_FACTOR * patience(rank.pace, least)
        return Severity.CRITICAL if grave else Severity.WARNING

    last = max(ranks, key=lambda rank: (rank.heard_at, -rank.rank))
    if quiet(last) > patience(last.pace, least):
        return SilentClient(
            ranks=(), seen=last, seconds=quiet(last), severity=gravity(last), num_ranks=len(ranks)
        )
    silent = tuple(
        rank
        for rank in sorted(ranks, key=lambda rank: rank.rank)
        if overdue(rank) > patience(rank.pace, least)
        and last.heard_at - max(rank.heard_at, rank.awaited_since) > patience(rank.pace, least) / 2
    )
    if not silent:
        return None
    seen = max(silent, key=lambda rank: (rank.heard_at, -rank.rank))
    return SilentClient(
        ranks=silent,
        seen=seen,
        seconds=quiet(seen),
        severity=gravity(seen),
        num_ranks=len(ranks),
    )


def begin(silent: SilentClient, *, number: int) -> IncidentChange:
    """The incident that tells who is silent."""
    seen = silent.seen
    step = seen.step if seen.step is not None else 0
    opened = Incident(
        number=number,
        kind=SILENT_CLIENT,
        severity=silent.severity,
        state=State.OPEN,
        onset_step=step,
        opened_step=step,
        opened_ord=max(seen.next_ord - 1, 0),
        updated_step=step,
        group=None,
        root_series=None,
        confidence=0.0,
        kinds=(SILENT_CLIENT,),
        evidence=_evidence(silent),
    )
    return change(opened, Transition.OPENED, step=step)


def worsen(
    incident: Incident, silent: SilentClient, ranks: Sequence[RankSeen]
) -> IncidentChange | None:
    """The change of an open incident that has become graver, or spread to other ranks of `ranks`,
    or to the whole run."""
    severity = graver(incident.severity, silent.severity)
    named = _named(incident)
    joined = named and any(rank.rank not in named for rank in silent.ranks)
    spread = bool(named and not silent.ranks)
    if severity is incident.severity and not joined and not spread:
        return None
    evidence, step = {**incident.evidence, **_length(silent.seconds)}, incident.updated_step
    if spread:
        evidence, step = _evidence(silent), max(step, silent.seen.step or 0)
    elif joined:
        evidence = _evidence(_together(incident, silent, ranks))
        # The step of those that go on: who is silent may all stand at one.
        step = max([step, *(rank.step for rank in ranks if rank.step is not None)])
    worse = replace(incident, severity=severity, evidence=evidence, updated_step=step)
    return change(worse, Transition.ESCALATED, step=step)


def _together(incident: Incident, silent: SilentClient, ranks: Sequence[RankSeen]) -> SilentClient:
    """Who is silent, with the ranks that its incident names and that have not come back since."""
    named, before = _named(incident), heard_at_of(incident)
    others = [rank for rank in ranks if rank.rank in named and rank.heard_at <= before]
    every = {rank.rank: rank for rank in (*others, *silent.ranks)}
    return replace(silent, ranks=tuple(every[number] for number in sorted(every)))


def prolong(incident: Incident, seconds: float) -> Incident | None:
    """An open incident with the time that it has lasted by now, once that is a quarter longer than
    what its sentence says; told to nobody, but read by whoever looks."""
    if seconds < PROLONG_FACTOR * _seconds(incident, "silent_seconds"):
        return None
    return replace(incident, evidence={**incident.evidence, **_length(seconds)})


def come_back(
    incident: Incident, ranks: Sequence[RankSeen], *, heard_at: float
) -> IncidentChange | None:
    """The end of an open incident because those who were silent have sent something; None: not yet.

    `heard_at` is the last arrival of the whole run. A rank that a new attempt no longer has
    cannot come back by itself: what its run sends speaks for it.
    """
    before = heard_at_of(incident)
    named = _named(incident)
    those = [rank for rank in ranks if rank.rank in named]
    heard = min((rank.heard_at for rank in those), default=heard_at)
    if heard <= before:
        return None
    newest = max((rank.step for rank in those or ranks if rank.step is not None), default=None)
    step = incident.updated_step if newest is None else newest
    evidence = _lasting(incident, heard - before)
    if any(rank.attempt != incident.evidence.get("attempt") for rank in ranks):
        # Another start is no sign that this run pauses by habit.
        evidence |= {"restarted": 1, "lasted_seconds": 0.0}
    back = replace(
        incident,
        state=State.RECOVERED,
        recovered_step=step,
        updated_step=step,
        evidence=evidence,
    )
    return change(back, Transition.RECOVERED, step=step)


def end(incident: Incident, status: RunStatus, *, heard_at: float) -> IncidentChange:
    """The end of an open incident because the run has said that it ended."""
    ended = "ended" if status is RunStatus.FINISHED else "ended with an exception"
    evidence = _lasting(incident, heard_at - heard_at_of(incident))
    closed = replace(incident, state=State.RESOLVED, evidence={**evidence, "ended": ended})
    return change(closed, Transition.RESOLVED, step=incident.updated_step)


def tells(incident: Incident, silent: SilentClient) -> bool:
    """Whether an incident, be it over or not, has told what is found.

    One of the whole run has told nothing of ranks that stay away when others come back.
    """
    if heard_at_of(incident) < silent.seen.heard_at:
        return False
    return bool(_named(incident)) or not silent.ranks or not silent.seen.awaited_since


def is_all_told(incident: Incident, *, heard_at: float) -> bool:
    """Whether nothing can be added to an open incident of a run that was last heard so: it is of
    the whole run, as grave as it gets, and nothing has come since."""
    critical = incident.severity is Severity.CRITICAL
    return is_of_all(incident) and critical and heard_at <= heard_at_of(incident)


def is_of_all(incident: Incident) -> bool:
    """Whether it tells of the whole run and names no rank."""
    return not _named(incident)


def awaited_since_of(incident: Incident) -> float:
    """From when on something of the ranks that it names was to come; 0: from their last arrival."""
    return _seconds(incident, "awaited_since")


def heard_at_of(incident: Incident) -> float:
    """The last arrival before the pause that an incident tells."""
    return _seconds(incident, "heard_at")


def survived(incidents: Sequence[Incident], *, before: float) -> float:
    """The longest pause that a run came back from, in seconds, of those that began before a time:
    a rank's last arrival, since a pause that it has not come back from is no habit of it."""
    back = [
        incident
        for incident in incidents
        if incident.state is State.RECOVERED and heard_at_of(incident) < before
    ]
    return max((_seconds(incident, "lasted_seconds") for incident in back), default=0.0)


def _seconds(incident: Incident, name: str) -> float:
    value = incident.evidence.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _length(seconds: float) -> dict[str, float | int | str]:
    return {**span(seconds), "silent_seconds": round(seconds, 1)}


def _lasting(incident: Incident, seconds: float) -> dict[str, float | int | str]:
    seconds = max(seconds, 0.0)
    return {**incident.evidence, **span(seconds), "lasted_seconds": seconds}


def _named(incident: Incident) -> set[int]:
    text = str(incident.evidence.get("ranks", ""))
    return {int(part) for part in text.split(",") if part.strip()}


def _evidence(silent: SilentClient) -> dict[str, float | int | str]:
    seen = silent.seen
    evidence: dict[str, float | int | str] = {
        "statistic": "silent_seconds",
        **_length(silent.seconds),
        "heard_at": seen.heard_at,
        "attempt": seen.attempt,
        "num_ranks": silent.num_ranks,
    }
    if seen.step is not None:
        evidence["last_step"] = seen.step
    if seen.pace.usual is not None:
        evidence["usual_seconds"] = float(f"{seen.pace.usual:.3g}")
    if seen.awaited_since:
        evidence["awaited_since"] = seen.awaited_since
    if silent.ranks:
        # All of them, for whoever waits for them to come back: the sentence names the first.
        evidence["ranks"] = ", ".join(str(rank.rank) for rank in silent.ranks)
        evidence["num_silent"] = len(silent.ranks)
        hosts = sorted({rank.host for rank in silent.ranks if rank.host})
        if hosts:
            evidence["host"] = ", ".join(hosts[:MAX_HOSTS])
    return evidence
