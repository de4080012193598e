"""`foreshock serve` as a process that can be killed, and a webhook receiver that checks signatures.

Both are the real thing: the command that users run, and the verifier of the Standard Webhooks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_bWFpbi1qb2ItcmVjZWl2ZXItc2VjcmV0LWtleQ=="
READY_SECONDS = 60.0


class KillableService:
    """The embedded service on one port and one data folder, started as often as needed."""

    def __init__(self, data_dir: Path, *, port: int, webhook_url: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = data_dir / "service.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FORESHOCK_")}
        webhook = {"name": "pager", "url": webhook_url, "secret": SECRET}
        self._env = {
            **inherited,
            "FORESHOCK_PORT": str(port),
            "FORESHOCK_DATA_DIR": str(data_dir),
            "FORESHOCK_WEBHOOKS": json.dumps([webhook]),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it says that it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "foreshock", "serve"],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"the service did not come up:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL: the service gets no chance to put anything in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Receiver:
    """What arrived at the webhook: the id and the verified message of every delivery."""

    def __init__(self) -> None:
        self.url = ""
        self.deliveries: list[tuple[str, dict[str, Any]]] = []
        self.refused: list[str] = []

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Verify and keep one delivery; the status to answer with."""
        try:
            message = Webhook(SECRET).verify(body, headers)
        except WebhookVerificationError as error:
            self.refused.append(repr(error))
            return 400
        self.deliveries.append((headers["webhook-id"], message))
        return 204

    def opened(self) -> list[tuple[str, dict[str, Any]]]:
        """The deliveries that tell of an incident that opened."""
        return [item for item in self.deliveries if item[1]["type"] == "incident.opened"]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Take webhooks on a free port of loopback while the block runs."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.take(body, {k.lower(): v for k, v in self.headers.items()})
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
