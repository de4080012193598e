"""A real incident through HTTP: found by detection, told live, acknowledged and resolved."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from foreshock.wire import STATISTICS
from foreshock_service.api.codes import decode_deviation
from foreshock_service.api.envelope import unpack
from foreshock_service.pipeline.detect import Detection
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.audit import recent
from foreshock_service.store.session import Store

from tests.detect.runs import drain, store_run
from tests.factories import make_batch, make_schema, make_stats
from tests.fixtures.server import ServeApp, send

INCIDENT = "/api/v1/runs/sick/incidents/1"
GROWING_FROM = 400


@pytest.fixture
def sick(sqlite_store: Store, serve_app: ServeApp) -> httpx.Client:
    """A client of a service whose run `sick` has one open incident."""
    store_run(sqlite_store, "sick", nan_from=60, num_frames=80)
    drain(Detection(sqlite_store, ServiceSettings()))
    return serve_app()


def news(response: httpx.Response) -> Iterator[dict[str, int]]:
    """The messages of a live stream."""
    for line in response.iter_lines():
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def test_an_acknowledged_incident_stays_open_and_names_who_saw_it(
    sick: httpx.Client, sqlite_store: Store
) -> None:
    """The answer is the incident at its next version, and the audit trail has a line."""
    before = sick.get(INCIDENT).json()

    answer = sick.post(f"{INCIDENT}/acknowledge")

    assert answer.status_code == 200
    assert answer.json() == sick.get(INCIDENT).json()
    assert (before["acknowledged_by"], answer.json()["acknowledged_by"]) == (None, "local")
    assert answer.json()["state"] == "open"
    assert answer.json()["version"] == before["version"] + 1
    with sqlite_store.read() as session:
        (line,) = recent(session)
    assert (line["actor"], line["action"]) == ("local", "incident.acknowledge")
    assert line["target"] == "sick/1"


def test_a_resolved_incident_is_closed_once(sick: httpx.Client) -> None:
    """What comes after is a conflict that changes nothing."""
    answer = sick.post(f"{INCIDENT}/resolve")

    assert answer.status_code == 200
    assert answer.json()["state"] == "resolved"
    for action in ("resolve", "acknowledge"):
        again = sick.post(f"{INCIDENT}/{action}")
        assert again.status_code == 409
        assert again.json()["code"] == "incident_changed"
    assert sick.get(INCIDENT).json() == answer.json()
    assert sick.get("/api/v1/runs/sick/incidents?state=open").json() == {"incidents": []}


def test_live_tells_that_an_incident_changed(sick: httpx.Client) -> None:
    """By its number; the page fetches the rest."""
    with sick.stream("GET", "/api/v1/runs/sick/live") as stream:
        heard = news(stream)
        assert next(heard) == {"upto": 80}
        sick.post(f"{INCIDENT}/acknowledge").raise_for_status()
        assert next(heard) == {"incident": 1}


def test_live_tells_of_an_incident_that_detection_opens(client: httpx.Client) -> None:
    """While a page watches, frames come, and then the incident that they are."""
    schema = make_schema()
    stats = make_stats(80, len(schema.series))
    stats[60:, 1, STATISTICS.index("nan_count")] = 4096
    send(client, make_batch("watched", schema=schema, stats=stats[:40], num_frames=40), schema)

    with client.stream("GET", "/api/v1/runs/watched/live") as stream:
        heard = news(stream)
        assert next(heard) == {"upto": 40}
        rest = make_batch(
            "watched", seq=1, first_step=40, schema=schema, stats=stats[40:], num_frames=40
        )
        send(client, rest)
        assert next(heard) == {"upto": 80}
        assert next(heard) == {"incident": 1}


def test_the_deviation_heatmap_shows_how_far_a_series_left_its_own_normal(
    sqlite_store: Store, serve_app: ServeApp
) -> None:
    """Against the baseline that detection learned: the sick series is decades off, the others
    are where they were."""
    store_run(sqlite_store, "grown", num_frames=GROWING_FROM + 40, grow_from=GROWING_FROM)
    drain(Detection(sqlite_store, ServiceSettings()))

    answer = serve_app().get(
        "/api/v1/runs/grown/heatmap", params={"kind": "activation", "mode": "deviation"}
    )

    header, arrays = unpack(answer.content)
    decades = decode_deviation(arrays["codes"])
    last = int(np.flatnonzero(arrays["steps"] >= 0)[-1])
    assert header["mode"] == "deviation"
    # Doubled every 10 steps, 39 steps long.
    assert decades[1, last] == pytest.approx(3.9 * np.log10(2), abs=0.1)
    assert np.nanmax(np.abs(decades[[0, 2, 3]])) < 0.2
