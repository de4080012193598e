"""Runs a scenario under the real client and keeps what the client would have sent."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any, Final

import foreshock
import numpy as np
import numpy.typing as npt
from foreshock.testing import RecordingTransport
from foreshock.wire import STATISTICS as SENT
from foreshock.wire import FrameBatch

from benchmarks.zoo.registry import Scenario
from benchmarks.zoo.traces import STATISTICS, Floats, Trace

_OF_THE_MONITOR: Final = ("step_seconds", "monitor/")
"""Scalars that tell of the recording machine, not of the training."""
_QUEUE_FRAMES: Final = 100_000
"""No frame may be lost, however late the sender's thread gets its turn."""


class LostFramesError(Exception):
    """The client dropped frames or failed, so that the recording is not what training did."""


@dataclass(slots=True)
class Recorder:
    """A watch factory that keeps every frame; a later watch of the same rank is a later attempt."""

    every_step: bool
    folder: str
    sent: list[tuple[int, RecordingTransport]] = field(default_factory=list)

    def watch(self, model: Any, optimizer: Any = None, **settings: Any) -> foreshock.Watch:
        """As `foreshock.watch`."""
        transport, number = RecordingTransport(), len(self.sent)
        rank = int(settings.get("rank", 0))
        cadence = {"activation_every": 1, "activation_grad_every": 1} if self.every_step else {}
        self.sent.append((rank, transport))
        return foreshock.watch(
            model,
            optimizer,
            **{
                **cadence,
                "run_id": "zoo",
                "attempt": 1 + number,
                "spool_dir": f"{self.folder}/{number}",
                "queue_frames": _QUEUE_FRAMES,
                "batch_frames": 64,
                "histogram_every": 0,
                "overhead_budget": 0.0,
                "close_timeout_seconds": 60.0,
                **settings,
            },
            transport=transport,
        )

    def trace(self) -> Trace:
        """What was sent so far, as one trace. Ranks stand beside one another, with a prefix."""
        ranks = sorted({rank for rank, _ in self.sent})
        traces = {r: _joined([t for rank, t in self.sent if rank == r]) for r in ranks}
        return traces[ranks[0]] if len(ranks) == 1 else _side_by_side(traces)


def train(scenario: Scenario, *, sick: bool, seed: int | None = None) -> Trace:
    """Train a scenario (`sick`) or its healthy twin from start to end and return the recording."""
    with tempfile.TemporaryDirectory(prefix="foreshock-zoo-") as folder:
        recorder = Recorder(every_step=scenario.every_step, folder=folder)
        num_steps = sum(1 for _ in scenario.play(recorder.watch, sick=sick, seed=seed))
        trace = recorder.trace()
    if len(trace.steps) < num_steps:
        raise LostFramesError(f"{scenario.name}: {len(trace.steps)} rows of {num_steps} steps")
    return trace


def _joined(attempts: list[RecordingTransport]) -> Trace:
    """The frames of one rank's attempts, one after another."""
    batches = [(i, t, b) for i, t in enumerate(attempts) for b in t.batches]
    errors = [e.data for t in attempts for e in t.events if e.kind == "client_error"]
    if errors:
        raise LostFramesError(f"the client failed: {errors[0]}")
    series: dict[tuple[str, str], dict[str, Any]] = {}
    for _, transport, batch in batches:
        if batch.schema is not None:
            schema = transport.schemas[batch.schema]
            for item, document in zip(schema.series, schema.to_json()["series"], strict=True):
                series.setdefault((item.kind, item.name), {}).update(document)
    names = list(dict.fromkeys(n for _, _, b in batches for n in b.scalar_names))
    names = [n for n in names if not n.startswith(_OF_THE_MONITOR)]
    names.sort(key=lambda n: n not in ("loss", "lr", "grad_norm"))
    keys = list(series)
    parts = [
        _rows(batch, transport, keys, names) for _, transport, batch in batches if len(batch.steps)
    ]
    announced = [
        {"step": e.step, "kind": e.kind, "text": str(e.data.get("text", e.data.get("path", "")))}
        for t in attempts
        for e in t.events
        if e.kind in ("note", "checkpoint")
    ]
    return Trace(
        steps=np.concatenate([b.steps for _, _, b in batches]).astype(np.int64),
        attempts=np.concatenate([np.full(len(b.steps), i, np.int64) for i, _, b in batches]),
        flags=np.concatenate([b.flags for _, _, b in batches]).astype(np.int64),
        scalar_names=tuple(names),
        scalars=np.concatenate([scalars for scalars, _, _ in parts]),
        logged=np.concatenate([logged for _, logged, _ in parts]),
        series=tuple(series.values()),
        stats=np.concatenate([stats for _, _, stats in parts]),
        announced=tuple(announced),
    )


