"""Tokens: asked for once the service listens beyond loopback, and scoped."""

from __future__ import annotations

import hashlib
import time

import httpx
import pytest
from foreshock_service.store.session import Store
from foreshock_service.store.tables import token
from foreshock_service.store.tokens import create_token, list_tokens, revoke_token
from sqlalchemy import select

from tests.factories import make_batch
from tests.fixtures.server import ServeApp
from tests.store.writing import write


@pytest.fixture
def guarded(serve_app: ServeApp) -> httpx.Client:
    """An application that listens beyond loopback."""
    return serve_app(host="0.0.0.0")


def make(store: Store, *scopes: str) -> str:
    with store.write() as session:
        return create_token(session, name="-".join(scopes), scopes=scopes, now=time.time())


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_without_a_token_nothing_is_told(guarded: httpx.Client) -> None:
    """The answer says how to get a token."""
    answer = guarded.get("/api/v1/runs")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "foreshock token create --scope read" in answer.json()["detail"]


@pytest.mark.parametrize("secret", ["wrong", "fsh_" + "a" * 43, "x" * 5000, "\xe4\xf6"])
def test_an_unknown_token_is_refused(guarded: httpx.Client, secret: str) -> None:
    """Whatever is sent as a token, the answer is 401."""
    headers = [(b"authorization", f"Bearer {secret}".encode("latin-1"))]

    assert guarded.get("/api/v1/runs", headers=headers).status_code == 401


def test_a_token_opens_its_scope_only(guarded: httpx.Client, sqlite_store: Store) -> None:
    """A training node's token cannot read, and a reader's cannot write."""
    ingest, read = make(sqlite_store, "ingest"), make(sqlite_store, "read")

    assert guarded.get("/api/v1/runs", headers=bearer(read)).status_code == 200
    assert guarded.get("/api/v1/runs", headers=bearer(ingest)).status_code == 403
    refused = guarded.post("/api/v1/schemas", json={}, headers=bearer(read))
    assert refused.status_code == 403
    assert refused.json()["code"] == "scope_missing"
    assert guarded.post("/api/v1/schemas", json={}, headers=bearer(ingest)).status_code == 400


def test_a_revoked_token_opens_nothing(guarded: httpx.Client, sqlite_store: Store) -> None:
    """Revoking works at once."""
    secret = make(sqlite_store, "admin")
    assert guarded.get("/api/v1/runs", headers=bearer(secret)).status_code == 200

    with sqlite_store.write() as session:
        assert revoke_token(session, list_tokens(session)[0].token_id, now=time.time())

    assert guarded.get("/api/v1/runs", headers=bearer(secret)).status_code == 401


def test_the_database_keeps_only_the_hash(store: Store) -> None:
    """Whoever copies the database cannot use its tokens."""
    secret = make(store, "admin")

    with store.read() as session:
        row = session.connection.execute(select(token)).one()

    assert row.hash == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in str(row)


def test_using_a_token_is_noted(guarded: httpx.Client, sqlite_store: Store) -> None:
    """An operator sees which tokens are in use before revoking one."""
    guarded.get("/api/v1/runs", headers=bearer(make(sqlite_store, "read")))

    with sqlite_store.read() as session:
        assert list_tokens(session)[0].last_used_at is not None


def test_health_and_metrics_need_no_token(guarded: httpx.Client) -> None:
    """Orchestrators and scrapers carry none."""
    for path in ("/healthz", "/readyz", "/metrics"):
        assert guarded.get(path).status_code == 200


def test_a_browser_logs_in_with_a_cookie_that_scripts_cannot_read(
    guarded: httpx.Client, sqlite_store: Store
) -> None:
    """The cookie is HttpOnly and SameSite=Strict, and opens what the token opens."""
    secret = make(sqlite_store, "read")

    answer = guarded.post(
        "/login", data={"token": secret, "next": "/runs/x?a=1"}, follow_redirects=False
    )

    assert answer.status_code == 303
    assert answer.headers["location"] == "/runs/x?a=1"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert guarded.get("/api/v1/runs").status_code == 200


def test_a_wrong_token_is_shown_the_form_again(guarded: httpx.Client) -> None:
    """And what was typed is not echoed."""
    answer = guarded.post("/login", data={"token": "<script>x"}, follow_redirects=False)

    assert answer.status_code == 401
    assert "<form" in answer.text
    assert "<script>x" not in answer.text


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/\tx", "", "x"]
)
def test_a_login_never_leads_elsewhere(
    guarded: httpx.Client, sqlite_store: Store, target: str
) -> None:
    """`next` comes from a link that anybody may have made."""
    answer = guarded.post(
        "/login",
        data={"token": make(sqlite_store, "read"), "next": target},
        follow_redirects=False,
    )

    assert answer.headers["location"] == "/"


def test_a_cookie_changes_nothing_without_our_own_origin(
    guarded: httpx.Client, sqlite_store: Store
) -> None:
    """A cookie travels by itself, so a change asks for proof of where it comes from."""
    guarded.post("/login", data={"token": make(sqlite_store, "admin")}, follow_redirects=False)

    without = guarded.post("/api/v1/schemas", json={})
    own = guarded.post(
        "/api/v1/schemas", json={}, headers={"origin": str(guarded.base_url).rstrip("/")}
    )

    assert without.status_code == 403
    assert without.json()["code"] == "foreign_origin"
    assert own.status_code == 400


def test_a_page_without_a_token_leads_to_the_login(guarded: httpx.Client) -> None:
    """A person sees a form, not a problem document, and comes back to where he wanted to go."""
    answer = guarded.get("/?q=1", headers={"accept": "text/html"}, follow_redirects=False)

    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2F%3Fq%3D1"


@pytest.mark.parametrize(("scope", "offered"), [("read", False), ("admin", True)])
def test_a_page_offers_what_its_reader_may_do(
    guarded: httpx.Client, sqlite_store: Store, scope: str, offered: bool
) -> None:
    """The sensitivity of a whole project is an administrator's; a reader is told what is set."""
    write(sqlite_store, make_batch("run-1"))
    page = guarded.get("/runs/run-1", headers=bearer(make(sqlite_store, scope)))

    assert page.status_code == 200
    assert 'action="/runs/run-1/sensitivity"' in page.text
    assert ('action="/runs/run-1/sensitivity/project"' in page.text) is offered
    assert "<b>Project default</b>" in page.text
