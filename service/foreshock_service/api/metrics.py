"""The page that Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from foreshock_service.api.context import InContext
from foreshock_service.exposition.collector import RunCollector

router = APIRouter(tags=["health"])


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def get_metrics(context: InContext) -> Response:
    """Every metric in the text format, without a token, as scrapers expect.

    Runs are read anew at each scrape, so one that ended leaves no stale sample behind.
    """
    registry = CollectorRegistry()
    registry.register(RunCollector(context.store, clock=context.clock))
    text = generate_latest(context.metrics.registry) + generate_latest(registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
