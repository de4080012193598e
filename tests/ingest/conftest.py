"""An ingest stage with its writer thread running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from foreshock.wire import SeriesSchema
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import schemas
from foreshock_service.store.session import Store

from tests.factories import make_schema


@pytest.fixture
def ingest(store: Store) -> Iterator[Ingest]:
    """Ingest into the store of the test."""
    stage = Ingest(store, ServiceSettings())
    stage.start()
    yield stage
    stage.stop()


@pytest.fixture
def schema(store: Store) -> SeriesSchema:
    """A schema of twelve series, registered."""
    made = make_schema()
    with store.write() as session:
        schemas.register(session, made, now=0.0)
    return made
