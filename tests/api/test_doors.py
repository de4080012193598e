"""Batches in, runs out, and news while they come."""

from __future__ import annotations

import json

import httpx
import pytest
import zstandard
from foreshock.wire import CONTENT_TYPE, Event, encode_batch

from tests.factories import make_batch, make_schema
from tests.fixtures.server import ServeApp, send

BINARY = {"content-type": CONTENT_TYPE}


def test_a_batch_sent_twice_is_stored_once(client: httpx.Client) -> None:
    """The second answer says so, and names the same place."""
    message = zstandard.compress(encode_batch(make_batch()))
    headers = {**BINARY, "content-encoding": "zstd"}

    first = client.post("/api/v1/frames", content=message, headers=headers).json()
    second = client.post("/api/v1/frames", content=message, headers=headers).json()

    assert first == {"status": "stored", "seq": 0, "ord0": 0}
    assert second == {"status": "duplicate", "seq": 0, "ord0": 0}
    assert client.get("/api/v1/runs/run-1").json()["head"]["next_ord"] == 4


def test_an_unregistered_schema_is_a_conflict_with_its_own_code(client: httpx.Client) -> None:
    """A client registers it and sends again."""
    message = encode_batch(make_batch(schema=make_schema()))

    answer = client.post("/api/v1/frames", content=message, headers=BINARY)

    assert answer.status_code == 409
    assert answer.json()["code"] == "unknown_schema"


def test_a_run_tells_what_it_measures_and_what_happened(client: httpx.Client) -> None:
    """Head, attempts, schema and events in one answer; a NaN scalar is a word."""
    schema = make_schema(num_layers=2)
    note = Event(kind="note", wall_time=1.0, step=3, data={"text": "hello"})
    send(client, make_batch(schema=schema, scalars={"loss": float("nan")}, events=[note]), schema)

    run = client.get("/api/v1/runs/run-1").json()

    assert run["head"]["scalars"] == {"loss": "NaN"}
    assert run["schema_summary"]["num_by_kind"] == {"activation": 2, "gradient": 2, "weight": 2}
    assert len(run["attempts"]) == 1
    assert run["events"][-1]["data"] == {"text": "hello"}
    assert client.get("/api/v1/runs").json()["total"] == 1


def test_series_are_listed_in_table_order(client: httpx.Client) -> None:
    """The index of a series is its row."""
    schema = make_schema(num_layers=2)
    send(client, make_batch(schema=schema), schema)

    listed = client.get("/api/v1/runs/run-1/series").json()

    assert [item["index"] for item in listed["series"]] == list(range(6))
    assert [item["name"] for item in listed["series"]] == [item.name for item in schema.series]


def test_live_tells_where_the_frames_end_now_and_as_they_come(client: httpx.Client) -> None:
    """The first message is the present, the next follows a batch."""
    send(client, make_batch())
    heard = []

    with client.stream("GET", "/api/v1/runs/run-1/live") as stream:
        for line in stream.iter_lines():
            if not line.startswith("data:"):
                continue
            heard.append(json.loads(line.removeprefix("data:")))
            if len(heard) == 2:
                break
            send(client, make_batch(seq=1, first_step=4))

    assert heard == [{"upto": 4}, {"upto": 8}]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("DELETE", "/api/v1/runs", 405, "method_not_allowed"),
        ("GET", "/api/v1/frames", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/api/v1/runs/run-1/incidents/0", 422, "invalid_request"),
        ("GET", "/api/v1/runs/run-1/incidents/1", 404, "not_found"),
        ("POST", "/api/v1/runs/run-1/incidents/1/resolve", 404, "not_found"),
        ("GET", "/api/v1/runs/%2e%2e%2fx", 404, "not_found"),
    ],
)
def test_every_error_is_a_problem(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    """With a code for programs and a sentence for people."""
    answer = client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "code", "detail"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]


def test_a_service_with_all_its_stages_is_ready(serve_app: ServeApp) -> None:
    """The database answers and every thread runs."""
    client = serve_app()

    assert client.get("/readyz").text == "ok"
    assert client.get("/healthz").text == "ok"


def test_the_document_of_the_api_names_every_route(client: httpx.Client) -> None:
    """And needs nothing from elsewhere."""
    paths = client.get("/openapi.json").json()["paths"]

    for path in ("frames", "schemas", "runs", "runs/{run}", "runs/{run}/heatmap"):
        assert f"/api/v1/{path}" in paths


@pytest.mark.parametrize("path", ["/api/v1/schemas", "/api/v1/frames"])
def test_an_example_of_the_document_is_accepted(client: httpx.Client, path: str) -> None:
    """What the document shows may be posted as it stands."""
    operation = client.get("/openapi.json").json()["paths"][path]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert client.post(path, json=example).status_code == 200


@pytest.mark.parametrize(
    ("params", "total"),
    [({}, 3), ({"project": "a"}, 2), ({"project": "a", "limit": 1}, 2), ({"project": "none"}, 0)],
)
def test_the_total_counts_what_the_list_would_show(
    client: httpx.Client, params: dict[str, str | int], total: int
) -> None:
    """On all pages, and of the project that was asked for."""
    for run, project in (("one", "a"), ("two", "a"), ("three", "b")):
        started = Event(kind="started", wall_time=1.0, data={"name": run, "project": project})
        send(client, make_batch(run, events=[started]))

    assert client.get("/api/v1/runs", params=params).json()["total"] == total
