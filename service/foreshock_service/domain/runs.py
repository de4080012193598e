"""A run and what is known of it: its attempts, its newest frame, the events on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt


class RunStatus(StrEnum):
    """`running` until the client says that it finished or crashed. A run that sends nothing stays
    `running`: that it is silent is told by an incident."""

    RUNNING = "running"
    FINISHED = "finished"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training, over all its attempts. Times are seconds since the epoch.

    `finished_at` is set by the client's own word, and None while it has not said that it ended.
    """

    run_id: str
    name: str
    project: str
    status: RunStatus
    created_at: float
    heard_at: float
    finished_at: float | None
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a run; `first_step` is the smallest step it has sent."""

    attempt: int
    started_at: float
    first_step: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunHead:
    """The newest frame of one rank; `step` is None while it has sent none.

    `stats` is float32 [series, statistics] of the schema `schema_hash`: for each series the last
    frame on which it was measured. None without a schema, or where the query left it out.
    """

    run_id: str
    rank: int
    next_ord: int
    compacted_ord: int
    attempt: int
    step: int | None
    wall_time: float | None
    schema_hash: str | None
    host: str
    device: str
    scalars: Mapping[str, float]
    counters: Mapping[str, float]
    stats: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run, as the client told it."""

    event_id: int
    rank: int
    attempt: int
    kind: str
    step: int | None
    wall_time: float
    data: Mapping[str, Any]
