"""A Foreshock service of the demo's own: a subprocess on a free port, with its own database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from foreshock.errors import ForeshockError

READY_TIMEOUT_SECONDS = 60.0
"""A cold start imports the service and migrates an empty database: 3 s on one busy core."""
STOP_TIMEOUT_SECONDS = 15.0
HOST = "127.0.0.1"


class ServerError(ForeshockError, RuntimeError):
    """The demo's service did not start, or did not stay up; the message quotes its last lines."""


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class DemoServer:
    """`foreshock serve` in a subprocess; a context manager that ends it politely.

    Variables `FORESHOCK_*` are not passed on: the demo must neither write to a production database
    nor wake a production pager.
    """

    def __init__(self, data_dir: Path, *, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.data_dir = data_dir
        self._log = data_dir / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DemoServer:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FORESHOCK_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "foreshock", "serve"],
                env={
                    **inherited,
                    "FORESHOCK_HOST": HOST,
                    "FORESHOCK_PORT": str(self.port),
                    "FORESHOCK_DATA_DIR": str(self.data_dir),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the demo, which then ends the service itself.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def check(self) -> None:
        """Raise `ServerError` if the service is no longer there."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise ServerError(f"the demo's service ended with status {code}:\n{self._last_lines()}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2.0):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise ServerError(
            f"the demo's service was not ready after {READY_TIMEOUT_SECONDS:.0f} s:\n"
            f"{self._last_lines()}"
        )

    def _last_lines(self, num_lines: int = 15) -> str:
        if not self._log.exists():
            return "(it wrote nothing)"
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-num_lines:]) or "(it wrote nothing)"

    def _end(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
