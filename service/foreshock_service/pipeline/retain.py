"""Retention: full resolution ends after some days, or earlier when the disk budget is reached.

The finest tier goes first, a block a transaction. Scalars, the coarsest tier, findings and
incidents stay, so an old run can still be read at a glance.
"""

from __future__ import annotations

import logging

from foreshock_service.settings import ServiceSettings
from foreshock_service.store import usage
from foreshock_service.store.blocks import TIERS
from foreshock_service.store.session import Store

log = logging.getLogger(__name__)

BATCH = 256
"""Blocks looked up at a time."""

SECONDS_PER_DAY = 86_400.0


def retain_once(store: Store, settings: ServiceSettings, now: float) -> int:
    """Take the statistics of every block that is past its time or over the budget; returns how
    many blocks gave theirs."""
    before = now - settings.retention_days * SECONDS_PER_DAY
    with store.write() as session:
        usage.delete_attachments(session, received_before=before)
    taken = _expire(store, before)
    over = _over_budget(store, settings)
    for tier in (1, *TIERS[:-1]):
        if over <= 0:
            break
        count, freed = _free(store, tier, over)
        taken += count
        over -= freed
    if over > 0:
        log.warning(
            "the database is %d bytes over its budget with nothing left to take: raise "
            "FORESHOCK_DISK_BUDGET_BYTES or delete runs",
            over,
        )
    return taken


def _expire(store: Store, before: float) -> int:
    taken = 0
    while True:
        with store.read() as session:
            found = usage.oldest_blocks(session, tier=1, limit=BATCH, received_before=before)
        for item in found:
            with store.write() as session:
                usage.evict(session, item)
        taken += len(found)
        if len(found) < BATCH:
            return taken


def _over_budget(store: Store, settings: ServiceSettings) -> int:
    with store.read() as session:
        return usage.used_bytes(session) - settings.disk_budget_bytes


def _free(store: Store, tier: int, num_bytes: int) -> tuple[int, int]:
    """Evict the oldest blocks of a tier until `num_bytes` are free; how many, and the bytes."""
    count = freed = 0
    while freed < num_bytes:
        with store.read() as session:
            found = usage.oldest_blocks(session, tier=tier, limit=BATCH)
        if not found:
            break
        for item in found:
            if freed >= num_bytes:
                break
            with store.write() as session:
                usage.evict(session, item)
            count, freed = count + 1, freed + item.num_bytes
    return count, freed
