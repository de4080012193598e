"""The one transaction that admits a group of batches: who is new, who came twice, which ord.

Works on the whole group at once, so that the number of SQL statements does not grow with it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from foreshock.wire import ClientCounters, Event, FrameBatch, encode_batch

from foreshock_service.domain.runs import RunHead, RunStatus
from foreshock_service.errors import Conflict, ServiceError, Unprocessable
from foreshock_service.store import batches, events, head, runs, schemas
from foreshock_service.store.batches import BatchKey, Reception
from foreshock_service.store.session import WriteSession

MAX_NAME = 256
MAX_PROJECT = 128


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a stored batch; `ord0` is None for one that holds no frames of the run."""

    status: Literal["stored", "duplicate"]
    seq: int
    ord0: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """A batch as it will be stored, made ready outside the transaction.

    `message` is the batch without its events, counters and tables, which have tables of their own.
    """

    batch: FrameBatch
    message: bytes
    crc32: int

    @property
    def key(self) -> BatchKey:
        """What makes this batch the same as another."""
        origin = self.batch.origin
        return origin.run, origin.attempt, origin.rank, self.batch.seq

    @property
    def num_bytes(self) -> int:
        """Memory that the batch holds while it waits."""
        return 2 * len(self.message) + sum(table.values.nbytes for table in self.batch.tables)


def prepare(batch: FrameBatch) -> Submission:
    """Encode a batch for storage. Its checksum covers all but the counters, which a client may
    have brought up to date before it sends the same frames again."""
    bare = replace(batch, events=(), tables=(), counters=ClientCounters())
    message = encode_batch(bare)
    crc32 = zlib.crc32(message)
    crc32 = zlib.crc32(json.dumps([asdict(event) for event in batch.events]).encode(), crc32)
    for table in batch.tables:
        crc32 = zlib.crc32(table.name.encode(), crc32)
        for array in (table.frame, table.series, table.values):
            crc32 = zlib.crc32(np.ascontiguousarray(array).data, crc32)
    return Submission(batch, message, crc32)


def admit(
    session: WriteSession, submissions: Sequence[Submission], *, now: float
) -> list[Receipt | ServiceError]:
    """Store every batch of the group that can be stored; the answers are in its order.

    A batch that is refused changes nothing, and its neighbours are stored.
    """
    hashes = {s.batch.schema for s in submissions if s.batch.schema is not None}
    known = schemas.registered(session, hashes) if hashes else set()
    answers: dict[int, Receipt | ServiceError] = {}
    valid: list[tuple[int, Submission]] = []
    for index, submission in enumerate(submissions):
        error = _check_schema(session, submission.batch, known)
        if error is None:
            valid.append((index, submission))
        else:
            answers[index] = error
    if valid:
        group = _Group(session, [submission for _, submission in valid], now)
        for index, submission in valid:
            answers[index] = group.take(submission)
        group.store()
    return [answers[index] for index in range(len(submissions))]


def _check_schema(session: WriteSession, batch: FrameBatch, known: set[str]) -> ServiceError | None:
    if batch.schema is None:
        if batch.stats.size:
            return Unprocessable("`stats` needs a `schema`: register one at POST /schemas first")
        return None
    if batch.schema not in known:
        return Conflict(
            f"schema {batch.schema!r} is not registered: send it to POST /schemas, then this "
            "batch again",
            code="unknown_schema",
        )
    schema = schemas.load(session, batch.schema)
    expected = (len(schema.series), len(schema.statistics))
    if batch.stats.shape[1:] != expected:
        return Unprocessable(
            f"`stats` has {batch.stats.shape[1]} series and {batch.stats.shape[2]} statistics, "
            f"schema {batch.schema!r} has {expected[0]} and {expected[1]}"
        )
    return None


