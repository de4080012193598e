"""The composition root of a server process: builds its parts, wires them, starts and ends them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool

from foreshock_service import __version__
from foreshock_service.api import (
    clipping,
    detection,
    frames,
    health,
    incidents,
    live,
    login,
    metrics,
    replay,
    runs,
    silences,
    windows,
)
from foreshock_service.api.access import holds, require
from foreshock_service.api.context import Context
from foreshock_service.api.forms import read_form
from foreshock_service.api.problems import install_problems
from foreshock_service.api.security import BrowserGuard
from foreshock_service.exposition.health import ServiceMetrics
from foreshock_service.notifiers.registry import build_notifiers
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.pipeline.compare import Compare
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.pipeline.notify import Notify
from foreshock_service.pipeline.retain import retain_once
from foreshock_service.pipeline.unsilence import unsilence_once
from foreshock_service.pipeline.watchdog import Watchdog
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.schema import check_current, upgrade
from foreshock_service.store.session import Store
from foreshock_service.stream.hub import Hub
from foreshock_service.web import pages
from foreshock_service.worker import Stage, Worker

COMPACT_INTERVAL_SECONDS: Final = 2.0
RETAIN_INTERVAL_SECONDS: Final = 60.0
COMPARE_INTERVAL_SECONDS: Final = 1.0
NOTIFY_INTERVAL_SECONDS: Final = 1.0
WATCHDOG_INTERVAL_SECONDS: Final = 5.0
_OPENING: Final = ("detect", "compare", "watchdog")
"""Stages whose work a page that is open wants to see at once."""


def build_app(settings: ServiceSettings, store: Store | None = None) -> FastAPI:
    """The server as an ASGI application; its lifespan owns every thread and connection.

    `store` is for whoever has one open already, and closes it himself; without it the database of
    `settings` is opened, and migrated first when it is SQLite.

    Raises:
        ValueError: a webhook cannot be used as it is set.
    """
    notifiers = build_notifiers(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = store if store is not None else await run_in_threadpool(open_store, settings)
        hub = Hub()
        ingest = Ingest(opened, settings, on_commit=lambda run, _upto: hub.publish(run))
        detecting = Detection(opened, settings)
        compare = Compare(opened, settings, owner=detecting.owner)
        watchdog = Watchdog(opened, settings)
        notify = Notify(opened, settings, notifiers)
        worker = Worker(
            [
                Stage(
                    name="detect",
                    run_once=detecting.run_once,
                    interval_seconds=settings.detect_interval_seconds,
                ),
                Stage(
                    name="compare",
                    run_once=compare.run_once,
                    interval_seconds=COMPARE_INTERVAL_SECONDS,
                ),
                Stage(
                    name="watchdog",
                    run_once=watchdog.run_once,
                    interval_seconds=WATCHDOG_INTERVAL_SECONDS,
                ),
                Stage(
                    name="compact",
                    run_once=lambda: compact_once(opened),
                    interval_seconds=COMPACT_INTERVAL_SECONDS,
                ),
                Stage(
                    name="retain",
                    run_once=lambda: retain_once(opened, settings, time.time()),
                    interval_seconds=RETAIN_INTERVAL_SECONDS,
                ),
                Stage(
                    name="unsilence",
                    run_once=lambda: unsilence_once(opened, settings, time.time()),
                    interval_seconds=NOTIFY_INTERVAL_SECONDS,
                ),
                Stage(
                    name="notify",
                    run_once=notify.run_once,
                    interval_seconds=NOTIFY_INTERVAL_SECONDS,
                ),
            ],
            on_work=lambda stage: hub.publish_all() if stage in _OPENING else None,
        )
        app.state.context = Context(
            settings=settings,
            store=opened,
            ingest=ingest,
            hub=hub,
            metrics=ServiceMetrics(opened, queue_length=lambda: ingest.queue_depth),
            stopped_stages=worker.stopped_stages,
        )
        ingest.start()
        worker.start()
        try:
            yield
        finally:
            hub.close()
            await run_in_threadpool(worker.stop)
            await run_in_threadpool(ingest.stop)
            if store is None:
                opened.close()

    app = FastAPI(
        title="Foreshock",
        version=__version__,
        summary="Training-stability monitor: the first layer that went wrong, before the loss.",
        # The documentation pages of FastAPI load scripts from a CDN; /openapi.json needs none.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    install_problems(app)
    app.add_middleware(BrowserGuard, settings=settings)
    api = APIRouter(prefix="/api/v1")
    for part in (frames, runs, windows, clipping, replay, incidents, silences, detection, live):
        api.include_router(part.router)
    app.include_router(api)
    for part in (health, login, metrics):
        app.include_router(part.router)
    app.include_router(pages.assets)
    app.include_router(
        pages.build_router(require("read"), require("admin"), holds("admin"), read_form)
    )
    return app


def open_store(settings: ServiceSettings) -> Store:
    """The database in force, at the revision that this version needs.

    SQLite belongs to this process and is migrated on the way; PostgreSQL may serve others, so it
    is only checked.

    Raises:
        SchemaMismatch: a PostgreSQL database needs `foreshock migrate`.
        OSError: the data folder cannot be made.
    """
    url = settings.url()
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store(url)
    try:
        if store.dialect == "sqlite":
            upgrade(url)
        check_current(store)
    except BaseException:
        store.close()
        raise
    return store
