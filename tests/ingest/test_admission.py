"""What a batch changes: the run, its attempts, its head, its events; and what is refused."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from foreshock.wire import HISTOGRAM, Event, FrameBatch, SeriesSchema, Table, decode_batch
from foreshock_service.domain.runs import RunStatus
from foreshock_service.errors import Busy, Conflict, Unavailable, Unprocessable
from foreshock_service.pipeline.admission import Receipt, admit, prepare
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import events, head, runs
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store
from foreshock_service.store.tables import attachment
from sqlalchemy import event, select

from tests.factories import ATTEMPT, make_batch, make_schema


def _submit_until_busy(ingest: Ingest) -> list[Future[Receipt]]:
    """The futures of the batches that were taken, at most 20."""
    futures: list[Future[Receipt]] = []
    with contextlib.suppress(Busy):
        for seq in range(20):
            futures.append(ingest.submit(make_batch(seq=seq)))
    return futures


def _started(**data: Any) -> Event:
    return Event(kind="started", wall_time=5.0, data=data)


def test_a_start_describes_the_run(store: Store, ingest: Ingest) -> None:
    """Name and project get columns; everything else stays in `info`."""
    start = _started(name="GPT small", project="nlp", tags=["a"], world=8)
    ingest.submit(make_batch(events=[start])).result(10)
    with store.read() as session:
        run = runs.get(session, "run-1")
        attempts = runs.attempts(session, "run-1")
        told = events.list_events(session, "run-1")
    assert (run.name, run.project, run.status) == ("GPT small", "nlp", RunStatus.RUNNING)
    assert run.info == {"tags": ["a"], "world": 8}
    assert [(a.attempt, a.started_at, a.first_step) for a in attempts] == [(ATTEMPT, 5.0, 0)]
    assert [(e.kind, e.data["tags"]) for e in told] == [("started", ["a"])]


def test_a_run_ends_by_its_own_word_and_runs_again_with_a_new_attempt(
    store: Store, ingest: Ingest
) -> None:
    """What is left of an attempt may come after its end, and does not open it again."""

    def status() -> tuple[RunStatus, float | None]:
        with store.read() as session:
            run = runs.get(session, "run-1")
        return run.status, run.finished_at

    end = Event(kind="finished", wall_time=77.0)
    ingest.submit(make_batch(seq=1, events=[end])).result(10)
    ingest.submit(make_batch(seq=0)).result(10)
    assert status() == (RunStatus.FINISHED, 77.0)
    ingest.submit(make_batch(attempt=ATTEMPT + 1)).result(10)
    assert status() == (RunStatus.RUNNING, None)
    ingest.submit(make_batch(seq=2, events=[end])).result(10)
    assert status() == (RunStatus.RUNNING, None)
    crash = replace(end, data={"status": "crashed"})
    ingest.submit(make_batch(attempt=ATTEMPT + 1, seq=1, events=[crash])).result(10)
    assert status() == (RunStatus.CRASHED, 77.0)


def test_a_silent_run_that_speaks_is_running(store: Store, ingest: Ingest) -> None:
    """Silence is not the client's word: the next batch takes it back."""
    ingest.submit(make_batch()).result(10)
    with store.write() as session:
        runs.set_status(session, "run-1", RunStatus.CRASHED)
    ingest.submit(make_batch(seq=1)).result(10)
    with store.read() as session:
        assert runs.get(session, "run-1").status == RunStatus.RUNNING


def test_the_head_is_the_newest_frame(store: Store, ingest: Ingest, schema: SeriesSchema) -> None:
    """A series that was not due keeps its last measured value, and a NaN loss is told."""
    first = make_batch(schema=schema, num_frames=2, host="node-7", device="cuda:0")
    second = make_batch(schema=schema, seq=1, first_step=2, scalars={"loss": np.nan})
    second.stats[:, 0] = np.nan
    for batch in (first, second):
        ingest.submit(batch).result(10)
    with store.read() as session:
        newest = head.get(session, "run-1")
    assert newest is not None
    assert (newest.step, newest.next_ord, newest.schema_hash) == (5, 6, schema.hash)
    assert np.isnan(newest.scalars["loss"])
    assert newest.scalars["lr"] == 1e-3
    assert newest.counters["frames_measured"] == 6
    assert newest.stats is not None
    np.testing.assert_array_equal(newest.stats[0], first.stats[-1, 0])
    np.testing.assert_array_equal(newest.stats[1:], second.stats[-1, 1:])


