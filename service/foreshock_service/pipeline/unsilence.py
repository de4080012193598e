"""The stage that tells what silences withheld, once they have ended.

One incident is one transaction, and the outbox keeps an alert once, so that a kill at any moment
repeats nothing and loses nothing.
"""

from __future__ import annotations

from typing import Final

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.pipeline.telling import Audience, look_again
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import runs, withheld
from foreshock_service.store.session import Store

BATCH: Final = 64
"""Incidents looked at in one round."""


def unsilence_once(store: Store, settings: ServiceSettings, now: float) -> int:
    """Look at the incidents whose silences may have ended; how many there were."""
    with store.read() as session:
        due = withheld.due(session, now=now, limit=BATCH)
    for run_id, number in due:
        with store.write() as session:
            about = AlertRun.of(runs.get(session, run_id))
            to = Audience(run=about, channels=settings.channels(), now=now)
            look_again(session, number, to=to)
    return len(due)
