"""Series schemas: registered once, named by the hash of their content, never changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from foreshock.wire import SeriesSchema, schema_from_json
from sqlalchemy import select

from foreshock_service.errors import NotFound
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import series_schema
from foreshock_service.store.writing import insert_new

CACHE_SIZE: Final = 64
"""Parsed schemas kept; a run has one or a few, and parsing 65,536 series takes half a second."""

_cache: OrderedDict[str, SeriesSchema] = OrderedDict()
_cache_lock = threading.Lock()


def register(session: WriteSession, schema: SeriesSchema, *, now: float) -> str:
    """Store a schema and return its hash; registering it again changes nothing."""
    name = schema.hash
    insert_new(
        session,
        series_schema,
        [{"hash": name, "document": schema.to_json(), "created_at": now}],
    )
    return name


def registered(session: ReadSession, hashes: Iterable[str]) -> set[str]:
    """Those of `hashes` that this database knows."""
    query = select(series_schema.c.hash).where(series_schema.c.hash.in_(sorted(set(hashes))))
    return set(session.connection.scalars(query))


def load(session: ReadSession, name: str) -> SeriesSchema:
    """The schema of a hash, from memory when it was read before: its content cannot change.

    Raises:
        NotFound: it was never registered.
    """
    with _cache_lock:
        schema = _cache.get(name)
        if schema is not None:
            _cache.move_to_end(name)
            return schema
    query = select(series_schema.c.document).where(series_schema.c.hash == name)
    document = session.connection.scalar(query)
    if document is None:
        raise NotFound(f"no series schema has the hash {name!r}: register it at POST /schemas")
    schema = schema_from_json(document)
    with _cache_lock:
        _cache[name] = schema
        while len(_cache) > CACHE_SIZE:
            _cache.popitem(last=False)
    return schema
