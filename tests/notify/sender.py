"""A sender as its own process, to be killed while it sends: one round over the outbox.

python -m tests.notify.sender DATABASE_URL WEBHOOK_URL SECRET
"""

from __future__ import annotations

import sys

from foreshock_service.notifiers.registry import build_notifiers
from foreshock_service.pipeline.notify import Notify
from foreshock_service.settings import ServiceSettings, Webhook
from foreshock_service.store.session import Store
from pydantic import SecretStr


def main(database_url: str, url: str, secret: str) -> None:
    """Send what is due."""
    settings = ServiceSettings(
        webhooks=[Webhook(url=url, secret=SecretStr(secret))], webhook_timeout_seconds=60
    )
    Notify(Store(database_url), settings, build_notifiers(settings)).run_once()


if __name__ == "__main__":
    main(*sys.argv[1:])
