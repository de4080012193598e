"""Signed POSTs, after the Standard Webhooks specification (standardwebhooks.com).

The receiver verifies `webhook-signature` over id, timestamp and body with the shared secret, and
recognises a message that is sent again by its `webhook-id`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from standardwebhooks import Webhook as Signer
from standardwebhooks.webhooks import EmptyWebhookSecretError

from foreshock_service.notifiers.protocol import DeliveryError
from foreshock_service.settings import Webhook

RETRYABLE_CLIENT_ERRORS: Final = frozenset({408, 409, 425, 429})
"""4xx answers that speak of the moment, not of the message."""
MAX_ANSWER_BYTES: Final = 512
"""As much of an answer as an error message may quote; the rest is not read."""
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0


class WebhookNotifier:
    """Posts JSON to one URL; answers 2xx count as received, redirects as failures.

    Redirects are not followed: a receiver could point them at a service that only we can reach.

    Raises:
        ValueError: the secret is not base64.
    """

    def __init__(
        self,
        webhook: Webhook,
        *,
        timeout_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._channel = webhook.name
        self._url = webhook.url
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        try:
            self._signer = Signer(webhook.secret.get_secret_value())
        except (ValueError, EmptyWebhookSecretError) as error:
            raise ValueError(
                f"webhook {webhook.name!r}: the secret must be `whsec_` and base64; make one with "
                "`echo whsec_$(openssl rand -base64 32)`"
            ) from error
        # Reading the certificates takes longer than a POST, so it is done once.
        self._ssl = httpx.create_ssl_context(trust_env=False)

    @property
    def channel(self) -> str:
        """The webhook's name in the settings."""
        return self._channel

    @property
    def timeout_seconds(self) -> float:
        """Bound of one `send`, whatever the receiver does."""
        return self._timeout_seconds

    def send(self, message_id: str, message: Mapping[str, Any]) -> None:
        """Sign and post `message`; the answer must come within the timeout.

        Raises:
            DeliveryError: retryable for no answer, 5xx, 408, 409, 425 and 429; final for any
                other 4xx, a redirect, or a URL that cannot be used.
        """
        body = json.dumps(message, separators=(",", ":"), allow_nan=False)
        # The signature is made anew each time: receivers refuse timestamps older than minutes.
        sent_at = datetime.fromtimestamp(int(self._clock()), UTC)
        headers = {
            "user-agent": "foreshock",
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": self._signer.sign(message_id, sent_at, body),
        }
        try:
            status, answer, retry_after = asyncio.run(self._post(body.encode(), headers))
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise DeliveryError(f"the URL cannot be used: {error}", retryable=False) from error
        except TimeoutError as error:
            raise DeliveryError(
                f"no answer within {self._timeout_seconds:g} s", retryable=True
            ) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise DeliveryError(f"no answer: {reason}", retryable=True) from error
        if 200 <= status < 300:
            return
        raise DeliveryError(
            f"answered {status}: {answer}",
            retryable=status >= 500 or status in RETRYABLE_CLIENT_ERRORS,
            retry_after_seconds=retry_after,
        )

    async def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, float | None]:
        # Asynchronous for one reason: httpx bounds each read, and only a task can be bounded as a
        # whole against a receiver that drips a byte a second.
        async with (
            asyncio.timeout(self._timeout_seconds),
            httpx.AsyncClient(
                verify=self._ssl, timeout=None, follow_redirects=False, trust_env=False
            ) as client,
            client.stream("POST", self._url, content=body, headers=headers) as response,
        ):
            answer = b""
            if not response.is_success:
                async for part in response.aiter_bytes(MAX_ANSWER_BYTES):
                    answer += part
                    if len(answer) >= MAX_ANSWER_BYTES:
                        break
            text = answer[:MAX_ANSWER_BYTES].decode("utf-8", "replace")
            return response.status_code, text, _seconds(response.headers.get("retry-after"))


def _seconds(text: str | None) -> float | None:
    # The other form, a date, is rare enough that our own pause serves as well.
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), MAX_RETRY_AFTER_SECONDS)
