"""The metrics page, read by promtool and by a Prometheus server."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from foreshock.wire import ClientCounters, Event
from foreshock_service.domain.runs import RunStatus
from foreshock_service.exposition.collector import ENDED_SECONDS
from foreshock_service.store import runs
from foreshock_service.store.session import Store

from tests.factories import make_batch
from tests.fixtures.server import send

NAN_LOSS = {"loss": float("nan"), "grad_norm": float("inf"), "lr": 1e-3}


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus server that scrapes `target` every second; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {"job_name": "foreshock", "static_configs": [{"targets": [target]}]}
                ],
            }
        )
    )
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """The samples of a query, asked again until there are some; the test's timeout bounds it."""
    while True:
        try:
            answer = httpx.get(f"{address}/api/v1/query", params={"query": query}, trust_env=False)
            samples: list[dict[str, Any]] = answer.json()["data"]["result"]
        except (httpx.TransportError, KeyError, ValueError):
            samples = []
        if samples:
            return samples
        time.sleep(0.2)


def finish(store: Store, run_id: str, *, at: float) -> None:
    """End a run at a given time."""
    with store.write() as session:
        runs.set_status(session, run_id, RunStatus.FINISHED, finished_at=at)


def test_the_page_is_what_promtool_calls_well_formed(client: httpx.Client) -> None:
    """Names, types, units and help texts follow the conventions."""
    send(client, make_batch(scalars=NAN_LOSS))

    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=client.get("/metrics").text,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_scrapes_a_nan_loss_and_a_finished_run(
    client: httpx.Client, sqlite_store: Store, tmp_path: Path
) -> None:
    """A loss that is NaN arrives as NaN; a run that just ended is there, yesterday's is not."""
    send(client, make_batch("sick", scalars=NAN_LOSS))
    for run_id in ("ended", "yesterday"):
        send(client, make_batch(run_id))
    finish(sqlite_store, "ended", at=time.time())
    finish(sqlite_store, "yesterday", at=time.time() - 86_400)

    with prometheus(tmp_path, client.base_url.netloc.decode()) as address:
        loss = ask(address, 'foreshock_run_loss{run="sick"}')
        norm = ask(address, 'foreshock_run_gradient_norm{run="sick"}')
        running = ask(address, "foreshock_run_running")
        up = ask(address, 'up{job="foreshock"}')

    assert loss[0]["value"][1] == "NaN"
    assert loss[0]["metric"]["project"] == "default"
    assert norm[0]["value"][1] == "+Inf"
    assert {item["metric"]["run"]: item["value"][1] for item in running} == {
        "sick": "1",
        "ended": "0",
    }
    assert up[0]["value"][1] == "1"


def test_a_run_vanishes_an_hour_after_its_end(client: httpx.Client, sqlite_store: Store) -> None:
    """And not a moment before."""
    for run_id in ("older", "newer"):
        send(client, make_batch(run_id))
    finish(sqlite_store, "older", at=time.time() - ENDED_SECONDS - 60)
    finish(sqlite_store, "newer", at=time.time() - ENDED_SECONDS + 60)

    page = client.get("/metrics").text

    assert 'run="newer"' in page
    assert 'run="older"' not in page


def test_the_clients_own_account_is_exported(client: httpx.Client) -> None:
    """Overhead as a share of training time, what was lost, and what was thinned."""
    counters = ClientCounters(
        frames_dropped=7,
        frames_thinned=64,
        batches_rejected=2,
        errors=3,
        bytes_sent=4096,
        overhead_seconds=1.0,
        background_seconds=0.5,
        training_seconds=50.0,
    )
    send(client, make_batch(counters=counters))

    page = client.get("/metrics").text

    assert 'foreshock_run_monitor_overhead_ratio{project="default",run="run-1"} 0.02' in page
    exported = {
        "frames_dropped": 7.0,
        "frames_thinned": 64.0,
        "batches_rejected": 2.0,
        "client_errors": 3.0,
        "sent_bytes": 4096.0,
        "monitor_seconds": 1.0,
        "monitor_background_seconds": 0.5,
        "training_seconds": 50.0,
    }
    for name, value in exported.items():
        assert f'foreshock_run_{name}_total{{project="default",run="run-1"}} {value}' in page


def test_labels_are_few_and_hostile_names_are_escaped(client: httpx.Client) -> None:
    """A project comes from the client, and may hold quotes and line ends."""
    project = 'a"b\\c\nd'
    started = Event(kind="started", wall_time=1.0, data={"name": "n", "project": project})
    send(client, make_batch(events=[started]))

    page = client.get("/metrics").text

    assert 'project="a\\"b\\\\c\\nd"' in page


def test_answered_batches_are_counted_by_outcome(client: httpx.Client) -> None:
    """Stored, duplicate and refused apart."""
    send(client, make_batch())
    send(client, make_batch())

    page = client.get("/metrics").text

    assert 'foreshock_ingest_batches_total{outcome="stored"} 1.0' in page
    assert 'foreshock_ingest_batches_total{outcome="duplicate"} 1.0' in page
    assert 'foreshock_deliveries{status="pending"} 0.0' in page
