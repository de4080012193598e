"""Posting the batches of a spool, oldest first, until it is empty or somebody says stop."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from foreshock.logs import OncePer, logger
from foreshock.spool import Spool, SpooledBatch
from foreshock.transport import Answer, Transport, Verdict
from foreshock.wire import split_message

_MAX_SCHEMA_TRIES: Final = 3
_MAX_READS: Final = 5
"""Tries to read a batch that the disk does not give back."""


class Backoff:
    """Pauses that double from `first` to `most` seconds, each drawn between half and the whole,
    so that many clients of a service that comes back do not come back at once."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._failures = 0
        self._random = random.Random()  # its own generator: the training's must not notice

    def reset(self) -> None:
        """Begin again at the shortest pause."""
        self._failures = 0

    def pause(self, at_least: float = 0.0) -> float:
        """Seconds to wait after one more failure."""
        pause = min(self._most, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(pause * self._random.uniform(0.5, 1.0), min(at_least, self._most))


class Outcome:
    """What a drain did; counts only grow."""

    def __init__(self) -> None:
        self.batches_sent = 0
        self.bytes_sent = 0
        self.batches_rejected = 0
        self.frames_lost = 0
        """Frames of batches that vanished from the disk, or that it does not give back."""


def drain(
    spool: Spool,
    transport: Transport,
    backoff: Backoff,
    stop: Callable[[], bool],
    wait: Callable[[float], object],
    outcome: Outcome,
    *,
    once_per: OncePer,
) -> bool:
    """Post until `spool` is empty; True if it is, False if `stop()` said so before.

    After a failure that may pass, `wait(seconds)` is called; it may return early.
    """
    num_refused = 0
    while (batch := spool.oldest()) is not None:
        if stop():
            return False
        try:
            message = spool.read(batch)
        except FileNotFoundError:
            outcome.frames_lost += batch.num_frames
            spool.remove(batch)
            continue
        except OSError as error:
            # Too many open files, say, is over soon; a broken disk is not.
            num_refused += 1
            if num_refused < _MAX_READS:
                wait(backoff.pause())
                continue
            num_refused = 0
            outcome.frames_lost += batch.num_frames
            _put_aside(spool, batch, f"it cannot be read: {error}")
            continue
        num_refused = 0
        answer = _post(spool, transport, message)
        if answer.verdict is Verdict.DONE:
            spool.remove(batch)
            backoff.reset()
            outcome.batches_sent += 1
            outcome.bytes_sent += len(message)
        elif answer.verdict is Verdict.REJECTED:
            _put_aside(spool, batch, f"the service refuses it for good: {_why(answer)}")
            outcome.batches_rejected += 1
        else:
            if once_per.due(f"{answer.status}"):
                logger.warning(
                    "the service did not take a batch (%s); %d wait in %s; training goes on",
                    _why(answer),
                    len(spool),
                    spool.folder,
                )
            wait(backoff.pause(answer.retry_after_seconds))
    return True


def _post(spool: Spool, transport: Transport, message: bytes) -> Answer:
    """Post a batch, and before it the schema where the service asks for it."""
    answer = transport.post_frames(message)
    for _ in range(_MAX_SCHEMA_TRIES):
        if answer.verdict is not Verdict.SCHEMA:
            return answer
        document = spool.schema(str(split_message(message)[0].get("schema")))
        if document is None:
            return Answer(status=422, detail="its schema is not in the spool")
        registered = transport.post_schema(document)
        if registered.verdict is not Verdict.DONE:
            return registered
        answer = transport.post_frames(message)
    if answer.verdict is Verdict.SCHEMA:
        return Answer(status=503, detail="the service forgets the schema that it has acknowledged")
    return answer


def _put_aside(spool: Spool, batch: SpooledBatch, why: str) -> None:
    logger.error("batch %d is put aside in %s/rejected: %s", batch.seq, spool.folder, why)
    try:
        spool.reject(batch)
    except OSError:
        logger.exception("batch %d could not be put aside, and is dropped", batch.seq)


def _why(answer: Answer) -> str:
    if answer.status == 0:
        return answer.detail or "no answer"
    hint = "; set FORESHOCK_TOKEN" if answer.status == 401 else ""
    return f"HTTP {answer.status} {answer.detail or answer.code}{hint}".strip()
