"""`foreshock doctor` against what a training may meet."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from foreshock.spool import Spool
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import create_token

from tests.commands.running import Ended, environment, foreshock
from tests.fixtures.server import ServeApp

SECRET = "fsh_a-secret-of-ours"


def doctor(tmp_path: Path, *arguments: str, **variables: str) -> Ended:
    """Run the doctor, with a spool of the test's own."""
    spool = {"FORESHOCK_SPOOL_DIR": str(tmp_path / "spool")}
    return foreshock("doctor", "--timeout", "2", *arguments, **spool, **variables)


def checks_of(tmp_path: Path, **variables: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit status, and the checks by name."""
    done = doctor(tmp_path, "--json", **variables)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    return done.returncode, {check["name"]: check for check in document["checks"]}


@contextlib.contextmanager
def other_server(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A real HTTP server that answers every GET alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def silent_port() -> Iterator[str]:
    """A port that accepts and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_service_that_takes_frames_is_fine(client: httpx.Client, tmp_path: Path) -> None:
    """Status 0, every line ok, and the service has stored nothing."""
    status, checks = checks_of(tmp_path, FORESHOCK_URL=str(client.base_url))
    assert (status, {check["status"] for check in checks.values()}) == (0, {"ok"})
    assert checks["service"]["found"].startswith("foreshock 0.1.0 at ")
    assert checks["token"]["found"] == "none is needed"
    assert checks["clock"]["found"] == "agrees with the service's"
    assert checks["reducer (cpu)"]["found"].startswith("cpu, ")
    assert client.get("/api/v1/runs").json()["total"] == 0
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    ("scopes", "status", "found"),
    [
        (["ingest"], 0, "accepted, with the scope ingest"),
        (["read"], 1, "may read, and this needs ingest"),
        (None, 1, "this token is unknown or was revoked"),
        ([], 1, "a token is needed"),
    ],
    ids=["ingest", "read only", "unknown", "none"],
)
def test_the_token_is_tried(
    scopes: list[str] | None,
    status: int,
    found: str,
    serve_app: ServeApp,
    sqlite_store: Store,
    tmp_path: Path,
) -> None:
    """Accepted, without the scope, unknown, missing: each is told apart, and none is shown."""
    url = str(serve_app(require_token=True).base_url)
    token = "" if scopes == [] else SECRET
    if scopes:
        with sqlite_store.write() as session:
            token = create_token(session, name="node", scopes=scopes, now=time.time())
    done = doctor(tmp_path, "--json", FORESHOCK_URL=url, FORESHOCK_TOKEN=token)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == status
    assert checks["service"]["status"] == "ok"
    assert found in checks["token"]["found"]
    if token:
        assert token not in done.stdout + done.stderr
        assert "token=(hidden) (FORESHOCK_TOKEN)" in checks["settings"]["found"]


def test_a_dead_port_is_told(tmp_path: Path) -> None:
    """Nobody listens: a problem, and what to start."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    status, checks = checks_of(tmp_path, FORESHOCK_URL=f"http://127.0.0.1:{port}")
    assert status == 1
    assert checks["service"]["found"] == f"nothing listens at 127.0.0.1:{port}"
    assert "foreshock serve" in checks["service"]["advice"]


def test_a_name_that_is_not_known_is_told(tmp_path: Path) -> None:
    """DNS, not the service, is at fault."""
    status, checks = checks_of(tmp_path, FORESHOCK_URL="http://foreshock.invalid:8712")
    assert status == 1
    assert checks["service"]["found"].startswith("the name foreshock.invalid is not known here")


def test_silence_is_told(tmp_path: Path) -> None:
    """A port that accepts and does not answer."""
    with silent_port() as place:
        status, checks = checks_of(tmp_path, FORESHOCK_URL=f"http://{place}")
    assert status == 1
    assert checks["service"]["found"] == f"{place} did not answer in 2 s"


def test_a_service_without_tls_is_told(client: httpx.Client, tmp_path: Path) -> None:
    """https:// to a plain port."""
    url = str(client.base_url).replace("http:", "https:")
    status, checks = checks_of(tmp_path, FORESHOCK_URL=url)
    assert status == 1
    assert "does not speak TLS" in checks["service"]["found"]


def test_another_server_is_told(tmp_path: Path) -> None:
    """A page that says 200 to everything is not a Foreshock service."""
    with other_server(200, b"<html>hello</html>") as url:
        status, checks = checks_of(tmp_path, FORESHOCK_URL=url)
    assert status == 1
    assert "is not a Foreshock service (HTTP 200)" in checks["service"]["found"]
    assert "token" not in checks


def test_a_redirect_is_told_with_its_target(tmp_path: Path) -> None:
    """The client does not follow one: the address to set is where it leads."""
    with other_server(308, b"", Location="https://foreshock.example/") as url:
        status, checks = checks_of(tmp_path, FORESHOCK_URL=url)
    assert status == 1
    assert "https://foreshock.example/" in checks["service"]["advice"]


