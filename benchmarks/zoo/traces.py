"""A recorded run as arrays, and its two files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FORMAT: Final = "foreshock-trace-1"
STATISTICS: Final = (
    "mean",
    "std",
    "rms",
    "l2",
    "abs_max",
    "min",
    "max",
    "zero_frac",
    "nan_count",
    "inf_count",
    "kurtosis",
    "underflow_frac",
    "overflow_frac",
    "batch_std",
    "inactive_unit_frac",
)
"""The columns of `stats`: the wire's, but for `count`, with the three that readers derive."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """One run, a row a step, in order of time.

    Shapes: steps, attempts, flags [T]; scalars [T, K], NaN where not `logged` [T, K]; stats
    [T, N, S], NaN in every column where a tensor was not measured or did not exist. `announced` are
    the notes and checkpoints that the training told, each a step, a kind and a text.
    """

    steps: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]
    scalar_names: tuple[str, ...]
    scalars: Floats
    logged: npt.NDArray[np.bool_]
    series: tuple[dict[str, Any], ...]
    stats: npt.NDArray[np.float32]
    announced: tuple[dict[str, Any], ...] = field(default=())

    @property
    def losses(self) -> Floats:
        """The loss of each row."""
        return self.scalar("loss")

    def scalar(self, name: str) -> Floats:
        """One scalar of each row; raises ValueError if the run has none of that name."""
        return self.scalars[:, self.scalar_names.index(name)]

    def logged_scalar(self, name: str) -> npt.NDArray[np.bool_]:
        """Whether one scalar was logged, of each row."""
        return self.logged[:, self.scalar_names.index(name)]

    def statistic(self, series: str, statistic: str) -> Floats:
        """One statistic of `kind:name` on each row; raises KeyError if there is no such series."""
        keys = [f"{s['kind']}:{s['name']}" for s in self.series]
        if series not in keys:
            raise KeyError(f"no series {series!r}; there are {', '.join(keys)}")
        column = STATISTICS.index(statistic)
        return self.stats[:, keys.index(series), column].astype(np.float64)

    def names_in(self, module: str) -> list[str]:
        """Names of the series of a module and of what it contains."""
        inside = f"{module}."
        found = [s["name"] for s in self.series if f"{s['name']}.".startswith(inside)]
        return list(dict.fromkeys(found))


def write_trace(trace: Trace, about: dict[str, Any], folder: Path) -> None:
    """Write `ID.npz` and `ID.json`; the second comes last, so that it stands for a whole run."""
    base = folder / str(about["id"])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        base.with_name(f"{base.name}.npz"),
        step=trace.steps,
        attempt=trace.attempts,
        flags=trace.flags,
        scalars=trace.scalars,
        logged=trace.logged,
        stats=np.asfortranarray(ten_bits(trace.stats)),
    )
    document = {
        "format": FORMAT,
        **about,
        "log_every": 1,
        "scalars": list(trace.scalar_names),
        "stat_names": list(STATISTICS),
        "series": list(trace.series),
        "announced": list(trace.announced),
    }
    base.with_name(f"{base.name}.json").write_text(json.dumps(document, indent=1))


def ten_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Round to 10 mantissa bits (a relative error of 2^-11): four times smaller once compressed,
    and finer than any rule or detector looks."""
    limit = np.float32(3.4e38)
    bits = np.clip(values, -limit, limit).astype(np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0xFFF)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(values), rounded, values).astype(np.float32)
