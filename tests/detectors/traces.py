"""Generated runs of a small block network, healthy until a test breaks one series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from foreshock.wire import STATISTICS, FrameFlag, Series, SeriesSchema
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Incident, IncidentChange
from foreshock_service.pipeline.session import DetectionSession

MODULES = ("attn.qkv", "attn.proj", "mlp.up", "mlp.down")
COLUMN = {name: i for i, name in enumerate(STATISTICS)}
SIZES = ("std", "min", "max")
ALL = FrameFlag(0b11111 << 8)


def block_schema(num_blocks: int = 3) -> SeriesSchema:
    """Blocks of four linear layers and a head, measured as every kind but activation gradients."""
    names = [f"blocks.{b}.{m}" for b in range(num_blocks) for m in MODULES] + ["head"]
    return SeriesSchema(
        tuple(
            Series(
                name=name if kind == "activation" else f"{name}.weight",
                kind=kind,
                module_type="Linear",
                depth=depth,
                numel=1024,
                dtype="float32",
                shape=(32, 32),
            )
            for kind in ("activation", "gradient", "weight", "update")
            for depth, name in enumerate(names)
        )
    )


@dataclass(slots=True)
class Trace:
    """A run as arrays: stats [rows, series, statistics], scalars by name [rows]."""

    schema: SeriesSchema
    stats: npt.NDArray[np.float32]
    scalars: dict[str, npt.NDArray[np.float64]]
    steps: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint32]
    missing: set[tuple[str, int]] = field(default_factory=set)
    facts: RunFacts = field(default_factory=RunFacts)

    def index(self, series: str) -> int:
        """Where `kind:name` is among the series."""
        keys = [f"{s.kind}:{s.name}" for s in self.schema.series]
        return keys.index(series)

    def names(self, kind: str) -> list[str]:
        """Every `kind:name` of a kind, in the order of depth."""
        return [f"{s.kind}:{s.name}" for s in self.schema.series if s.kind == kind]

    def describe(self, series: str, **fields: Any) -> None:
        """Change what the schema says of a series: its name, module type, number format."""
        items = list(self.schema.series)
        index = self.index(series)
        items[index] = replace(items[index], **fields)
        self.schema = replace(self.schema, series=tuple(items))

    def drop(self, series: str) -> None:
        """Leave a series out of the schema, as one that nobody watches."""
        index = self.index(series)
        items = self.schema.series
        self.schema = replace(self.schema, series=items[:index] + items[index + 1 :])
        self.stats = np.delete(self.stats, index, axis=1)

    def scale(self, series: str, factor: npt.NDArray[np.float64] | float, first: int = 0) -> None:
        """Multiply a series' size from a row on."""
        for name in SIZES:
            self.stats[first:, self.index(series), COLUMN[name]] *= factor

    def put(self, series: str, statistic: str, value: Any, rows: slice) -> None:
        """Set one statistic of a series."""
        self.stats[rows, self.index(series), COLUMN[statistic]] = value

    def frames(self) -> Iterator[Frame]:
        """The rows, in order."""
        for row, step in enumerate(self.steps):
            yield Frame(
                ord=row,
                attempt=0,
                step=int(step),
                wall_time=float(row),
                flags=FrameFlag(int(self.flags[row])),
                scalars={
                    name: float(values[row])
                    for name, values in self.scalars.items()
                    if (name, row) not in self.missing
                },
                stats=self.stats[row],
                schema=self.schema,
            )


def healthy(num_rows: int = 200, *, seed: int = 0, num_blocks: int = 3) -> Trace:
    """Levels that wander a little, updates of a hundredth of the weights, a loss that falls from 5
    to 2 with noise."""
    rng = np.random.default_rng(seed)
    schema = block_schema(num_blocks)
    shape = (num_rows, len(schema.series))
    level = np.exp(rng.normal(0, 0.3, len(schema.series)))
    size = level * np.exp(rng.normal(0, 0.05, shape))
    # A weight changes by its update and no more, so weights stand still here.
    weights = np.array([series.kind == "weight" for series in schema.series])
    size[:, weights] = level[weights]
    size[:, [series.kind == "update" for series in schema.series]] *= 1e-2
    stats = np.zeros((*shape, len(STATISTICS)), np.float32)
    stats[:, :, COLUMN["count"]] = 1024
    stats[:, :, COLUMN["std"]] = size
    stats[:, :, COLUMN["min"]] = -4 * size
    stats[:, :, COLUMN["max"]] = 4 * size
    steps = np.arange(num_rows)
    loss = 2 + 3 * np.exp(-steps / 50) + rng.normal(0, 0.03, num_rows)
    return Trace(schema, stats, {"loss": loss}, steps, np.full(num_rows, int(ALL), np.uint32))


def changes_of(frames: Trace | Iterable[Frame]) -> list[IncidentChange]:
    """Everything that would be told of a run."""
    facts = frames.facts if isinstance(frames, Trace) else None
    session = DetectionSession(facts=facts)
    rows = frames.frames() if isinstance(frames, Trace) else frames
    return [change for frame in rows for change in session.push(frame).changes]


def findings_of(trace: Trace) -> list[tuple[Finding, int]]:
    """The kept findings of a run."""
    session = DetectionSession(facts=trace.facts)
    return [item for frame in trace.frames() for item in session.push(frame).findings]


def only(detector: str) -> EngineConfig:
    """Every other detector left out."""
    return EngineConfig(disabled=frozenset(DETECTORS.keys() - {detector}))


def told_by(detector: str, frames: Trace | Iterable[Frame]) -> list[Finding]:
    """What one detector says of a run: the first finding of each kind and series an incident."""
    facts = frames.facts if isinstance(frames, Trace) else None
    session = DetectionSession(only(detector), facts)
    rows = frames.frames() if isinstance(frames, Trace) else frames
    return [finding for frame in rows for finding, _ in session.push(frame).findings]


def names_of(findings: Iterable[Finding], trace: Trace) -> list[str]:
    """The series that findings are about, as `kind:name`; those about the run are left out."""
    series = trace.schema.series
    return [
        f"{series[f.series].kind}:{series[f.series].name}" for f in findings if f.series is not None
    ]


def opened(frames: Trace | Iterable[Frame]) -> list[Incident]:
    """The incidents of a run as they opened."""
    return [c.incident for c in changes_of(frames) if c.transition == "opened"]


def renamed(trace: Trace) -> Trace:
    """The same run under other names, the structure kept."""
    series = tuple(
        replace(s, name=s.name.replace("mlp", "ffn").replace("blocks", "h"))
        for s in trace.schema.series
    )
    return replace(trace, schema=SeriesSchema(series))
