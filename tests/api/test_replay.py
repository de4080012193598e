"""A run replayed through HTTP under a configuration that is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from foreshock_service.app import build_app
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store

from tests.detect.runs import store_run
from tests.factories import make_batch
from tests.fixtures.server import ServeApp, running, send

PATH = "/api/v1/runs/run-1/replay"


def test_an_incident_that_a_configuration_loses_is_told(
    sqlite_store: Store, serve_app: ServeApp
) -> None:
    """With how often the run alerts before and after."""
    store_run(sqlite_store, "run-1", num_frames=80, nan_from=60)

    answer = serve_app().post(PATH, json={"disabled": ["non_finite"]}).json()

    assert (answer["num_steps"], answer["num_frames"], answer["num_unread"]) == (80, 80, 0)
    assert answer["before"] == {"num_alerts": 1, "alerts_per_1000": 12.5}
    assert answer["num_lost"] + answer["num_changed"] == 1
    assert "non_finite" in answer["sentences"][0]


def test_the_default_changes_nothing(sqlite_store: Store, serve_app: ServeApp) -> None:
    """An empty configuration is the default."""
    store_run(sqlite_store, "run-1", num_frames=80, nan_from=60)

    answer = serve_app().post(PATH, json={}).json()

    assert answer["before"] == answer["after"]
    assert answer["sentences"] == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"[" * 5000, 400, "nested deeper"),
        (b'{"colour": 1}', 422, "unknown key colour"),
        (b'{"disabled": ["noise"]}', 422, "no detector is called noise"),
        (b'{"thresholds": {"loss": {"sigmas": "many"}}}', 422, "thresholds.loss"),
        (b'{"sensitivity": NaN}', 400, "NaN is not a JSON number"),
        (b" " * 70_000, 413, "no configuration is"),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    client: httpx.Client, body: bytes, status: int, message: str
) -> None:
    """With a problem that says what is wrong in it."""
    send(client, make_batch())

    answer = client.post(PATH, content=body, headers={"content-type": "application/json"})

    document: dict[str, Any] = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert message in document["detail"]


def test_an_unknown_run_is_not_found_and_lets_the_next_one_in(client: httpx.Client) -> None:
    """A replay that fails gives its place back."""
    send(client, make_batch())

    assert client.post("/api/v1/runs/absent/replay", json={}).status_code == 404
    assert client.post(PATH, json={}).status_code == 200


def test_one_replay_runs_at_a_time(sqlite_store: Store, tmp_path: Path) -> None:
    """Another is told to come back."""
    app = build_app(ServiceSettings(data_dir=tmp_path), sqlite_store)
    with running(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        send(client, make_batch())
        with app.state.context.replays:
            assert client.post(PATH, json={}).status_code == 429


def test_it_needs_the_scope_to_read(serve_app: ServeApp) -> None:
    """Like every look at a run."""
    assert serve_app(require_token=True).post(PATH, json={}).status_code == 401