def test_a_late_batch_does_not_turn_the_head_back(store: Store, ingest: Ingest) -> None:
    """Sequence numbers may arrive in any order; frames then count by arrival."""
    receipts = [
        ingest.submit(make_batch(seq=seq, first_step=10 * seq)).result(10) for seq in (2, 0, 1)
    ]
    assert [receipt.ord0 for receipt in receipts] == [0, 4, 8]
    with store.read() as session:
        newest = head.get(session, "run-1")
        frames = read_frames(session, "run-1", 0, 0, 100)
    assert newest is not None
    assert (newest.step, newest.next_ord) == (23, 12)
    assert [f.step for f in frames][::4] == [20, 0, 10]


def test_ranks_count_their_own_frames(store: Store, ingest: Ingest) -> None:
    """Two ranks of a run send the same steps and numbers, and neither is a duplicate."""
    receipts = [ingest.submit(make_batch(rank=rank, world=2)).result(10) for rank in (0, 1)]
    assert [(r.status, r.ord0) for r in receipts] == [("stored", 0), ("stored", 0)]
    with store.read() as session:
        assert head.ranks(session, "run-1") == [0, 1]


def test_a_refused_batch_does_not_touch_its_neighbours(
    store: Store, ingest: Ingest, schema: SeriesSchema
) -> None:
    """Good batches around three kinds of bad ones, all in one group."""
    good = make_batch(schema=schema)
    bad = [
        make_batch(run="unknown", schema=make_schema(num_layers=9)),
        make_batch(schema=schema, num_frames=7),
        replace(make_batch(run="narrow", schema=schema), stats=np.zeros((4, 5, 13), np.float32)),
    ]
    futures = [ingest.submit(batch) for batch in (good, *bad, replace(good, seq=1))]
    assert futures[0].result(10).ord0 == 0
    assert futures[4].result(10).ord0 == 4
    errors = [future.exception(10) for future in futures[1:4]]
    assert [type(error) for error in errors] == [Conflict, Conflict, Unprocessable]
    assert [error.code for error in errors if isinstance(error, Conflict)] == [
        "unknown_schema",
        "sequence_reused",
    ]
    with store.read() as session:
        assert [item.run.run_id for item in runs.list_runs(session)] == ["run-1"]


def test_what_the_database_refuses_does_not_touch_its_neighbours(
    store: Store, ingest: Ingest
) -> None:
    """A value that only the database can refuse takes only its own batch with it."""
    hostile = make_batch(run="hostile", host="x" * 10, attempt=1 << 70)
    futures = [ingest.submit(make_batch(seq=0)), ingest.submit(hostile)]
    futures.append(ingest.submit(make_batch(seq=1)))
    assert [futures[0].result(10).ord0, futures[2].result(10).ord0] == [0, 4]
    assert futures[1].exception(10) is not None


def test_a_full_queue_says_come_back(store: Store) -> None:
    """Nothing that was refused is stored, and everything that was taken is."""
    ingest = Ingest(store, ServiceSettings(ingest_queue_batches=2))
    with pytest.raises(Unavailable):
        ingest.submit(make_batch())
    ingest.start()
    with store.engine.connect() as blocker:
        blocked = blocker.execution_options(foreshock_write=True)
        with blocked.begin():
            # The writer waits behind this transaction, and the queue fills up.
            blocked.exec_driver_sql("DELETE FROM run_head" if store.dialect == "sqlite"
                                    else "LOCK TABLE run IN ACCESS EXCLUSIVE MODE")  # fmt: skip
            futures = _submit_until_busy(ingest)
    # Two wait, and the writer holds at most a group of two.
    assert 2 <= len(futures) <= 4
    assert {future.result(20).status for future in futures} == {"stored"}
    ingest.stop()
    with pytest.raises(Unavailable):
        ingest.submit(make_batch(seq=9))


