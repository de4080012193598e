"""How bytes reach the service, and what its answer means for those who sent them."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
import urllib.parse
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, Protocol

from foreshock.errors import SettingError
from foreshock.settings import ClientSettings
from foreshock.wire import CONTENT_TYPE

try:
    import zstandard
except ImportError:  # an extra; without it batches travel as they are
    zstandard = None  # type: ignore[assignment]  # the optional package's usual idiom

_MAX_ANSWER_BYTES: Final = 64 << 10
_PERMANENT: Final = frozenset({400, 405, 411, 413, 415, 422})


class Verdict(Enum):
    """What a sender does next with what it sent."""

    DONE = "done"
    """The service has it for good."""
    SCHEMA = "schema"
    """The service does not know the series schema; send that, then this again."""
    REJECTED = "rejected"
    """The service will never take it; sending it again cannot help."""
    LATER = "later"
    """Nothing is wrong with it; try again after a pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The service's answer; status 0: none came. `detail` is for people."""

    status: int
    code: str = ""
    detail: str = ""
    retry_after_seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """A redirect or an unknown status keeps the batch: a wrong address must not lose data."""
        if 200 <= self.status < 300:
            return Verdict.DONE
        if self.status == 409 and self.code == "unknown_schema":
            return Verdict.SCHEMA
        return Verdict.REJECTED if self.status in _PERMANENT else Verdict.LATER


class Transport(Protocol):
    """Posts bytes; never raises. Called from one thread at a time."""

    def post_schema(self, document: bytes) -> Answer:
        """Register a series schema, given as JSON."""
        ...

    def post_frames(self, message: bytes) -> Answer:
        """Send one binary message of the wire format."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class HttpTransport:
    """HTTP/1.1 over one connection that is kept, from the standard library."""

    def __init__(self, settings: ClientSettings) -> None:
        try:
            parts = urllib.parse.urlsplit(settings.url)
            _ = parts.port  # which reads it
        except ValueError as error:
            raise SettingError(f"url {settings.url!r}: {error}") from error
        self._secure = parts.scheme == "https"
        self._netloc, self._path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
        self._timeout_seconds = settings.request_timeout_seconds
        self._token = settings.token
        self._compress = settings.compress and zstandard is not None
        self._connection: http.client.HTTPConnection | None = None

    def post_schema(self, document: bytes) -> Answer:
        """Register a series schema, given as JSON."""
        headers = {"Content-Type": "application/json"}
        return self._post("/api/v1/schemas", document, headers, proof="hash")

    def post_frames(self, message: bytes) -> Answer:
        """Send one binary message, compressed where that is possible and asked for."""
        headers = {"Content-Type": CONTENT_TYPE}
        if self._compress:
            message = zstandard.ZstdCompressor(level=1).compress(message)
            headers["Content-Encoding"] = "zstd"
        return self._post("/api/v1/frames", message, headers, proof="seq")

    def close(self) -> None:
        """Close the connection; the next post opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, path: str, body: bytes, headers: dict[str, str], *, proof: str) -> Answer:
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        reused = self._connection is not None
        try:
            answer = self._try(path, body, headers, proof)
        except ConnectionError as error:
            self.close()
            answer = _none(error)
            if reused:
                # The other side may close a kept connection at any time, while nothing is sent.
                with suppress(ConnectionError):
                    return self._try(path, body, headers, proof)
                self.close()
        return answer

    def _try(self, path: str, body: bytes, headers: dict[str, str], proof: str) -> Answer:
        """Raises: ConnectionError: the other side has closed the connection, or refuses one."""
        deadline = time.monotonic() + self._timeout_seconds
        try:
            connection = self._connection or self._connect()
            self._connection = connection
            if connection.sock is not None:
                connection.sock.settimeout(self._timeout_seconds)
            # Anything that makes a response will do, although the type asks for a class.
            connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]
            connection.request("POST", self._path + path, body, headers)
            response = connection.getresponse()
            text = response.read(_MAX_ANSWER_BYTES)
            if response.will_close or not response.isclosed():
                self.close()
        except ConnectionError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return _none(error)
        return _read_answer(response.status, response.getheader("Retry-After"), text, proof)

    def _connect(self) -> http.client.HTTPConnection:
        factory = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return factory(self._netloc, timeout=self._timeout_seconds)


class _Response(http.client.HTTPResponse):
    """An answer that must have come by `deadline`: a timeout alone begins anew with every byte, and
    a service that sends one from time to time would never be given up."""

    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_UntilDeadline(sock, deadline))


class _UntilDeadline(io.RawIOBase):
    """What a socket receives until the deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline = sock, deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what there is.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()


def _none(error: Exception) -> Answer:
    return Answer(status=0, detail=f"{type(error).__name__}: {error}")


def _read_answer(status: int, retry_after: str | None, text: bytes, proof: str) -> Answer:
    """The answer, with what it says about itself if it is a problem document. A success must hold
    the field `proof`: a captive portal or another server on the port says 200 to anything, and what
    it is said for is deleted."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    problem = document if isinstance(document, dict) else {}
    if 200 <= status < 300 and proof not in problem:
        return Answer(status=0, detail="the answer is not from a Foreshock service: check the url")
    try:
        pause = max(0.0, float(retry_after or 0))
    except ValueError:
        pause = 0.0
    return Answer(
        status=status,
        code=str(problem.get("code", "")),
        detail=str(problem.get("detail", ""))[:500],
        retry_after_seconds=pause,
    )
