"""Sends an imported run to a running service, as a client would: the wire, in batches, over HTTP.

Run id and sequence numbers come of the files' content, so that sending the same files twice stores
them once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import numpy as np
import zstandard
from foreshock.wire import (
    CONTENT_TYPE,
    RUN_ID,
    Event,
    FrameBatch,
    Origin,
    SeriesSchema,
    encode_batch,
)
from foreshock.wire.text import fit_name

from foreshock_service.domain.frames import Frame
from foreshock_service.errors import NotTaken, Unreadable

PROJECT: Final = "imported"
BATCH_FRAMES: Final = 512
BATCH_BYTES: Final = 8 << 20
"""A batch is sent when it has either; the service takes far more."""
MAX_SCALARS: Final = 1024
"""As many names as a batch may have."""
MAX_NAME_LENGTH: Final = 256
TIMEOUT_SECONDS: Final = 60.0
MAX_TRIES: Final = 30
PAUSE_SECONDS: Final = 1.0
BROKEN_OFF_SEQ: Final = 1 << 40
"""Above the number of any batch, so that the same files sent again go on where this ended."""
_LATER: Final = frozenset({429, 503})
_HASHED_AT_ONCE: Final = 1 << 20


def run_id_of(name: str, files: tuple[Path, ...]) -> str:
    """An id that the name is recognised in, and that only the same content has again."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass"))
    for path in files:
        with path.open("rb") as file:
            while part := file.read(_HASHED_AT_ONCE):
                digest.update(part)
    kept = "".join(letter if RUN_ID.fullmatch("a" + letter) else "-" for letter in name)
    return f"{kept.strip('._-')[:100] or 'run'}-{digest.hexdigest()[:12]}"


