"""What people do to silences: make one and end one, with a line in the audit trail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from foreshock_service.domain.silences import MATCHERS, MAX_SECONDS, Silence
from foreshock_service.errors import Unprocessable
from foreshock_service.store import silences, withheld
from foreshock_service.store.audit import record
from foreshock_service.store.session import Store


def add(store: Store, asked: Mapping[str, Any], *, by: str, now: float) -> Silence:
    """Make a silence of matchers, `starts_at` (None: now), `ends_at` and `reason`.

    Raises:
        Unprocessable: it matches everything, or its times cannot be.
        Conflict: there are too many that have not ended.
    """
    if not any(asked.get(name) for name in MATCHERS):
        raise Unprocessable(f"a silence needs at least one of {', '.join(MATCHERS)}")
    starts_at, ends_at = max(now, asked.get("starts_at") or now), asked["ends_at"]
    if not (math.isfinite(ends_at) and math.isfinite(starts_at)):
        raise Unprocessable("starts_at and ends_at are seconds since the epoch")
    if ends_at <= starts_at:
        raise Unprocessable(
            "ends_at is not after starts_at, or has passed: give seconds since the epoch"
        )
    if ends_at > now + MAX_SECONDS:
        days = MAX_SECONDS / 86_400
        raise Unprocessable(f"a silence ends within {days:.0f} days from now: make it shorter")
    matchers = {name: asked.get(name) or None for name in MATCHERS}
    times = {"starts_at": starts_at, "ends_at": ends_at}
    with store.write() as session:
        made = silences.add(
            session, {**matchers, **times, "reason": asked.get("reason", "")}, by=by, now=now
        )
        record(
            session,
            actor=by,
            action="silence.create",
            target=str(made.silence_id),
            now=now,
            detail={name: value for name, value in {**matchers, **times}.items() if value},
        )
    return made


def end(store: Store, silence_id: int, *, by: str, now: float) -> Silence:
    """End a silence now; what it withheld is told if it still stands.

    Raises:
        NotFound: there is no such silence.
        Conflict: it has ended already.
    """
    with store.write() as session:
        ended = silences.end(session, silence_id, now=now)
        withheld.look_now(session, now=now)
        record(session, actor=by, action="silence.end", target=str(silence_id), now=now)
    return ended