def _rows(
    batch: FrameBatch,
    transport: RecordingTransport,
    keys: list[tuple[str, str]],
    names: list[str],
) -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Scalars and whether they were logged [n, names], and stats [n, keys, statistics], of one
    batch."""
    num = len(batch.steps)
    scalars, logged = np.full((num, len(names)), np.nan), np.zeros((num, len(names)), np.bool_)
    for column, name in enumerate(batch.scalar_names):
        if name in names:
            present = batch.scalar_present[:, column].astype(bool)
            scalars[present, names.index(name)] = batch.scalars[present, column]
            logged[present, names.index(name)] = True
    stats = np.full((num, len(keys), len(STATISTICS)), np.nan, np.float32)
    if batch.schema is not None:
        place = {key: i for i, key in enumerate(keys)}
        schema = transport.schemas[batch.schema]
        rows = [place[s.kind, s.name] for s in schema.series]
        stats[:, rows] = _with_derived(batch.stats)
    return scalars, logged, stats


def _with_derived(sent: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, Any]:
    """Columns of the wire [..., sent] as those of a trace [..., kept], derived ones included."""
    column = {name: sent[..., i].astype(np.float64) for i, name in enumerate(SENT)}
    finite = column["count"] - column["nan_count"] - column["inf_count"]
    with np.errstate(over="ignore"):
        column["rms"] = np.sqrt(column["mean"] ** 2 + column["std"] ** 2)
        column["l2"] = column["rms"] * np.sqrt(finite)
        column["abs_max"] = np.maximum(np.abs(column["min"]), np.abs(column["max"]))
        kept = np.stack([column[name] for name in STATISTICS], axis=-1)
        limit = np.finfo(np.float32).max
        return np.clip(kept, -limit, limit).astype(np.float32)


def _side_by_side(traces: dict[int, Trace]) -> Trace:
    """Ranks as one trace: series get the prefix `rank0/`, scalars the suffix `_rank0`; the loss is
    the mean over ranks, the learning rate and the gradient norm are those of the first."""
    first = next(iter(traces.values()))
    columns = {"loss": np.mean([t.losses for t in traces.values()], axis=0)}
    columns |= {name: first.scalar(name) for name in ("lr", "grad_norm")}
    logged = {name: first.logged_scalar(name) for name in columns}
    logged["loss"] = np.all([t.logged_scalar("loss") for t in traces.values()], axis=0)
    for rank, trace in traces.items():
        if not np.array_equal(trace.steps, first.steps):
            raise LostFramesError(f"rank {rank} has other steps than rank {min(traces)}")
        for name in trace.scalar_names:
            columns[f"{name}_rank{rank}"] = trace.scalar(name)
            logged[f"{name}_rank{rank}"] = trace.logged_scalar(name)
    return Trace(
        steps=first.steps,
        attempts=first.attempts,
        flags=first.flags,
        scalar_names=tuple(columns),
        scalars=np.stack(list(columns.values()), axis=1),
        logged=np.stack([logged[name] for name in columns], axis=1),
        series=tuple(
            {**s, "name": f"rank{rank}/{s['name']}"} for rank, t in traces.items() for s in t.series
        ),
        stats=np.concatenate([t.stats for t in traces.values()], axis=1),
        announced=first.announced,
    )
