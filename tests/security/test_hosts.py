"""A page in a browser on the same machine must not reach a service that listens on loopback."""

from __future__ import annotations

import httpx
import pytest

from tests.fixtures.server import ServeApp


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8712", "127.0.0.1:8712", "[::1]:8712", "127.0.0.1"]
)
def test_loopback_names_are_answered(client: httpx.Client, host: str) -> None:
    """The names under which people reach a local service work, with any port."""
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8712", "127.0.0.1.evil.example", "", "localhost.", "[::"]
)
def test_a_rebound_name_is_refused(client: httpx.Client, host: str) -> None:
    """A name that an attacker points at 127.0.0.1 arrives in the Host header, and is no name of
    ours."""
    answer = client.get("/api/v1/runs", headers={"host": host})

    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unknown_host"


def test_an_allowed_host_is_answered(serve_app: ServeApp) -> None:
    """`allowed_hosts` and `public_url` add names, for a service behind a proxy."""
    client = serve_app(
        allowed_hosts=["watch.example:443"], public_url="https://foreshock.example/base"
    )

    assert client.get("/healthz", headers={"host": "watch.example"}).status_code == 200
    assert client.get("/healthz", headers={"host": "foreshock.example"}).status_code == 200
    assert client.get("/healthz", headers={"host": "other.example"}).status_code == 403


def test_bound_to_every_address_a_bare_address_is_answered_and_a_name_is_not(
    serve_app: ServeApp,
) -> None:
    """Rebinding needs a name, so any address is safe where we cannot know our own."""
    client = serve_app(host="0.0.0.0")

    assert client.get("/healthz", headers={"host": "10.1.2.3:8712"}).status_code == 200
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "://"])
def test_a_change_from_another_page_is_refused(client: httpx.Client, origin: str) -> None:
    """Without tokens too: a foreign page can post a form to loopback, but not hide its Origin."""
    answer = client.post(
        "/api/v1/schemas", content="{}", headers={"origin": origin, "content-type": "text/plain"}
    )

    assert answer.status_code == 403
    assert answer.json()["code"] == "foreign_origin"


def test_a_change_from_our_own_page_passes_the_guard(client: httpx.Client) -> None:
    """The service's own pages send an Origin that is the Host."""
    answer = client.post(
        "/api/v1/schemas", json={"series": []}, headers={"origin": str(client.base_url).rstrip("/")}
    )

    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_message"


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/api/v1/runs", "/login"])
def test_every_answer_binds_the_browser(client: httpx.Client, path: str) -> None:
    """Policy headers are on every answer, errors too."""
    headers = client.get(path).headers

    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
