"""What people do to incidents: acknowledge and resolve, told to every channel like any change."""

from __future__ import annotations

import time
from collections.abc import Callable

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.incidents import Incident, IncidentChange
from foreshock_service.errors import Conflict
from foreshock_service.incidents import lifecycle
from foreshock_service.pipeline.telling import Audience, tell
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import incidents, runs
from foreshock_service.store.incidents import StoredIncident
from foreshock_service.store.session import Store


def acknowledge(
    store: Store, settings: ServiceSettings, run_id: str, number: int, *, by: str
) -> StoredIncident:
    """Mark an incident as seen by `by`; doing so again renews the name.

    Raises:
        NotFound: there is no such run or incident.
        Conflict: it is resolved.
    """
    return _apply(store, settings, run_id, number, lambda i: lifecycle.acknowledge(i, by=by))


def resolve(
    store: Store, settings: ServiceSettings, run_id: str, number: int, *, by: str
) -> StoredIncident:
    """Close an incident; detection stays silent while its cause goes on.

    Raises:
        NotFound: there is no such run or incident.
        Conflict: it is resolved already.
    """
    return _apply(store, settings, run_id, number, lambda i: lifecycle.resolve(i, by=by))


def _apply(
    store: Store,
    settings: ServiceSettings,
    run_id: str,
    number: int,
    act: Callable[[Incident], IncidentChange],
) -> StoredIncident:
    now = time.time()
    with store.write() as session:
        run = runs.get(session, run_id)
        stored = incidents.get_incident(session, run_id, number)
        try:
            change = act(stored.incident)
        except ValueError as error:
            raise Conflict(str(error), code="incident_changed") from error
        incidents.update_incident(
            session,
            run_id,
            change.incident,
            version=stored.version,
            sentence=change.sentence,
            now=now,
        )
        to = Audience(run=AlertRun.of(run), channels=settings.channels(), now=now)
        tell(session, change, to=to)
        return incidents.get_incident(session, run_id, number)
