"""More live streams than the service keeps open at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from foreshock_service import app
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store
from foreshock_service.stream.hub import Hub

from tests.factories import make_batch
from tests.fixtures.server import running, send

LIVE = "/api/v1/runs/run-1/live"
PLACES = 3
CROWD = 12


async def first_word(
    client: httpx.AsyncClient, settled: asyncio.Semaphore, go: asyncio.Event
) -> str:
    """The first message of a stream, which is held open until `go`; or the code of a refusal."""
    async with client.stream("GET", LIVE) as stream:
        if stream.status_code != httpx.codes.OK:
            await stream.aread()
            settled.release()
            return str(stream.json()["code"])
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                settled.release()
                await go.wait()
                return line
    return "cut off"


async def crowd(url: str) -> list[str]:
    """What each of a crowd hears that comes at once and stays until all have heard something."""
    settled, go = asyncio.Semaphore(0), asyncio.Event()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        heard = [asyncio.create_task(first_word(client, settled, go)) for _ in range(CROWD)]
        for _ in heard:
            await settled.acquire()
        go.set()
        return await asyncio.gather(*heard)


def test_the_streams_beyond_the_bound_are_refused_and_their_places_return(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd that comes at once fills exactly the places there are; the rest are told to come
    back and none is cut off. Once the crowd has gone, its places are free."""
    monkeypatch.setattr(app, "Hub", partial(Hub, max_waiters=PLACES))
    served = app.build_app(ServiceSettings(data_dir=tmp_path), sqlite_store)
    with running(served) as url, httpx.Client(base_url=url, trust_env=False) as client:
        send(client, make_batch())

        # In a thread of its own: a browser that another test drives has a loop in this one.
        with ThreadPoolExecutor(1) as pool:
            heard = pool.submit(asyncio.run, crowd(url)).result()

        assert sorted(heard) == ["busy"] * (CROWD - PLACES) + ['data: {"upto": 4}'] * PLACES
        # The server hears of a closed connection a moment later; the test's timeout bounds this.
        while served.state.context.hub.num_waiters:
            client.get("/healthz")
        with client.stream("GET", LIVE) as stream:
            assert stream.status_code == httpx.codes.OK
