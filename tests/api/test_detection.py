"""Sensitivity through HTTP: set for a project or a run, merged, and refused with the reason."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from foreshock_service.store.audit import recent
from foreshock_service.store.runs import delete_run
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import create_token

from tests.factories import make_batch
from tests.fixtures.server import ServeApp, send
from tests.store.writing import write

RUN, PROJECT = "/api/v1/runs/run-1/detection", "/api/v1/projects/default/detection"
DEFAULT = {"sensitivity": "normal", "disabled": [], "thresholds": {}}


@pytest.fixture
def known(client: httpx.Client) -> httpx.Client:
    """A client of a service that knows the run `run-1` of the project `default`."""
    send(client, make_batch())
    return client


def test_nothing_is_set_until_somebody_does(known: httpx.Client) -> None:
    """The defaults are in force, and the answer says that they are."""
    unset = {"document": None, "set_by": None, "set_at": None}
    assert known.get(PROJECT).json() == unset
    assert known.get(RUN).json() == {**unset, "effective": DEFAULT}


def test_a_run_goes_by_its_own_rule_then_by_its_projects(
    known: httpx.Client, sqlite_store: Store
) -> None:
    """Key by key and threshold by threshold; taking the run's away brings the project's back."""
    project = {"sensitivity": "low", "thresholds": {"loss": {"sigmas": 8, "window_rows": 64}}}
    known.put(PROJECT, json=project).raise_for_status()

    answer = known.put(RUN, json={"disabled": ["plateau"], "thresholds": {"loss": {"sigmas": 9}}})

    assert answer.json()["document"] == {
        "disabled": ["plateau"],
        "thresholds": {"loss": {"sigmas": 9}},
    }
    assert answer.json()["set_by"] == "local"
    assert answer.json()["effective"] == {
        "sensitivity": "low",
        "disabled": ["plateau"],
        "thresholds": {"loss": {"sigmas": 9, "window_rows": 64}},
    }
    taken = known.delete(RUN).json()
    assert taken["document"] is None
    assert taken["effective"] == {**DEFAULT, **project}
    assert known.delete(RUN).json() == taken
    assert known.delete(PROJECT).json()["document"] is None
    with sqlite_store.read() as session:
        lines = [(line["action"], line["target"]) for line in recent(session)]
    assert lines == [
        ("detection.reset", "project/default"),
        ("detection.reset", "run/run-1"),
        ("detection.set", "run/run-1"),
        ("detection.set", "project/default"),
    ]


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"sensitivity": "loud"}, "sensitivity must be one of low, normal, high, not 'loud'"),
        ({"sensitivity": ["low"]}, "sensitivity must be one of"),
        ({"disabled": ["spikes"]}, "no detector is called spikes"),
        ({"disabled": "loss"}, "disabled must be a list"),
        ({"thresholds": {"loss": {"sigma": 1}}}, "thresholds.loss: no threshold is called sigma"),
        ({"thresholds": {"loss": {"sigmas": True}}}, "sigmas must be a number"),
        ({"thresholds": {"loss": {"sigmas": 10**300}}}, "must lie between"),
        ({"thresholds": [1]}, "thresholds must hold a table"),
        ({"x" * 5000: 1}, "unknown key xxx"),
    ],
)
@pytest.mark.parametrize("path", [RUN, PROJECT])
def test_what_is_no_configuration_is_refused_with_the_reason(
    known: httpx.Client, path: str, document: dict[str, Any], sentence: str
) -> None:
    """And what was set before stays."""
    known.put(path, json={"sensitivity": "high"}).raise_for_status()
    before = known.get(path).json()

    answer = known.put(path, json=document)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_configuration")
    assert sentence in answer.json()["detail"]
    assert len(answer.json()["detail"]) <= 1000
    assert known.get(path).json() == before


@pytest.mark.parametrize("body", [b"", b"[]", b'{"sensitivity": NaN}', b'{"a":' * 99])
def test_a_body_that_is_no_document_is_refused(known: httpx.Client, body: bytes) -> None:
    """Cut off, no object, no JSON, or nested without end."""
    assert known.put(RUN, content=body).status_code == 400


def test_an_unknown_run_has_no_rule(known: httpx.Client) -> None:
    """A project may be told of before its first run; a run may not."""
    other = RUN.replace("run-1", "run-2")
    calls = [known.get(other), known.put(other, json={}), known.delete(other)]
    assert [call.status_code for call in calls] == [404, 404, 404]
    ahead = known.put("/api/v1/projects/to%20come%2Flater/detection", json={"sensitivity": "low"})
    assert ahead.json()["document"] == {"sensitivity": "low"}
    assert known.get("/api/v1/projects/to come/later/detection").json() == ahead.json()


@pytest.mark.parametrize(
    ("scope", "of_project", "of_run"), [("read", 403, 200), ("admin", 200, 200)]
)
def test_a_project_is_set_by_who_administers(
    serve_app: ServeApp, sqlite_store: Store, scope: str, of_project: int, of_run: int
) -> None:
    """It counts for everybody's runs; one run is set by whoever may silence it, by page and API."""
    write(sqlite_store, make_batch())
    with sqlite_store.write() as session:
        secret = create_token(session, name=scope, scopes=[scope], now=0.0)
    client = serve_app(require_token=True)
    client.headers["authorization"] = f"Bearer {secret}"

    assert [
        client.get(PROJECT).status_code,
        client.put(PROJECT, json={"sensitivity": "low"}).status_code,
        client.delete(PROJECT).status_code,
        client.put(RUN, json={"sensitivity": "low"}).status_code,
        client.delete(RUN).status_code,
    ] == [200, of_project, of_project, of_run, of_run]
    form = {"sensitivity": "low"}
    page = "/runs/run-1/sensitivity"
    assert client.post(page, data=form).status_code == 303
    assert client.post(f"{page}/project", data=form).status_code == (
        303 if of_project == 200 else of_project
    )


def test_a_deleted_run_takes_its_rule_with_it(known: httpx.Client, sqlite_store: Store) -> None:
    """Another run of that id starts from the defaults."""
    known.put(RUN, json={"sensitivity": "low"}).raise_for_status()
    with sqlite_store.write() as session:
        delete_run(session, "run-1")
    send(known, make_batch())
    assert known.get(RUN).json()["document"] is None