class _Group:
    """Collects the rows of a group, from the first batch taken to the write at its end."""

    def __init__(
        self, session: WriteSession, submissions: Sequence[Submission], now: float
    ) -> None:
        self._session = session
        self._now = now
        runs.insert_runs(session, _run_rows(submissions, now))
        # From here on this transaction alone gives ords to these ranks.
        origins = {(s.batch.origin.run, s.batch.origin.rank): s.batch.origin.attempt
                   for s in submissions}  # fmt: skip
        self._heads = head.lock(session, origins)
        self._received = batches.find_received(session, [s.key for s in submissions])
        self._taken: list[tuple[Submission, int]] = []
        self._rings: list[Submission] = []
        self._new: dict[BatchKey, dict[str, Any]] = {}

    def take(self, submission: Submission) -> Receipt | Conflict:
        """Decide about one batch: new, a duplicate, or another batch under a used number."""
        batch, key = submission.batch, submission.key
        earlier = self._received.get(key)
        if earlier is not None:
            if earlier.crc32 == submission.crc32:
                return Receipt("duplicate", batch.seq, earlier.ord0)
            return Conflict(
                f"batch {batch.seq} of run {key[0]!r}, attempt {key[1]}, rank {key[2]} is stored "
                "with other content: start a new attempt, or count `seq` on",
                code="sequence_reused",
            )
        ord0: int | None = None
        if batch.stream == "ring":
            self._rings.append(submission)
        else:
            place = (batch.origin.run, batch.origin.rank)
            newest = self._heads[place]
            ord0 = newest.next_ord if len(batch.steps) else None
            self._taken.append((submission, newest.next_ord))
            self._heads[place] = _advance(newest, batch)
        self._received[key] = Reception(ord0, submission.crc32)
        self._new[key] = {
            "run_id": key[0],
            "attempt": key[1],
            "rank": key[2],
            "seq": key[3],
            "ord0": ord0,
            "num_frames": len(batch.steps),
            "crc32": submission.crc32,
        }
        return Receipt("stored", batch.seq, ord0)

    def store(self) -> None:
        """Write everything that was taken."""
        if not self._new:
            return
        session, now = self._session, self._now
        taken = [submission for submission, _ in self._taken]
        batches.insert_received(session, list(self._new.values()))
        batches.insert_batches(
            session,
            [
                {
                    "run_id": s.batch.origin.run,
                    "rank": s.batch.origin.rank,
                    "ord0": ord0,
                    "num_frames": len(s.batch.steps),
                    "attempt": s.batch.origin.attempt,
                    "seq": s.batch.seq,
                    "schema_hash": s.batch.schema,
                    "received_at": now,
                    "data": s.message,
                }
                for s, ord0 in self._taken
                if len(s.batch.steps)
            ],
        )
        for submission, ord0 in self._taken:
            if submission.batch.tables:
                origin = submission.batch.origin
                batches.insert_table_rows(session, origin.run, origin.rank, ord0, submission.batch)
        batches.insert_attachments(session, [_attachment(s, now) for s in self._rings])
        head.save(session, self._changed_heads())
        everything = [*taken, *self._rings]
        events.insert_events(
            session, [row for submission in everything for row in _event_rows(submission)]
        )
        self._update_runs(taken)

    def _changed_heads(self) -> list[RunHead]:
        places = {(s.batch.origin.run, s.batch.origin.rank) for s, _ in self._taken}
        return [self._heads[place] for place in sorted(places)]

    def _update_runs(self, taken: Sequence[Submission]) -> None:
        """Attempts, what a start says of the run, and whether it goes on or has ended."""
        session, now = self._session, self._now
        run_ids = sorted({key[0] for key in self._new})
        before = runs.newest_attempts(session, run_ids)
        runs.insert_attempts(session, _attempt_rows(taken, now))
        newest = dict(before)
        for run_id, attempt, _, _ in (s.key for s in taken):
            newest[run_id] = max(attempt, newest.get(run_id, attempt))
        for run_id in sorted(newest):
            if newest[run_id] != before.get(run_id):
                runs.set_status(session, run_id, RunStatus.RUNNING)
        runs.heard(session, run_ids, now=now)
        for submission in sorted(taken, key=lambda s: s.key):
            # The rest of an earlier attempt may arrive late: it does not speak for the run.
            if submission.batch.origin.attempt == newest[submission.batch.origin.run]:
                for item in submission.batch.events:
                    self._apply(submission.batch.origin.run, item)

    def _apply(self, run_id: str, item: Event) -> None:
        if item.kind == "started":
            name, project, info = _description(run_id, item)
            runs.describe(self._session, run_id, name=name, project=project, info=info)
        elif item.kind == "finished":
            crashed = item.data.get("status") == RunStatus.CRASHED
            status = RunStatus.CRASHED if crashed else RunStatus.FINISHED
            runs.set_status(self._session, run_id, status, finished_at=item.wall_time)