def test_stopping_writes_what_waits(store: Store) -> None:
    """A service that is told to stop answers every batch that it took."""
    ingest = Ingest(store, ServiceSettings())
    ingest.start()
    futures = [ingest.submit(make_batch(seq=seq)) for seq in range(30)]
    ingest.stop()
    assert sorted(future.result(0).ord0 or 0 for future in futures) == list(range(0, 120, 4))


def test_the_flight_recorder_is_an_attachment(
    store: Store, ingest: Ingest, schema: SeriesSchema
) -> None:
    """Its older, overlapping steps would read as a resumed run: they take no ord."""
    ring = make_batch(seq=1, schema=schema, stream="ring", first_step=90, num_frames=8)
    receipts = [ingest.submit(batch).result(10) for batch in (make_batch(), ring, ring)]
    assert [(r.status, r.ord0) for r in receipts[1:]] == [("stored", None), ("duplicate", None)]
    with store.read() as session:
        rows = session.connection.execute(select(attachment)).all()
        assert len(read_frames(session, "run-1", 0, 0, 100)) == 4
    assert [(row.first_step, row.last_step) for row in rows] == [(90, 97)]
    np.testing.assert_array_equal(decode_batch(rows[0].data).stats, ring.stats)


def test_histograms_come_back_with_their_frames(
    store: Store, ingest: Ingest, schema: SeriesSchema
) -> None:
    """Only the frames that carry one have one."""
    values = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
    table = Table(
        name=HISTOGRAM,
        frame=np.array([1, 1, 3], np.int32),
        series=np.array([5, 2, 2], np.int32),
        values=values,
    )
    ingest.submit(make_batch(schema=schema, tables=[table])).result(10)
    with store.read() as session:
        frames = read_frames(session, "run-1", 0, 0, 10)
    assert [sorted(frame.histograms) for frame in frames] == [[], [2, 5], [], [2]]
    np.testing.assert_array_equal(frames[1].histograms[5], values[0])
    np.testing.assert_array_equal(frames[3].histograms[2], values[2])


def test_a_hint_names_the_newest_ord(store: Store) -> None:
    """Told after the commit, for what was stored; a listener that fails stops nothing."""
    told: list[tuple[str, int]] = []

    def listen(run_id: str, upto: int) -> None:
        with store.read() as session:
            told.append((run_id, len(read_frames(session, run_id, 0, 0, 100))))
        assert told[-1] == (run_id, upto)
        raise RuntimeError("nobody is listening")

    ingest = Ingest(store, ServiceSettings(), on_commit=listen)
    ingest.start()
    for seq in (0, 1, 1):
        ingest.submit(make_batch(seq=seq)).result(10)
    ingest.stop()
    assert told == [("run-1", 4), ("run-1", 8)]


def _count_statements(store: Store, batches: list[FrameBatch]) -> int:
    """SQL statements that one group of batches takes."""
    statements: list[str] = []

    def record(_c: Any, _u: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    submissions = [prepare(batch) for batch in batches]
    event.listen(store.engine, "before_cursor_execute", record)
    with store.write() as session:
        answers = admit(session, submissions, now=0.0)
    event.remove(store.engine, "before_cursor_execute", record)
    assert {type(answer) for answer in answers} == {Receipt}
    return len(statements)


def test_statements_do_not_grow_with_the_group(store: Store, schema: SeriesSchema) -> None:
    """Thirty batches of two runs take as many statements as two."""
    few, many = (
        _count_statements(
            store,
            [
                make_batch(f"run-{seq % 2}", attempt=attempt, seq=seq, schema=schema)
                for seq in range(num_batches)
            ],
        )
        for attempt, num_batches in ((1, 2), (2, 30))
    )
    assert few == many
    assert many <= 20
