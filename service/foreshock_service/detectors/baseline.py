"""Baselines: each series' own normal, on a log scale, learned online.

Per series and statistic (rms, abs_max) of the base-2 logarithm x:

    centre   average over about 48 measured rows, of values winsorised at 4 scales
    scale    spread around the centre, as a standard deviation
    slow     the same average over about 256 rows: what a slow growth is measured against
    fast     the same over 8 rows, and `middle` over 48: where the series is going; these two follow
             the series even while the rest is frozen, since they are no normal
    noise    spread of the difference of neighbouring rows: a trend does not widen it

All are running averages whose weight is 1/n while a series is young. Winsorising bounds what one
row can do (an outlier moves the centre by 4 scales / 48), and only finite, non-zero values of
measured rows are learned, so that neither NaN nor an absent tensor can poison a baseline. State is
a few arrays, so a row costs microseconds per thousand series, and a restart loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from foreshock.wire import Series, SeriesSchema

from foreshock_service.detectors.games import is_game
from foreshock_service.detectors.layout import Layout, layout_of
from foreshock_service.detectors.per_names import PerNames
from foreshock_service.detectors.progress import Progress
from foreshock_service.detectors.row import Bools, Floats, Row, absent_row, all_of, any_of, row_of
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.frames import Frame

T = TypeVar("T")

CHANNELS: Final = ("rms", "abs_max")
RMS, ABS_MAX = 0, 1

FAST_ROWS: Final = 8
CENTRE_ROWS: Final = 48
SLOW_ROWS: Final = 256
YOUNG_ROWS: Final = 8
"""Below this many rows nothing is winsorised: the first scale is not known yet."""
START_ROWS: Final = 20
"""Rows that make up the level a series started from."""
SCALE_FLOOR: Final = 0.02
"""In octaves (1.4 %): below it the scale is rounding, and dividing by it would be a false alarm."""
WINSOR_SCALES: Final = 4.0

NOBODY: Final[Bools] = np.zeros(0, np.bool_)

_LEARNED: Final = ("count", "centre", "scale", "slow", "noise", "last", "start", "peak")
_FIELDS: Final = (*_LEARNED, "seen", "fast", "middle")
_PLAIN_FIELDS: Final = ("zero_count", "zero_start", "unit_start")


class Baselines:
    """The baselines of one run and rank. `read` a frame, look, then `learn` it.

    Arrays are [channel, series] in the order of the newest schema, NaN where a series has not been
    seen. `row` and `layout` are those of the frame read last, `facts` what the run said of itself.
    """

    layout: Layout
    row: Row

    def __init__(self, facts: RunFacts | None = None) -> None:
        self.facts = facts or RunFacts()
        self.progress = Progress()
        self._keys: tuple[tuple[str, str], ...] = ()
        self._schema: SeriesSchema | None = None
        self._values: dict[str, Floats] = {name: np.zeros((2, 0)) for name in _FIELDS}
        self._plain: dict[str, Floats] = {name: np.zeros(0) for name in _PLAIN_FIELDS}
        self._frozen: Bools = NOBODY
        self._derived: dict[str, Any] = {}
        self._above: dict[tuple[str, int], Floats] = {}
        self._names_a_game = PerNames(is_game)
        self._first_step = 0
        self.num_rows = 0
        self.is_game = False
        """By what was logged so far: then a loss that stays, or a level that runs away, means
        little."""

    def read(self, frame: Frame) -> Row:
        """Take a frame up without learning from it; series are matched by kind and name."""
        self._forget_row()
        if self.num_rows == 0:
            self._first_step = frame.step
        self.is_game = self.is_game or self._names_a_game.of(frame.scalars)
        self.progress.follow(frame.scalars.get("loss"))
        if frame.schema.series or not self._keys:
            if frame.schema is not self._schema:
                self._align(layout_of(frame.schema))
                self._schema = frame.schema
            self.row = row_of(frame, self.layout)
        else:
            # A frame of scalars only: nothing was measured, and nothing is forgotten.
            if self._schema is None:
                self.layout = layout_of(_placeholder(self._keys))
            self.row = absent_row(self.layout)
        return self.row

    def is_joined(self, first_step: int) -> bool:
        """Whether the first row that was read lies beyond a step. What such a run has learned
        before nobody knows, so nor what it still needs."""
        return self._first_step > first_step

    def value(self, name: str, channel: int = RMS) -> Floats:
        """One learned quantity [series]: `count`, `centre`, `scale`, `slow`, `fast`, `start`..."""
        values: Floats = self._values[name][channel]
        return values

    def logs(self, channel: int = RMS) -> Floats:
        """log2 of the row's values [series]."""
        logs: Floats = self.row.logs[channel]
        return logs

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What several rules derive from the row, computed by the first; not to be written into."""
        if name not in self._derived:
            self._derived[name] = compute()
        found: T = self._derived[name]
        return found

    def deviation(self, channel: int = RMS) -> Floats:
        """Octaves above the centre [series]; NaN while a series is unknown or not measured."""
        return self._above_average("centre", channel)

    def largest_deviation(self) -> float:
        """Of all series: most rows have none that is far, and then no rule needs to look."""
        return self.once(
            "largest deviation", lambda: float(np.fmax.reduce(self.deviation(), initial=-math.inf))
        )

    def growth(self, channel: int = RMS) -> Floats:
        """Octaves above the slow centre [series]."""
        return self._above_average("slow", channel)

    def slope(self, channel: int = RMS) -> Floats:
        """Octaves a measured row, from the lag between the averages: n rows lag a ramp by n."""
        rows = CENTRE_ROWS - FAST_ROWS
        return (self.value("fast", channel) - self.value("middle", channel)) / rows

    def significance(self, channel: int = RMS) -> Floats:
        """Deviation in scales [series], with a floor under the scale."""
        return self.deviation(channel) / np.maximum(self.value("scale", channel), SCALE_FLOOR)

    @property
    def zero_start(self) -> Floats:
        """Mean share of zeros over a series' first rows [series]."""
        return self._plain["zero_start"]

    @property
    def unit_start(self) -> Floats:
        """Mean share of inactive units over a series' first rows [series]."""
        return self._plain["unit_start"]

    @property
    def zero_count(self) -> Floats:
        """Measured rows behind `zero_start` and `unit_start`, at most START_ROWS [series]."""
        return self._plain["zero_count"]

    def freeze(self, mask: Bools | None) -> None:
        """Series that learn nothing until told otherwise, or an open incident becomes normal."""
        self._frozen = NOBODY if mask is None else mask.copy()

    def relearn(self, mask: Bools) -> None:
        """Let series move to a new normal fast, as young ones do: it changed on purpose."""
        count, peak = self._values["count"], self._values["peak"]
        np.copyto(count, np.minimum(count, YOUNG_ROWS), where=mask)
        np.copyto(peak, np.nan, where=mask)
        self._forget_row()

    def accept(self, mask: Bools) -> None:
        """Take the levels of the newest rows for normal, and learn on as young ones do."""
        for name in ("centre", "slow"):
            known = mask & np.isfinite(self._values["fast"])
            np.copyto(self._values[name], self._values["fast"], where=known)
        self.relearn(mask)

    def learn(self, hold: Bools | None = None) -> None:
        """Absorb the row read last, except for frozen series and those in `hold` [series]."""
        skip = self._frozen if self._frozen.shape == self.row.measured.shape else None
        keep = ~self.row.bad
        for mask in (skip, hold):
            if mask is not None:
                keep &= ~mask
        logs, known = self.row.logs, self.row.known
        self._follow(logs, known)
        self._learn_levels(logs, known & keep)
        self._learn_zeros(keep)
        self._forget_row()
        self.num_rows += 1

    def snapshot(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 [series, 2]: centre and scale of log2 rms, for the deviation colours."""
        centre, scale = self.value("centre"), self.value("scale")
        unknown = self.value("count") < YOUNG_ROWS
        pair = np.stack([centre, np.maximum(scale, SCALE_FLOOR)], axis=1)
        pair[unknown] = np.nan
        return pair.astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "keys": [list(key) for key in self._keys],
            "run": [self.num_rows, self._first_step, int(self.is_game)],
            "progress": self.progress.state(),
            "frozen": self._frozen,
            "values": {name: array.T for name, array in self._values.items()},
            "plain": dict(self._plain),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; the next frame's schema may differ from the one it was saved under."""
        self._keys = tuple((kind, name) for kind, name in state["keys"])
        self.num_rows, self._first_step, is_game = (int(n) for n in state["run"])
        self.is_game = bool(is_game)
        self.progress.restore(state["progress"])
        self._frozen = state["frozen"].astype(np.bool_)
        self._values = {name: np.array(state["values"][name].T, order="C") for name in _FIELDS}
        self._plain = {name: state["plain"][name].copy() for name in _PLAIN_FIELDS}
        self._schema = None

    def _above_average(self, name: str, channel: int) -> Floats:
        """The row's logs above a learned average; a dozen rules ask for it."""
        found = self._above.get((name, channel))
        if found is None:
            found = self.logs(channel) - self.value(name, channel)
            self._above[name, channel] = found
        return found

    def _forget_row(self) -> None:
        """What was worked out from the row and the averages is out of date."""
        self._derived = {}
        self._above = {}

    def _align(self, layout: Layout) -> None:
        self.layout = layout
        if layout.keys == self._keys:
            return
        old = {key: i for i, key in enumerate(self._keys)}
        source = np.array([old.get(key, -1) for key in layout.keys], np.int64)
        known = source >= 0
        for values in (self._values, self._plain):
            for name, array in values.items():
                empty = 0.0 if name in ("seen", "count", "zero_count") else np.nan
                moved = np.full((*array.shape[:-1], layout.num_series), empty)
                moved[..., known] = array[..., source[known]]
                values[name] = moved
        frozen = np.zeros(layout.num_series, np.bool_)
        if self._frozen.size == len(self._keys):
            frozen[known] = self._frozen[source[known]]
        self._frozen = frozen
        self._keys = layout.keys

    def _follow(self, logs: Floats, known: Bools) -> None:
        """`fast` and `middle`; series that are not known take part with a weight of zero."""
        seen = self._values["seen"]
        fresh = seen == 0
        all_known = all_of(known)
        if any_of(fresh):
            fresh &= known
            for name in ("fast", "middle"):
                np.copyto(self._values[name], logs, where=fresh)
        seen += known
        least = _least(seen)
        for name, rows in (("fast", FAST_ROWS), ("middle", CENTRE_ROWS)):
            step = logs - self._values[name]
            if not all_known:
                step[~known] = 0.0
            step *= _weight(seen, rows, least)
            self._values[name] += step

    def _learn_levels(self, logs: Floats, learns: Bools) -> None:
        """Series that do not learn take part with a weight of zero, which is faster than a mask."""
        v = self._values
        count, centre, scale, noise = v["count"], v["centre"], v["scale"], v["noise"]
        young = count < YOUNG_ROWS
        any_young = any_of(young)
        if any_young:
            first = learns & (count == 0)
            if any_of(first):
                for name in ("centre", "slow", "last"):
                    np.copyto(v[name], logs, where=first)
                for name in ("scale", "noise"):
                    np.copyto(v[name], 0.0, where=first)
        # On most rows all learn, and numpy is several times faster without a mask than with one.
        who: bool | Bools = True
        if not all_of(learns):
            who = learns
            logs = np.where(learns, logs, centre)
        limit = np.maximum(scale, SCALE_FLOOR)
        limit *= WINSOR_SCALES
        if any_young:
            limit[young] = np.inf
        residual = logs - centre
        np.maximum(residual, -limit, out=residual)
        np.minimum(residual, limit, out=residual)
        count += who
        least = _least(count)
        weight = _weight(count, CENTRE_ROWS, least) * who
        # Mean absolute deviation to standard deviation of a normal: sqrt(pi / 2). The same of a
        # difference of two: another sqrt(2) less.
        for average, factor, size in (
            (scale, 1.2533, np.abs(residual)),
            (noise, 0.8862, np.minimum(np.abs(logs - v["last"]), limit)),
        ):
            size *= factor
            size -= average
            size *= weight
            average += size
        centre += weight * residual
        bounded = np.add(centre, residual, out=residual)
        v["slow"] += _weight(count, SLOW_ROWS, least) * who * (bounded - v["slow"])
        level = np.where(young, logs, bounded) if any_young else bounded
        np.fmax(v["peak"], level, out=v["peak"], where=who)
        np.copyto(v["last"], logs, where=who)
        starting = count <= START_ROWS
        if any_of(starting):
            np.copyto(v["start"], centre, where=starting & learns)

    def _learn_zeros(self, keep: Bools) -> None:
        young = keep & (self.zero_count < START_ROWS)
        if not any_of(young):
            return
        zeros, units = self.row.zero_frac, self.row.inactive_unit_frac
        which = np.flatnonzero(young & np.isfinite(zeros))
        if not which.size:
            return
        count = self._plain["zero_count"][which]
        for name, values in (("zero_start", zeros), ("unit_start", units)):
            old = self._plain[name][which]
            old = np.where(count == 0, values[which], old)
            self._plain[name][which] = old + (values[which] - old) / (count + 1)
        self._plain["zero_count"][which] = count + 1


def _least(rows: Floats) -> float:
    return float(np.minimum.reduce(rows, axis=None, initial=math.inf))


def _weight(rows: Floats, num_rows: int, least: float) -> float | Floats:
    """That of the newest of `rows` in an average over the last `num_rows` of them; `least` is the
    smallest of `rows`, for on most rows all have as many, and then a number does."""
    if least >= num_rows:
        return 1.0 / num_rows
    return np.asarray(1.0 / np.minimum(np.maximum(rows, 1.0), num_rows))


def _placeholder(keys: tuple[tuple[str, str], ...]) -> SeriesSchema:
    """A schema that only has the series' names, until a frame brings the real one again."""
    return SeriesSchema(
        tuple(
            Series(name=name, kind=kind, module_type="", depth=0, numel=0, dtype="")
            for kind, name in keys
        )
    )
