"""How bytes reach the service, and what its answer means for those who sent them."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

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
        parts = urllib.parse.urlsplit(settings.url)
        self._secure = parts.scheme == "https"
        self._netloc, self._path = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
        self._timeout_seconds = settings.request_timeout_seconds
        self._token = settings.token
        self._compress = settings.compress and zstandard is not None
        self._connection: http.client.HTTPConnection | None = None

    def post_schema(self, document: bytes) -> Answer:
        """Register a series schema, given as JSON."""
        return self._post("/api/v1/schemas", document, {"Content-Type": "application/json"})

    def post_frames(self, message: bytes) -> Answer:
        """Send one binary message, compressed where that is possible and asked for."""
        headers = {"Content-Type": CONTENT_TYPE}
        if self._compress:
            message = zstandard.ZstdCompressor(level=1).compress(message)
            headers["Content-Encoding"] = "zstd"
        return self._post("/api/v1/frames", message, headers)

    def close(self) -> None:
        """Close the connection; the next post opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        reused = self._connection is not None
        answer = self._try(path, body, headers)
        if answer.status == 0 and reused:
            # A kept connection may have been closed by the other side while nothing was sent.
            answer = self._try(path, body, headers)
        return answer

    def _try(self, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        try:
            connection = self._connection or self._connect()
            self._connection = connection
            connection.request("POST", self._path + path, body, headers)
            response = connection.getresponse()
            text = response.read(_MAX_ANSWER_BYTES)
            if response.will_close or not response.isclosed():
                self.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return Answer(status=0, detail=f"{type(error).__name__}: {error}")
        return _read_answer(response.status, response.getheader("Retry-After"), text)

    def _connect(self) -> http.client.HTTPConnection:
        factory = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return factory(self._netloc, timeout=self._timeout_seconds)


def _read_answer(status: int, retry_after: str | None, text: bytes) -> Answer:
    """The answer, with what it says about itself if it is a problem document."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    problem = document if isinstance(document, dict) else {}
    if 200 <= status < 300 and not problem:
        # A captive portal or another server on the port also says 200: only ours answers JSON.
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
