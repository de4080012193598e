"""An alert of the whole service, from posted frames to the receiver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
from foreshock.wire import STATISTICS

from tests.factories import make_batch, make_schema, make_stats
from tests.fixtures.server import send
from tests.notify.conftest import SECRET, StartReceiver, await_file


def test_the_link_of_an_alert_leads_to_the_port_that_was_free(
    tmp_path: Path, start_receiver: StartReceiver
) -> None:
    """With `--port 0` nobody knows the port before it is bound, and the link opens its page."""
    receiver = start_receiver("ok")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FORESHOCK_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "foreshock", "serve", "--port", "0", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**kept, "FORESHOCK_WEBHOOKS": json.dumps([{"url": receiver.url, "secret": SECRET}])},
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        schema = make_schema()
        stats = make_stats(80, len(schema.series))
        stats[60:, 1, STATISTICS.index("nan_count")] = 4096
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            send(client, make_batch("sick", schema=schema, stats=stats, num_frames=80), schema)
            await_file(receiver.folder / "received")
            link = receiver.received()[0]["message"]["url"]

            assert link == f"{url}runs/sick/incidents/1"
            assert client.get(link).status_code == 200
    finally:
        process.terminate()
        process.communicate()
