"""The seam between the outbox and a place that is told of incidents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class DeliveryError(Exception):
    """A message was not received; `retryable` says whether sending it again can help."""

    def __init__(
        self, message: str, *, retryable: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        """When the receiver asked to be left alone for a while."""


class Notifier(Protocol):
    """Sends messages to one place; used by one thread at a time."""

    @property
    def channel(self) -> str:
        """The name under which the outbox files messages for this place; unique in a process."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """The longest that `send` may take; a claim on a message lasts longer than this."""
        ...

    def send(self, message_id: str, message: Mapping[str, Any]) -> None:
        """Deliver one message; a message sent again has the same `message_id`.

        Raises:
            DeliveryError: it was not received.
        """
        ...
