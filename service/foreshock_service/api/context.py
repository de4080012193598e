"""What a route works with: the settings, the store and the stages of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from foreshock_service.exposition.health import ServiceMetrics
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store
from foreshock_service.stream.hub import Hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One process's parts, made by its composition root and shared by every request."""

    settings: ServiceSettings
    store: Store
    ingest: Ingest
    hub: Hub
    metrics: ServiceMetrics
    clock: Callable[[], float] = field(default=time.time)
    stopped_stages: Callable[[], list[str]] = field(default=list)
    """Names of background stages that are not running; empty when all is well."""
    replays: threading.BoundedSemaphore = field(default_factory=threading.BoundedSemaphore)
    """Held by the one request that replays a run: it works for seconds, and others must go on."""


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


InContext = Annotated[Context, Depends(_context)]
"""Parameter type of a route that needs the process's parts."""
