"""A recorded run as arrays: what transforms and splices change, and what every method reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from foreshock.wire import FrameFlag, SeriesSchema
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.frames import Frame

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """One run, a row a frame, in order of time; never written into.

    Shapes: steps, attempts, flags [T]; `stats` float32 [T, N, S] in the columns of the schema;
    `scalars` holds [T] by name, and `logged` says on which rows [T] a value was logged at all.
    """

    id: str
    schema: SeriesSchema
    facts: RunFacts
    steps: Integers
    attempts: Integers
    flags: Integers
    scalars: Mapping[str, Floats]
    logged: Mapping[str, npt.NDArray[np.bool_]]
    stats: npt.NDArray[np.float32]

    @property
    def num_rows(self) -> int:
        """How many frames there are."""
        return len(self.steps)

    def keys(self) -> list[str]:
        """`kind:name` of each series."""
        return [f"{s.kind}:{s.name}" for s in self.schema.series]

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """The rows from `first` on, as detectors get them."""
        for row in range(first, self.num_rows):
            yield Frame(
                ord=row,
                attempt=int(self.attempts[row]),
                step=int(self.steps[row]),
                wall_time=float(row),
                flags=FrameFlag(int(self.flags[row])),
                scalars={
                    name: float(values[row])
                    for name, values in self.scalars.items()
                    if self.logged[name][row]
                },
                stats=self.stats[row],
                schema=self.schema,
            )


def recording_of(run_id: str, frames: Iterable[Frame], facts: RunFacts) -> Recording:
    """Stack frames; the schema is that of the widest, to which narrower ones are aligned.

    Raises:
        ValueError: there is no frame.
    """
    rows = list(frames)
    if not rows:
        raise ValueError(f"{run_id} has no rows")
    schema = max((frame.schema for frame in rows), key=lambda s: len(s.series))
    names = list(dict.fromkeys(name for frame in rows for name in frame.scalars))
    place = {(s.kind, s.name): i for i, s in enumerate(schema.series)}
    stats = np.full((len(rows), len(place), len(schema.statistics)), np.nan, np.float32)
    for row, frame in enumerate(rows):
        if frame.schema.series == schema.series:
            stats[row] = frame.stats
            continue
        for index, series in enumerate(frame.schema.series):
            if (series.kind, series.name) in place:
                stats[row, place[series.kind, series.name]] = frame.stats[index]
    missing = float("nan")
    return Recording(
        id=run_id,
        schema=schema,
        facts=facts,
        steps=np.array([f.step for f in rows], np.int64),
        attempts=np.array([f.attempt for f in rows], np.int64),
        flags=np.array([int(f.flags) for f in rows], np.int64),
        scalars={n: np.array([f.scalars.get(n, missing) for f in rows]) for n in names},
        logged={n: np.array([n in f.scalars for f in rows]) for n in names},
        stats=stats,
    )
