"""Rules that find the step at which something became true of a run, with full knowledge of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.zoo.traces import Floats, Trace


class Rule(Protocol):
    """A written definition: the first row on which it holds, None if it never does."""

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """Look for it in `run`; `twin` is the healthy training beside it."""

    def __str__(self) -> str:
        """The definition in words, for the label."""


def first_sustained(
    holds: npt.NDArray[np.bool_], rows: npt.NDArray[np.intp], *, num: int
) -> int | None:
    """The first of `rows` from which `holds` is true on `num` measured rows one after another."""
    run_length = 0
    for i, true in enumerate(holds):
        run_length = run_length + 1 if true else 0
        if run_length == num:
            return int(rows[i - num + 1])
    return None


def values_of(trace: Trace, series: str, statistic: str) -> Floats:
    """A statistic of `kind:name` on each row, or a scalar where there is no colon."""
    return trace.statistic(series, statistic) if ":" in series else trace.scalar(series)


def _measured(values: Floats) -> npt.NDArray[np.intp]:
    return np.flatnonzero(~np.isnan(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Crosses:
    """A statistic of `series` (`kind:name`) goes beyond a bound and stays for `num` measured rows.

    A scalar is meant where `series` has no colon.
    """

    series: str
    statistic: str = "rms"
    above: float | None = None
    below: float | None = None
    num: int = 5
    since: int = 0

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """See `Rule`."""
        values = values_of(run, self.series, self.statistic)
        rows = _measured(values)
        rows = rows[run.steps[rows] >= self.since]
        beyond = np.zeros(len(rows), bool)
        if self.above is not None:
            beyond |= values[rows] > self.above
        if self.below is not None:
            beyond |= values[rows] < self.below
        return first_sustained(beyond, rows, num=self.num)

    def __str__(self) -> str:
        what = self.series if ":" not in self.series else f"{self.statistic} of {self.series}"
        bounds = [f"above {self.above:g}"] if self.above is not None else []
        bounds += [f"below {self.below:g}"] if self.below is not None else []
        since = f" from step {self.since} on" if self.since else ""
        return f"{what} is {' or '.join(bounds)} on {self.num} measured rows{since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavesTwin:
    """A statistic of `series` is `factor` times, or a `factor`-th of, what it is in the twin.

    A scalar is meant where `series` has no colon.
    """

    series: str
    statistic: str = "rms"
    factor: float = 3.0
    num: int = 3

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """See `Rule`."""
        mine, other = (values_of(t, self.series, self.statistic) for t in (run, twin))
        return _leaves(mine, other, factor=self.factor, num=self.num)

    def __str__(self) -> str:
        what = f"{self.statistic} of {self.series}" if ":" in self.series else self.series
        return (
            f"{what} is {self.factor:g} times or 1/{self.factor:g} of "
            f"the healthy twin's on {self.num} measured rows"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoProgress:
    """The loss stays above `level` for good, though the twin's falls below it."""

    level: float
    after: int

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """See `Rule`."""
        late = run.steps >= self.after
        if not late.any() or np.nanmin(running_median(run.losses)) < self.level:
            return None
        return int(np.flatnonzero(late)[0])

    def __str__(self) -> str:
        return (
            f"{self.after} steps are over and the running median of the loss never falls below "
            f"{self.level:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFinite:
    """The loss or an element of a measured tensor is NaN or infinite."""

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """See `Rule`."""
        from_loss = ~np.isfinite(run.losses)
        counts = run.stats[:, :, 8:10]
        inside = (np.nan_to_num(counts) > 0).any(axis=(1, 2))
        rows = np.flatnonzero(from_loss | inside)
        return int(rows[0]) if len(rows) else None

    def __str__(self) -> str:
        return "the loss, or an element of a measured tensor, is NaN or infinite"


@dataclass(frozen=True, slots=True, kw_only=True)
class SomethingLeavesTwin:
    """The loss leaves the twin's band, or some size in `modules` (none: anywhere) leaves its own.

    The proof of a planted fault for which no sharper one is written.
    """

    modules: tuple[str, ...] = ()
    factor: float = 2.0

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """See `Rule`."""
        found: list[int] = []
        if len(rows := np.flatnonzero(outside_band(run, twin))):
            found.append(int(rows[0]))
        names = {n for module in self.modules for n in run.names_in(module)}
        for series in run.series:
            if self.modules and series["name"] not in names:
                continue
            key = f"{series['kind']}:{series['name']}"
            try:
                mine, other = run.statistic(key, "rms"), twin.statistic(key, "rms")
            except KeyError:
                continue
            row = _leaves(mine, other, factor=self.factor, num=1)
            if row is not None:
                found.append(row)
        return min(found) if found else None

    def __str__(self) -> str:
        where = f"a series of {', '.join(self.modules)}" if self.modules else "a series"
        return f"the loss leaves the twin's band, or {where} is {self.factor:g} times the twin's"


def _leaves(mine: Floats, other: Floats, *, factor: float, num: int) -> int | None:
    length = min(len(mine), len(other))
    mine, other = mine[:length], other[:length]
    rows = np.flatnonzero(~np.isnan(mine) & ~np.isnan(other))
    low, high = np.minimum(mine[rows], other[rows]), np.maximum(mine[rows], other[rows])
    return first_sustained(high > factor * low, rows, num=num)


def running_median(values: Floats, *, num_before: int = 10, num_after: int = 10) -> Floats:
    """The median around each row, over what there is at the ends, of the finite values."""
    out = np.empty(len(values))
    for i in range(len(values)):
        near = values[max(0, i - num_before) : i + num_after + 1]
        near = near[np.isfinite(near)]
        out[i] = np.median(near) if len(near) else np.nan
    return out


def upper_band(losses: Floats) -> Floats:
    """What a healthy twin's loss still reaches: its running median and six robust spreads of its
    own noise around it, at least 15 % of the level. The spread is local, over 81 rows."""
    level = running_median(losses)
    spread = 1.4826 * running_median(np.abs(losses - level), num_before=40, num_after=40)
    band: Floats = level + np.maximum(6 * spread, 0.15 * np.abs(level))
    return band


def outside_band(run: Trace, twin: Trace) -> npt.NDArray[np.bool_]:
    """On which rows the loss is above the twin's band and above the twin's own loss on that very
    batch, or not finite where the twin's is. Beyond the twin's end a row is inside."""
    length = min(len(run.losses), len(twin.losses))
    outside = np.zeros(len(run.losses), bool)
    losses, healthy = run.losses[:length], twin.losses[:length]
    band = np.maximum(upper_band(twin.losses)[:length], healthy)
    with np.errstate(invalid="ignore"):
        outside[:length] = (losses > band) | (~np.isfinite(losses) & np.isfinite(healthy))
    return outside


def three_of_five(holds: npt.NDArray[np.bool_], rows: Sequence[int]) -> int | None:
    """The first of `rows` on which `holds`, with two more in the four rows behind it."""
    for row in rows:
        if holds[row] and int(holds[row : row + 5].sum()) >= 3:
            return row
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarsDiffer:
    """Two scalars that must be equal to the bit are not."""

    first: str
    second: str

    def first_row(self, run: Trace, twin: Trace) -> int | None:
        """See `Rule`."""
        differ = run.scalar(self.first) != run.scalar(self.second)
        rows = np.flatnonzero(differ)
        return int(rows[0]) if len(rows) else None

    def __str__(self) -> str:
        return f"{self.first} and {self.second} are not the same to the bit"
