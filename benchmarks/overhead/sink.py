"""A service that only keeps what it is sent: `python -m benchmarks.overhead.sink`.

A process of its own, so that what a service does is not charged to the training.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard
from foreshock.testing import RecordingTransport

Captured = dict[str, dict[str, int]]
"""Of each run the number of `frames`, and of each kind the number of series-steps with values."""


def captured(store: RecordingTransport) -> Captured:
    """Count what was received; a series counts on a step where it had elements."""
    counts: Captured = {}
    for batch in store.batches:
        run = counts.setdefault(batch.origin.run, {"frames": 0})
        run["frames"] += len(batch.steps)
        if batch.schema is None:
            continue
        schema = store.schemas[batch.schema]
        elements = schema.statistics.index("count")
        for row, series in enumerate(schema.series):
            measured = int((batch.stats[:, row, elements] > 0).sum())
            run[series.kind] = run.get(series.kind, 0) + measured
    return counts


class _Sink(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = RecordingTransport()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompress(body)
        store = self.server.store
        is_schema = self.path.endswith("/schemas")
        answer = store.post_schema(body) if is_schema else store.post_frames(body)
        self._answer(answer.status, {"code": answer.code, "seq": 0, "hash": ""})

    def do_GET(self) -> None:
        self._answer(200, captured(self.server.store))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, document: Any) -> None:
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def sink() -> Iterator[str]:
    """The address of a sink that runs while the block does."""
    command = [sys.executable, "-m", "benchmarks.overhead.sink"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def captured_at(url: str) -> Captured:
    """What the sink at `url` has received."""
    with urllib.request.urlopen(url) as response:
        counts: Captured = json.load(response)
    return counts


def main() -> None:
    """Say the address on the first line, then serve until terminated."""
    server = _Sink()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
