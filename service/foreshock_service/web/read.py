"""What the pages read from the store, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from foreshock_service.domain.runs import Attempt, Run, RunEvent, RunHead
from foreshock_service.store import events, head, incidents, runs, schemas
from foreshock_service.store.incidents import StoredIncident
from foreshock_service.store.session import ReadSession
from foreshock_service.web.health import foremost
from foreshock_service.web.run_list import RunFacts

LISTED_RUNS: Final = 200
TOLD_EVENTS: Final = ("checkpoint", "exception", "finished")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRead:
    """One run with what its page tells; `chosen` is the incident to speak of."""

    run: Run
    head: RunHead | None
    attempts: Sequence[Attempt]
    events: Sequence[RunEvent]
    incidents: Sequence[StoredIncident]
    chosen: StoredIncident | None
    num_series: int


def read_list(session: ReadSession) -> list[RunFacts]:
    """The runs last heard of, with all that a row shows."""
    facts = []
    for item in runs.list_runs(session, limit=LISTED_RUNS):
        run_id = item.run.run_id
        told = incidents.list_incidents(session, run_id)
        facts.append(
            RunFacts(
                run=item.run,
                head=item.head,
                attempts=runs.attempts(session, run_id),
                incidents=[(stored.incident, stored.sentence) for stored in told],
                spark=None,
                has_series=item.head is not None and item.head.schema_hash is not None,
            )
        )
    return facts


def read_run(session: ReadSession, run_id: str, number: int | None) -> RunRead:
    """One run; `number` chooses the incident, None the one that matters most.

    Raises:
        NotFound: there is no such run, or it has no incident of that number.
    """
    run = runs.get(session, run_id)
    told = incidents.list_incidents(session, run_id)
    by_number = {stored.number: stored for stored in told}
    if number is None:
        first = foremost([stored.incident for stored in told])
        chosen = None if first is None else by_number[first.number]
    else:
        chosen = by_number.get(number) or incidents.get_incident(session, run_id, number)
    newest = head.first_heads(session, [run_id]).get(run_id)
    return RunRead(
        run=run,
        head=newest,
        attempts=runs.attempts(session, run_id),
        events=events.list_events(session, run_id, kinds=TOLD_EVENTS),
        incidents=told,
        chosen=chosen,
        num_series=len(read_depths(session, newest)),
    )


def read_depths(session: ReadSession, newest: RunHead | None) -> Mapping[str, int]:
    """The depth of each series, named `kind:name`."""
    if newest is None or newest.schema_hash is None:
        return {}
    schema = schemas.load(session, newest.schema_hash)
    return {f"{item.kind}:{item.name}": item.depth for item in schema.series}