def _advance(newest: RunHead, batch: FrameBatch) -> RunHead:
    """The head after a batch; one that is older than the head only moves `next_ord`."""
    origin = batch.origin
    advanced = replace(newest, next_ord=newest.next_ord + len(batch.steps))
    started = newest.step is None or origin.attempt > newest.attempt
    if origin.attempt < newest.attempt:
        return advanced
    advanced = replace(
        advanced,
        attempt=origin.attempt,
        host=origin.host,
        device=origin.device,
        counters=_larger(newest.counters if not started else {}, asdict(batch.counters)),
    )
    if not len(batch.steps):
        return advanced
    wall_time = float(batch.wall_times[-1])
    if not started and newest.wall_time is not None and wall_time < newest.wall_time:
        return advanced
    scalars = dict(newest.scalars)
    for values, present in zip(batch.scalars, batch.scalar_present, strict=True):
        for name, value, logged in zip(batch.scalar_names, values, present, strict=True):
            if logged:
                scalars[name] = float(value)
    advanced = replace(advanced, step=int(batch.steps[-1]), wall_time=wall_time, scalars=scalars)
    if batch.schema is None:
        return advanced
    same = newest.schema_hash == batch.schema and newest.stats is not None
    stats = np.full(batch.stats.shape[1:], np.nan, np.float32)
    if same and newest.stats is not None:
        stats = newest.stats.copy()
    for rows in batch.stats:
        measured = ~np.isnan(rows).all(axis=1)
        stats[measured] = rows[measured]
    return replace(advanced, schema_hash=batch.schema, stats=stats)


def _larger(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """Counters only grow: a batch that comes late does not turn them back."""
    return {name: max(value, old.get(name, value)) for name, value in new.items()}


def _description(run_id: str, item: Event | None) -> tuple[str, str, dict[str, Any]]:
    """Name, project and the rest of what a start says; wrong types fall back to the default."""
    info = {} if item is None else dict(item.data)
    name, project = info.pop("name", None), info.pop("project", None)
    return (
        name[:MAX_NAME] if isinstance(name, str) and name else run_id,
        project[:MAX_PROJECT] if isinstance(project, str) and project else "default",
        info,
    )


def _run_rows(submissions: Sequence[Submission], now: float) -> list[dict[str, Any]]:
    rows = {}
    for run_id in sorted({s.batch.origin.run for s in submissions}):
        name, project, info = _description(run_id, None)
        rows[run_id] = {
            "run_id": run_id,
            "name": name,
            "project": project,
            "created_at": now,
            "heard_at": now,
            "info": info,
        }
    return list(rows.values())


def _attempt_rows(taken: Sequence[Submission], now: float) -> list[dict[str, Any]]:
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for submission in taken:
        batch = submission.batch
        times = [*batch.wall_times[:1].tolist(), *(item.wall_time for item in batch.events)]
        started_at = min(times, default=now)
        first_step = int(batch.steps.min()) if len(batch.steps) else None
        key = (batch.origin.run, batch.origin.attempt)
        row = rows.setdefault(
            key,
            {
                "run_id": key[0],
                "attempt": key[1],
                "started_at": started_at,
                "first_step": first_step,
            },
        )
        row["started_at"] = min(row["started_at"], started_at)
        if first_step is not None:
            row["first_step"] = min(first_step, first_step if row["first_step"] is None
                                    else row["first_step"])  # fmt: skip
    return [rows[key] for key in sorted(rows)]


def _event_rows(submission: Submission) -> list[dict[str, Any]]:
    origin = submission.batch.origin
    return [
        {"run_id": origin.run, "rank": origin.rank, "attempt": origin.attempt, **asdict(item)}
        for item in submission.batch.events
    ]


def _attachment(submission: Submission, now: float) -> dict[str, Any]:
    batch = submission.batch
    steps = batch.steps
    return {
        "run_id": batch.origin.run,
        "rank": batch.origin.rank,
        "attempt": batch.origin.attempt,
        "first_step": int(steps.min()) if len(steps) else None,
        "last_step": int(steps.max()) if len(steps) else None,
        "received_at": now,
        "data": encode_batch(batch),
    }
