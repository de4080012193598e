"""Addresses that are hostile in themselves, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from foreshock_service.app import build_app
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store

from tests.fixtures.server import running


@pytest.fixture
def client(store: Store, tmp_path: Path) -> Iterator[httpx.Client]:
    """A client of a server over each database in turn."""
    app = build_app(ServiceSettings(data_dir=tmp_path), store)
    with running(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/runs/%00", "/runs/a/incidents/1%00", "/api/v1/runs?project=%00", "/static/%00"]
)
def test_a_nul_in_an_address_is_refused(client: httpx.Client, path: str) -> None:
    """PostgreSQL fails on a text with a NUL, wherever it would be compared."""
    answer = client.get(path)

    assert answer.status_code == 400
    assert "NUL" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/%2e%2e/app.py",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static/..%5c..%5capp.py",
        "/static/" + "a" * 300,
        "/static/",
    ],
)
def test_no_address_leaves_the_folder_of_assets(client: httpx.Client, path: str) -> None:
    """However the way up is spelled."""
    assert client.get(path).status_code == 404