class Service:
    """A running service, asked and told over HTTP."""

    def __init__(
        self, url: str, token: str | None, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._sleep = sleep
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            # Without the environment: its .netrc would replace the token.
            self._client = httpx.Client(
                base_url=url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False
            )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise NotTaken(f"{url!r} is no address: {error}") from error
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._known: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check(self) -> None:
        """Ask whether it is a Foreshock service that takes frames of this token.

        Raises:
            NotTaken: it is not, or does not.
        """
        answer = self._answer("GET", "/api/v1/ingest")
        if answer.get("service") != "foreshock":
            raise NotTaken("the answer is not from a Foreshock service: check the address")

    def register(self, schema: SeriesSchema) -> None:
        """Make a schema known, once."""
        if schema.hash not in self._known:
            self._answer("POST", "/api/v1/schemas", json=schema.to_json())
            self._known.add(schema.hash)

    def send(self, batch: FrameBatch, *, tries: int = MAX_TRIES) -> None:
        """Send a batch until it is stored, or has been refused for now so many times.

        Raises:
            NotTaken: the service refuses it, or is away for too long.
        """
        headers = {"Content-Type": CONTENT_TYPE, "Content-Encoding": "zstd"}
        body = self._compressor.compress(encode_batch(batch))
        answer = self._answer("POST", "/api/v1/frames", tries, content=body, headers=headers)
        if "seq" not in answer:
            raise NotTaken("the answer is not from a Foreshock service: check the address")

    def _answer(
        self, method: str, path: str, tries: int = MAX_TRIES, **request: Any
    ) -> dict[str, Any]:
        for left in reversed(range(tries)):
            try:
                response = self._client.request(method, path, **request)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise NotTaken(f"no answer: {str(error) or type(error).__name__}") from error
            if response.status_code not in _LATER or not left:
                break
            self._sleep(_pause(response))
        try:
            document = response.json()
        except (ValueError, RecursionError):
            document = None
        answer = document if isinstance(document, dict) else {}
        if response.is_success:
            return answer
        detail = str(answer.get("detail", ""))[:300] or response.reason_phrase
        if response.status_code in (401, 403):
            detail += "; put a token with the scope ingest into FORESHOCK_TOKEN"
        raise NotTaken(f"answer {response.status_code}: {detail}")


def _pause(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", "")), PAUSE_SECONDS), 30.0)
    except ValueError:
        return PAUSE_SECONDS


class Upload:
    """One run on its way: frames in, batches out.

    An attempt has sequence numbers of its own. `started` goes with the first batch of each,
    `finished` alone behind the last. Nothing is sent before the first frame with a loss. As a
    context it ends the run, however the block ends.
    """

    def __init__(self, service: Service, run_id: str, about: dict[str, Any]) -> None:
        self._service = service
        self._run_id = run_id
        self._about = about
        self._frames: list[Frame] = []
        self._num_bytes = 0
        self._seqs: dict[int, int] = {}
        self._newest: Frame | None = None
        self._sent: Frame | None = None
        self._has_loss = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Unreadable):
            self._break_off()
            return
        try:
            self.finish()
        except BaseException:
            self._break_off()
            raise

    def push(self, frame: Frame) -> None:
        """Take the next frame in; sends a batch when one is full, or cannot hold this frame."""
        first = self._frames[0] if self._frames else frame
        if first.attempt != frame.attempt or first.schema is not frame.schema:
            self._flush()
        self._frames.append(frame)
        self._newest = frame
        self._num_bytes += frame.stats.nbytes + 16 * len(frame.scalars)
        self._has_loss = self._has_loss or "loss" in frame.scalars
        if len(self._frames) >= BATCH_FRAMES or self._num_bytes >= BATCH_BYTES:
            self._flush()

    def finish(self) -> None:
        """Send what is left, and that the run has ended."""
        self._flush()
        if self._newest is not None and self._has_loss:
            self._send(self._newest.attempt, [], (_ended(self._newest),))

    def _break_off(self) -> None:
        """Say that the run has ended where this upload did: nothing of it is alive.

        Frames that wait stay: a part of a batch would stand in the way of the whole one when the
        same files are sent again.
        """
        last = self._sent
        if last is None:
            return
        origin = Origin(run=self._run_id, attempt=last.attempt)
        seq = BROKEN_OFF_SEQ + self._seqs[last.attempt]
        with suppress(NotTaken):
            self._service.send(_batch(origin, seq, [], None, (_ended(last),)), tries=1)

    def _flush(self) -> None:
        if not self._has_loss:
            return
        waiting, self._frames, self._num_bytes = self._frames, [], 0
        for start in range(0, len(waiting), BATCH_FRAMES):
            frames = waiting[start : start + BATCH_FRAMES]
            first = frames[0]
            begins = first.attempt not in self._seqs
            started = Event(
                kind="started", wall_time=_finite(first.wall_time), data=dict(self._about)
            )
            before, self._sent = self._sent, frames[-1]
            try:
                self._send(first.attempt, frames, (started,) if begins else ())
            except NotTaken:
                self._sent = before
                raise

    def _send(self, attempt: int, frames: list[Frame], events: tuple[Event, ...]) -> None:
        seq = self._seqs.get(attempt, 0)
        self._seqs[attempt] = seq + 1
        schema = frames[0].schema if frames and frames[0].schema.series else None
        if schema is not None:
            self._service.register(schema)
        self._service.send(
            _batch(Origin(run=self._run_id, attempt=attempt), seq, frames, schema, events)
        )


def _ended(last: Frame) -> Event:
    return Event(
        kind="finished",
        wall_time=_finite(last.wall_time),
        step=last.step,
        data={"status": "finished"},
    )


def _batch(
    origin: Origin,
    seq: int,
    frames: list[Frame],
    schema: SeriesSchema | None,
    events: tuple[Event, ...],
) -> FrameBatch:
    given = list(dict.fromkeys(name for frame in frames for name in frame.scalars))
    names = {name: fit_name(name, MAX_NAME_LENGTH) for name in given}
    if len(names) > MAX_SCALARS:
        raise NotTaken(f"{len(names)} scalars, and a service takes {MAX_SCALARS}")
    scalars = np.zeros((len(frames), len(names)))
    present = np.zeros((len(frames), len(names)), np.uint8)
    for row, frame in enumerate(frames):
        for column, name in enumerate(names):
            if name in frame.scalars:
                scalars[row, column] = frame.scalars[name]
                present[row, column] = 1
    return FrameBatch(
        origin=origin,
        seq=seq,
        schema=None if schema is None else schema.hash,
        num_statistics=0 if schema is None else len(schema.statistics),
        scalar_names=tuple(names.values()),
        events=events,
        steps=np.array([frame.step for frame in frames], np.int64),
        wall_times=np.array([_finite(frame.wall_time) for frame in frames]),
        flags=np.array([int(frame.flags) for frame in frames], np.uint32),
        scalars=scalars,
        scalar_present=present,
        stats=np.zeros((len(frames), 0, 0), np.float32)
        if schema is None
        else np.stack([frame.stats for frame in frames]),
    )


def _finite(seconds: float) -> float:
    return seconds if np.isfinite(seconds) else 0.0
