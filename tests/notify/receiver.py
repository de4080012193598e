"""A webhook receiver as its own process: verifies, remembers on disk, and misbehaves on demand.

    python -m tests.notify.receiver FOLDER SECRET MODE [PORT]

Modes: `ok`; `fail` answers 503; `refuse` answers 410; `redirect` answers 302 to /elsewhere; `hang`
takes the message and never answers; `drip` sends headers a byte at a time. The port is written to
FOLDER/port, each request as one JSON line to FOLDER/received.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks import Webhook

STATUS = {"ok": 204, "fail": 503, "refuse": 410, "redirect": 302}


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    verifier: Webhook
    mode: str

    def do_POST(self) -> None:
        """Verify the message, write it down, and answer as the mode says."""
        body = self.rfile.read(int(self.headers["content-length"]))
        message = self.verifier.verify(body, dict(self.headers))
        line = json.dumps({"id": self.headers["webhook-id"], "path": self.path, "message": message})
        with (self.folder / "received").open("a") as file:
            file.write(line + "\n")
        if self.mode == "hang":
            time.sleep(3600)
        if self.mode == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(3600):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        self.send_response(STATUS[self.mode])
        if self.mode == "redirect":
            self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what matters is in the file."""


def main(folder: str, secret: str, mode: str, port: str = "0") -> None:
    """Serve until killed."""
    _Handler.folder, _Handler.verifier, _Handler.mode = Path(folder), Webhook(secret), mode
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), _Handler)
    part = Path(folder) / "port.part"
    part.write_text(str(server.server_address[1]))
    part.rename(Path(folder) / "port")
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
