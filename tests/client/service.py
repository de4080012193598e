"""A real HTTP server that answers as it is told, and keeps what it accepts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer


class LittleService:
    """Accepts batches like the service, after it has given `script`, one behaviour a request:
    a status, bytes to answer with instead of HTTP, or None to hang up."""

    def __init__(self, script: list[int | bytes | None]) -> None:
        self.script = script
        self.store = RecordingTransport()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer | bytes | None:
        """What to do with one request."""
        self.requests.append((path, headers))
        if self.script:
            behaviour = self.script.pop(0)
            if not isinstance(behaviour, int):
                return behaviour
            return Answer(status=behaviour, code="as_told", detail="as told")
        if headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompress(body)
        if path.endswith("/schemas"):
            return self.store.post_schema(body)
        return self.store.post_frames(body)


@contextmanager
def little_service(*script: int | bytes | None, port: int = 0) -> Iterator[LittleService]:
    """Serve on loopback while the block runs."""
    service = LittleService(list(script))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = service.answer(self.path, dict(self.headers), body)
            if not isinstance(answer, Answer):
                self.wfile.write(answer or b"")
                self.close_connection = True
                return
            proof = {"status": "stored", "seq": 0, "hash": ""} if answer.status == 200 else {}
            text = json.dumps({"code": answer.code, "detail": answer.detail, **proof}).encode()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
