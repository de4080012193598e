"""Every place that the settings name: a new kind of place is one file and one line here."""

from __future__ import annotations

from foreshock_service.notifiers.protocol import Notifier
from foreshock_service.notifiers.webhook import WebhookNotifier
from foreshock_service.settings import ServiceSettings


def build_notifiers(settings: ServiceSettings) -> dict[str, Notifier]:
    """The notifiers in force, by channel.

    Raises:
        ValueError: two have the same name, or one cannot be used as it is set.
    """
    notifiers: list[Notifier] = [
        WebhookNotifier(webhook, timeout_seconds=settings.webhook_timeout_seconds)
        for webhook in settings.webhooks
    ]
    by_channel = {notifier.channel: notifier for notifier in notifiers}
    if len(by_channel) != len(notifiers):
        names = sorted(notifier.channel for notifier in notifiers)
        raise ValueError(f"FORESHOCK_WEBHOOKS: each needs a name of its own, got {names}")
    return by_channel
