"""`foreshock scan --import`: what is scanned here arrives at a service, and is judged there."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import create_token

from tests.commands.running import environment
from tests.fixtures.server import ServeApp
from tests.scan.logs import BROKEN_AT, csv_of
from tests.scan.running import COMMAND, scan
from tests.scan.test_traces import write_pair


def runs(client: httpx.Client) -> dict[str, dict[str, Any]]:
    """The service's runs by name."""
    return {run["name"]: run for run in client.get("/api/v1/runs").json()["runs"]}


def incidents(client: httpx.Client, run_id: str) -> list[dict[str, Any]]:
    """The run's incidents, as soon as there are any."""
    deadline = time.monotonic() + 60
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.05)
        found = client.get(f"/api/v1/runs/{run_id}/incidents").json()["incidents"]
    return found


def test_a_scanned_run_is_judged_again_by_the_service(client: httpx.Client, tmp_path: Path) -> None:
    """Under its name, with the same incident, and as a run that has ended."""
    (tmp_path / "sick.csv").write_text(csv_of(sick=True))

    done = scan(tmp_path, "--import", str(client.base_url), "--jsonl", tmp_path / "told.jsonl")

    run = runs(client)["sick"]
    (incident,) = incidents(client, run["run_id"])
    assert done.status == 1
    assert (run["status"], run["project"]) == ("finished", "imported")
    assert (incident["kind"], incident["onset_step"]) == ("non_finite", 10 * BROKEN_AT)
    assert incident["sentence"] == done.told[0]["sentence"]


def test_importing_twice_stores_once(client: httpx.Client, tmp_path: Path) -> None:
    """Ids and numbers come of the content, with restarts and statistics as well."""
    (tmp_path / "resumed.csv").write_text("step,loss\n1,3\n2,2\n3,1\n2,2.1\n3,1.1\n")
    write_pair(tmp_path, "trace")

    first = scan(tmp_path, "--import", str(client.base_url))
    before = runs(client)
    second = scan(tmp_path, "--import", str(client.base_url))

    assert (first.status, second.status) == (1, 1)
    assert set(before) == {"resumed", "trace"}
    assert client.get("/api/v1/runs").json()["total"] == 2
    for name, num_attempts, num_frames in (("resumed", 2, 5), ("trace", 2, 3)):
        run = client.get(f"/api/v1/runs/{before[name]['run_id']}").json()
        assert len(run["attempts"]) == num_attempts
        assert run["head"]["next_ord"] == num_frames


def test_an_interrupted_import_leaves_no_run_that_looks_alive(
    client: httpx.Client, tmp_path: Path
) -> None:
    """It has ended as far as it came, and the same files sent again bring the rest."""
    num_rows = 6000
    (tmp_path / "long.csv").write_text("loss\n" + "1\n2\n" * (num_rows // 2))
    arguments = [str(tmp_path), "--import", str(client.base_url)]
    process = subprocess.Popen([*COMMAND, *arguments], env=environment())
    while "long" not in runs(client):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 130
    assert runs(client)["long"]["status"] == "finished"

    assert scan(*arguments).status != 2
    run = client.get(f"/api/v1/runs/{runs(client)['long']['run_id']}").json()
    assert (run["status"], run["head"]["next_ord"]) == ("finished", num_rows)


def test_a_run_that_is_refused_midway_has_ended(client: httpx.Client, tmp_path: Path) -> None:
    """The rows before it stand."""
    wide = json.dumps({"loss": 1.0, **{f"metric_{i}": 1.0 for i in range(2000)}})
    (tmp_path / "wide.jsonl").write_text('{"loss": 1.0}\n' * 600 + f"{wide}\n")

    done = scan(tmp_path, "--import", str(client.base_url))

    assert (done.status, runs(client)["wide"]["status"]) == (2, "finished")


@pytest.mark.parametrize(
    ("scopes", "status", "word"),
    [([], 2, "FORESHOCK_TOKEN"), (["read"], 2, "FORESHOCK_TOKEN"), (["ingest"], 0, "")],
    ids=["none", "one that only reads", "one that sends"],
)
def test_the_token_is_taken_from_the_environment(
    serve_app: ServeApp,
    sqlite_store: Store,
    tmp_path: Path,
    scopes: list[str],
    status: int,
    word: str,
) -> None:
    """Without the scope it is refused before anything is scanned."""
    client = serve_app(require_token=True)
    (tmp_path / "log.csv").write_text("loss\n1\n")
    variables = {}
    if scopes:
        with sqlite_store.write() as session:
            secret = create_token(session, name="scan", scopes=scopes, now=0.0)
        variables["FORESHOCK_TOKEN"] = secret

    done = scan(tmp_path, "--import", str(client.base_url), variables=variables)

    assert done.status == status
    assert word in "".join(done.errors)
    assert bool(done.lines) == (status == 0)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://host"])
def test_an_address_where_nothing_answers_is_told(tmp_path: Path, url: str) -> None:
    """In one line, before anything is scanned."""
    (tmp_path / "log.csv").write_text("loss\n1\n")

    done = scan(tmp_path, "--import", url)

    assert (done.status, done.lines) == (2, [])
    assert len(done.errors) == 1
    assert url in done.errors[0]


def test_another_server_is_no_service(serve_app: ServeApp, tmp_path: Path) -> None:
    """A page that answers anything with 200 gets nothing."""
    client = serve_app()
    (tmp_path / "log.csv").write_text("loss\n1\n")

    done = scan(tmp_path, "--import", f"{client.base_url}/healthz?")

    assert done.status == 2
    assert runs(client) == {}