def test_another_wire_format_is_told(tmp_path: Path) -> None:
    """A service of another version would refuse every batch."""
    body = json.dumps({"service": "foreshock", "version": "9", "format": 9}).encode()
    with other_server(200, body) as url:
        status, checks = checks_of(tmp_path, FORESHOCK_URL=url)
    assert status == 1
    assert "wire format 9" in checks["service"]["found"]


@pytest.mark.parametrize(("seconds", "word"), [(-3600, "ahead of"), (3600, "behind")])
def test_a_skewed_clock_is_a_warning(seconds: int, word: str, tmp_path: Path) -> None:
    """It loses nothing: status 0, and the line says by how much and what to do."""
    body = json.dumps({"service": "foreshock", "version": "0.1.0", "format": 1}).encode()
    date = formatdate(time.time() + seconds, usegmt=True)
    with other_server(200, body, Date=date) as url:
        status, checks = checks_of(tmp_path, FORESHOCK_URL=url)
    assert (status, checks["clock"]["status"]) == (0, "warning")
    assert f"s {word} the service" in checks["clock"]["found"]
    assert "NTP" in checks["clock"]["advice"]


def test_a_spool_that_cannot_be_written_is_a_problem(client: httpx.Client, tmp_path: Path) -> None:
    """`watch` would refuse to start."""
    (tmp_path / "spool").write_text("a file is in the way")
    status, checks = checks_of(tmp_path, FORESHOCK_URL=str(client.base_url))
    assert (status, checks["spool"]["status"]) == (1, "problem")
    assert "FORESHOCK_SPOOL_DIR" in checks["spool"]["advice"]


def test_what_waits_in_the_spool_is_counted(client: httpx.Client, tmp_path: Path) -> None:
    """Batches of living and of dead processes, and refused ones; all of them are left there."""
    root = tmp_path / "spool"
    alive, dead = (Spool(root / f"{name}.1.0", max_bytes=1 << 20) for name in ("alive", "dead"))
    for seq in range(3):
        dead.put(seq, 1, b"left behind")
    refused = dead.oldest()
    assert refused is not None
    dead.reject(refused)
    dead.close()
    alive.put(0, 1, b"on its way")
    before = sorted(root.rglob("*"))
    status, checks = checks_of(tmp_path, FORESHOCK_URL=str(client.base_url))
    alive.close()
    assert status == 0
    assert checks["waiting"]["found"] == "1 batches of 1 running processes"
    assert checks["orphans"]["found"] == "2 batches of 1 processes that have ended"
    assert "foreshock flush" in checks["orphans"]["advice"]
    assert checks["rejected"]["found"].startswith("1 batches that the service refused")
    assert sorted(root.rglob("*")) == before


def test_a_spool_without_room_is_a_warning(client: httpx.Client, tmp_path: Path) -> None:
    """Less is free than the spool may take."""
    bound = str(1 << 60)
    status, checks = checks_of(
        tmp_path, FORESHOCK_URL=str(client.base_url), FORESHOCK_SPOOL_MAX_BYTES=bound
    )
    assert (status, checks["spool"]["status"]) == (0, "warning")


def test_changed_settings_are_told_with_their_source(tmp_path: Path) -> None:
    """A password in the URL is not shown; a mistyped variable is guessed; the rest is silent."""
    done = doctor(
        tmp_path,
        "--url",
        "http://me:hunter2@127.0.0.1:9",
        FORESHOCK_GRADIENT_EVERY="2",
        FORESHOCK_ACTIVATON_EVERY="8",
        FORESHOCK_MAX_BODY_BYTES="1",
        RANK="0",
    )
    assert "url=http://127.0.0.1:9 (argument)" in done.stdout
    assert "gradient_every=2 (FORESHOCK_GRADIENT_EVERY)" in done.stdout
    assert "FORESHOCK_ACTIVATON_EVERY is not a setting" in done.stdout
    assert "did you mean FORESHOCK_ACTIVATION_EVERY?" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert "rank=" not in done.stdout
    assert "MAX_BODY" not in done.stdout


def test_a_client_that_is_switched_off_is_a_problem(client: httpx.Client, tmp_path: Path) -> None:
    """Nothing would be measured at all."""
    status, _ = checks_of(tmp_path, FORESHOCK_URL=str(client.base_url), FORESHOCK_ENABLED="no")
    assert status == 1


def test_a_setting_that_cannot_be_used_is_wrong_usage(tmp_path: Path) -> None:
    """Status 2, one line, no traceback, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "foreshock", "doctor"],
        capture_output=True,
        text=True,
        env=environment(FORESHOCK_RANK="one", FORESHOCK_SPOOL_DIR=str(tmp_path / "spool")),
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("foreshock doctor: FORESHOCK_RANK='one'")
