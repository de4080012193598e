"""The stage that empties the outbox: claims an alert, sends it, and settles it.

Each alert is received at least once. The claim is committed before the message leaves and settled
after the answer, so a kill in between leaves a claim that runs out, and the message is sent again
with the same id.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from foreshock_service.incidents.explanations import explanation_path
from foreshock_service.notifiers.protocol import DeliveryError, Notifier
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.deliveries import (
    Delivery,
    claim,
    due,
    mark_delivered,
    mark_failed,
    mark_pending,
)
from foreshock_service.store.session import Store

logger = logging.getLogger(__name__)

BATCH: Final = 64
"""Deliveries looked at in one round."""
FIRST_PAUSE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 6 * 3600.0
PAUSE_FACTOR: Final = 3.0
"""5 s, 15 s, 45 s, ... 6 h: twelve attempts span about 28 hours."""
LEASE_MARGIN_SECONDS: Final = 30.0
"""A claim outlives the notifier's timeout by this much, for a slow database."""


class Notify:
    """One sender; any number of them, in any processes, may share an outbox."""

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        notifiers: Mapping[str, Notifier],
        *,
        clock: Callable[[], float] = time.time,
        chance: random.Random | None = None,
        lease_margin_seconds: float = LEASE_MARGIN_SECONDS,
    ) -> None:
        self._store = store
        self._notifiers = notifiers
        self._max_attempts = settings.webhook_max_attempts
        self._base_url = settings.address().rstrip("/")
        self._clock = clock
        self._chance = chance or random.Random()
        self._lease_margin_seconds = lease_margin_seconds
        self.owner = uuid.uuid4().hex
        """Names this sender in the rows that it holds."""

    def run_once(self) -> int:
        """Send what is due; how many alerts were claimed."""
        with self._store.read() as session:
            waiting = due(session, now=self._clock(), limit=BATCH)
        return sum(self._handle(delivery_id) for delivery_id in waiting)

    def _handle(self, delivery_id: int) -> bool:
        longest = max((n.timeout_seconds for n in self._notifiers.values()), default=0.0)
        with self._store.write() as session:
            delivery = claim(
                session,
                delivery_id,
                owner=self.owner,
                now=self._clock(),
                lease_seconds=longest + self._lease_margin_seconds,
            )
        if delivery is None:
            return False
        try:
            self._send(delivery)
        except DeliveryError as error:
            self._put_off(delivery, error)
            return True
        with self._store.write() as session:
            mark_delivered(session, delivery_id, owner=self.owner, now=self._clock())
        return True

    def _send(self, delivery: Delivery) -> None:
        if delivery.attempts > self._max_attempts:
            raise DeliveryError("every sender that tried it was stopped", retryable=False)
        notifier = self._notifiers.get(delivery.channel)
        if notifier is None:
            raise DeliveryError(
                f"no channel {delivery.channel!r} is set up: add it to FORESHOCK_WEBHOOKS",
                retryable=True,
            )
        notifier.send(delivery.payload["id"], self._message(delivery.payload))

    def _message(self, payload: dict[str, Any]) -> dict[str, Any]:
        fields = {key: value for key, value in payload.items() if key != "path"}
        return {
            **fields,
            "url": self._base_url + payload["path"],
            "explanation": self._base_url + explanation_path(payload["incident"]["kind"]),
        }

    def _put_off(self, delivery: Delivery, error: DeliveryError) -> None:
        spent = delivery.attempts >= self._max_attempts
        where = f"alert {delivery.payload['id']} to {delivery.channel!r}"
        with self._store.write() as session:
            if spent or not error.retryable:
                logger.error("%s given up after %d: %s", where, delivery.attempts, error)
                mark_failed(session, delivery.delivery_id, owner=self.owner, error=str(error))
                return
            pause = self._pause_seconds(delivery.attempts, error.retry_after_seconds)
            logger.warning("%s put off by %.0f s: %s", where, pause, error)
            mark_pending(
                session,
                delivery.delivery_id,
                owner=self.owner,
                next_attempt_at=self._clock() + pause,
                error=str(error),
            )

    def _pause_seconds(self, attempts: int, asked_for: float | None) -> float:
        pause = min(FIRST_PAUSE_SECONDS * PAUSE_FACTOR ** (attempts - 1), LONGEST_PAUSE_SECONDS)
        # Up to a quarter more, so that alerts that failed together do not return together.
        return max(pause, asked_for or 0.0) * (1.0 + 0.25 * self._chance.random())
