"""Silences through HTTP: made, listed, ended, and refused with what to do instead."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from foreshock_service.pipeline.detect import Detection
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.audit import recent
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import create_token

from tests.detect.runs import drain, store_run
from tests.fixtures.server import ServeApp

SILENCES = "/api/v1/silences"
HOUR = 3600.0


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    """Ask for a silence of an hour."""
    return client.post(SILENCES, json={"ends_at": time.time() + HOUR, **fields})


def test_a_silence_is_made_listed_and_ended(client: httpx.Client, sqlite_store: Store) -> None:
    """It says who made it and why, and the audit trail has both lines."""
    made = ask(client, run="sick", kind="loss_*", reason="a known shard")

    assert made.status_code == 201
    silence = made.json()
    assert (silence["run"], silence["kind"], silence["group"]) == ("sick", "loss_*", None)
    assert (silence["created_by"], silence["reason"]) == ("local", "a known shard")
    assert client.get(SILENCES, params={"state": "live"}).json() == {"silences": [silence]}
    ended = client.delete(f"{SILENCES}/{silence['silence_id']}")
    assert ended.json()["state"] == "ended"
    assert client.get(SILENCES, params={"state": "live"}).json() == {"silences": []}
    assert client.get(SILENCES, params={"state": "ended"}).json()["silences"] == [ended.json()]
    with sqlite_store.read() as session:
        lines = [(line["actor"], line["action"], line["target"]) for line in recent(session)]
    assert lines == [("local", "silence.end", "1"), ("local", "silence.create", "1")]


def test_a_silence_can_begin_later(client: httpx.Client) -> None:
    """Until then it is pending, and stands apart from those in force."""
    later = ask(client, run="sick", starts_at=time.time() + HOUR / 2).json()

    assert later["state"] == "pending"
    assert client.get(SILENCES, params={"state": "pending"}).json()["silences"] == [later]
    assert client.get(SILENCES, params={"state": "live"}).json()["silences"] == []


def test_a_silence_is_ended_once(client: httpx.Client) -> None:
    """The second time is a conflict, and a number that was never given is not found."""
    number = ask(client, run="sick").json()["silence_id"]
    client.delete(f"{SILENCES}/{number}").raise_for_status()

    again, unknown = (
        client.delete(f"{SILENCES}/{number}"),
        client.delete(f"{SILENCES}/{number + 1}"),
    )

    assert (again.status_code, again.json()["code"]) == (409, "silence_ended")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({}, "at least one of project, run, kind, group"),
        ({"run": "x", "ends_at": 1.0}, "has passed"),
        ({"run": "x", "ends_at": 1e300}, "within 90 days"),
        ({"run": "x", "starts_at": 9e9}, "not after starts_at"),
        ({"run": "x", "ends_at": "NaN"}, "ends_at"),
        ({"run": "x", "ends_at": None}, "ends_at"),
        ({"run": ""}, "body.run"),
        ({"run": "x" * 300}, "body.run"),
        ({"run": "a\0b"}, "body.run"),
        ({"run": ["x"]}, "body.run"),
        ({"run": "\ud800"}, "body.run"),
        ({"kind": "x", "reason": "x" * 501}, "body.reason"),
        ({"runs": "x"}, "body.runs"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(
    client: httpx.Client, fields: dict[str, Any], word: str
) -> None:
    """Wrong types, times that cannot be, and a silence of everything; nothing is stored."""
    body = json.dumps({"ends_at": time.time() + HOUR, **fields})

    answer = client.post(SILENCES, content=body)

    assert answer.status_code == 422
    assert word in answer.json()["detail"]
    assert client.get(SILENCES).json() == {"silences": []}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b'{"ends_at": NaN}'])
def test_a_body_that_is_no_document_is_refused(client: httpx.Client, body: bytes) -> None:
    """Also one that is cut off or nested without end."""
    answer = client.post(SILENCES, content=body)

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"


def test_silencing_needs_a_token_that_may_read_and_an_own_page(
    serve_app: ServeApp, sqlite_store: Store
) -> None:
    """As acknowledging does: one that only sends is refused, and so is a foreign page."""
    with sqlite_store.write() as session:
        secrets = {
            scope: create_token(session, name=f"me-{scope}", scopes=[scope], now=0.0)
            for scope in ("read", "ingest")
        }
    client = serve_app(require_token=True)
    body = {"run": "sick", "ends_at": time.time() + HOUR}
    may = {"authorization": f"Bearer {secrets['read']}"}

    statuses = [
        client.post(SILENCES, json=body, headers=headers).status_code
        for headers in (
            {},
            {"authorization": f"Bearer {secrets['ingest']}"},
            {**may, "origin": "https://elsewhere.example"},
            {"cookie": f"foreshock_token={secrets['read']}"},
            may,
        )
    ]

    assert statuses == [401, 403, 403, 403, 201]
    assert client.get(SILENCES, headers=may).json()["silences"][0]["created_by"] == "me-read"


def test_an_incident_says_that_it_is_silenced(sqlite_store: Store, serve_app: ServeApp) -> None:
    """With the silence over it, and nothing once that has ended."""
    store_run(sqlite_store, "sick", nan_from=60, num_frames=80)
    drain(Detection(sqlite_store, ServiceSettings()))
    client = serve_app()
    incident = "/api/v1/runs/sick/incidents/1"
    assert client.get(incident).json()["silence"] is None
    silence = ask(client, kind="non_finite").json()

    listed = client.get("/api/v1/runs/sick/incidents").json()["incidents"]

    assert client.get(incident).json()["silence"] == silence
    assert [item["silence"] for item in listed] == [silence]
    assert client.post(f"{incident}/acknowledge").json()["silence"] == silence
    client.delete(f"{SILENCES}/{silence['silence_id']}").raise_for_status()
    assert client.get(incident).json()["silence"] is None
