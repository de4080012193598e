"""Replicas compared across ranks: the same weights of one step, as each rank has measured them.

`replica_divergence`: a weight that was the same on all ranks differs in mean, std, minimum or
maximum by more than 1e-5 of its rms, on 2 rows in a row. Data-parallel replicas are bit-identical,
and the same reducer gives bit-identical statistics of them; the slack is for ranks whose hardware
rounds sums in another order, and below what a missed update changes.

A weight counts as a replica once all ranks have agreed on it on 8 rows on which it had changed
since the row before. One that differs earlier is sharded (FSDP, tensor and expert parallelism) or
trained for itself, and is left out for the rest of the attempt; so is one that has another size on
another rank. A weight that never changes, such as a frozen one, is not compared.

Names the rank that most others disagree with, or all where there is no majority, and the weights
that departed first, by depth. Nobody is named when half of the compared weights depart at once.
Source: the invariant of synchronous data parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import SeriesSchema

from foreshock_service.detectors.emit import MAX_FINDINGS
from foreshock_service.domain.findings import Finding, Severity

NAME: Final = "ranks"

SLACK: Final = 1e-5
ROWS: Final = 2
AGREED_ROWS: Final = 8
GLOBAL_SHARE: Final = 0.5
MAX_LISTED: Final = 8
"""Ranks named in a sentence, with the number of others; `odd_ranks` are all of those."""
COMPARED: Final = ("mean", "std", "min", "max")

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class WeightRow:
    """The weights of one frame of one rank: `values` [weights, 5], `COMPARED` and the count, for
    the series `index` of `schema`."""

    attempt: int
    step: int
    ord: int
    schema: SeriesSchema
    values: Values
    names: tuple[str, ...]
    index: tuple[int, ...]


@dataclass(slots=True)
class _Known:
    """What is known of one weight: rows on which all agreed, whether it is sharded, the first
    step at which it was apart, its values on the row before, and rows in a row on which it was
    apart."""

    agreed: int = 0
    sharded: bool = False
    since: int | None = None
    before: tuple[float, ...] = ()
    rows: int = 0


class RankComparison:
    """Compares row after row; it forgets everything when the attempt or the ranks change."""

    def __init__(self) -> None:
        self._key: list[int] = []
        self._known: dict[str, _Known] = {}

    def push(self, rows: Mapping[int, WeightRow], hosts: Mapping[int, str]) -> list[Finding]:
        """Findings of one step that every rank has; the lowest rank's row stands for the step."""
        ranks = sorted(rows)
        base = rows[ranks[0]]
        key = [base.attempt, *ranks]
        if key != self._key:
            self._key, self._known = key, {}
        names, values = _aligned([rows[rank] for rank in ranks])
        if not names:
            return []
        apart = self._learn(names, values, base.step)
        if not apart:
            return []
        return self._findings(base, names, values, apart, ranks, hosts)

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as JSON values."""
        return {
            "key": self._key,
            "known": {
                name: [*(item.agreed, item.sharded, item.since, list(item.before), item.rows)]
                for name, item in self._known.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a state."""
        self._key = [int(part) for part in state["key"]]
        self._known = {
            name: _Known(int(agreed), bool(sharded), since, tuple(before), int(rows))
            for name, (agreed, sharded, since, before, rows) in state["known"].items()
        }

    def _learn(self, names: Sequence[str], values: Values, step: int) -> list[int]:
        """Take a row in; the replicas that are apart on it and were on the rows before."""
        spread = (values.max(axis=0) - values.min(axis=0)).max(axis=1)
        differs = spread > SLACK * _rms(values)
        apart = []
        for i, name in enumerate(names):
            known = self._known.setdefault(name, _Known())
            now = tuple(float(x) for x in values[0, i])
            moved = bool(known.before) and now != known.before
            known.before = now
            if known.sharded:
                continue
            if known.agreed < AGREED_ROWS:
                known.sharded = bool(differs[i])
                known.agreed += moved and not differs[i]
            elif differs[i]:
                known.since = step if known.since is None else known.since
                known.rows += 1
                if known.rows >= ROWS:
                    apart.append(i)
            else:
                known.since, known.rows = None, 0
        return apart

    def _findings(
        self,
        base: WeightRow,
        names: Sequence[str],
        values: Values,
        apart: list[int],
        ranks: list[int],
        hosts: Mapping[int, str],
    ) -> list[Finding]:
        # Earlier than this row: `since` is set on every weight that is apart.
        since = {i: self._known[names[i]].since or 0 for i in apart}
        first = min(since.values())
        num_compared = sum(
            1
            for name in names
            if self._known[name].agreed >= AGREED_ROWS and not self._known[name].sharded
        )
        place = dict(zip(base.names, base.index, strict=True))
        depth = {i: base.schema.series[place[names[i]]].depth for i in apart}
        order = sorted(apart, key=lambda i: (since[i], depth[i], place[names[i]]))
        together = sum(1 for i in apart if since[i] == first)
        everywhere = together > 1 and together >= GLOBAL_SHARE * num_compared
        odd = _odd(values[:, apart], ranks)
        listed = odd[:MAX_LISTED]
        more = f" and {len(odd) - MAX_LISTED} more" if len(odd) > MAX_LISTED else ""
        evidence: dict[str, float | int | str] = {
            "ranks": ", ".join(str(rank) for rank in listed) + more,
            "num_odd": len(odd),
            "num_ranks": len(ranks),
            "num_apart": len(apart),
            "num_compared": num_compared,
        }
        if more:
            evidence["odd_ranks"] = ", ".join(str(rank) for rank in odd)
        where = list(dict.fromkeys(hosts[rank] for rank in listed if hosts.get(rank)))
        if where:
            evidence["host"] = ", ".join(where)
        at = values[ranks.index(odd[0])]
        others = np.median(values, axis=0)
        found = []
        for i in order[: 1 if everywhere else MAX_FINDINGS]:
            column = int(np.argmax(np.abs(at[i] - others[i])))
            found.append(
                Finding(
                    detector=NAME,
                    kind="replica_divergence",
                    severity=Severity.CRITICAL,
                    series=None if everywhere else place[names[i]],
                    ord=base.ord,
                    step=base.step,
                    onset_step=first if everywhere else since[i],
                    statistic=COMPARED[column],
                    value=float(at[i, column]),
                    baseline=float(others[i, column]),
                    evidence=evidence,
                )
            )
        return found


def _aligned(rows: Sequence[WeightRow]) -> tuple[list[str], Values]:
    """The weights that all rows have with the same size, and their values [ranks, weights, 4].

    A weight that is not measured on one of them, or holds no finite element, is left out.
    """
    base = rows[0]
    places = [
        {name: i for i, name in enumerate(row.names)} if row.names != base.names else None
        for row in rows
    ]
    chosen = [n for n in base.names if all(place is None or n in place for place in places)]
    if not chosen:
        return [], np.zeros((len(rows), 0, len(COMPARED)))
    own = {name: i for i, name in enumerate(base.names)}
    stacked = np.stack(
        [
            row.values[[(own if place is None else place)[name] for name in chosen]]
            for row, place in zip(rows, places, strict=True)
        ]
    )
    usable = np.isfinite(stacked).all(axis=(0, 2))
    usable &= (stacked[:, :, -1] == stacked[0, :, -1]).all(axis=0)
    kept = [name for name, use in zip(chosen, usable, strict=True) if use]
    return kept, stacked[:, usable, :-1]


def _rms(values: Values) -> Values:
    """The largest rms of each weight over the ranks."""
    rms: Values = np.hypot(values[:, :, 0], values[:, :, 1]).max(axis=0)
    return rms


def _odd(values: Values, ranks: Sequence[int]) -> list[int]:
    """The ranks outside the group that more than half of all belong to; all without such a group.

    `values` [ranks, weights, 4] are those of the weights that differ.
    """
    slack = SLACK * _rms(values)[:, None]
    groups: list[list[int]] = []
    for i in range(len(ranks)):
        for group in groups:
            if (np.abs(values[i] - values[group[0]]) <= slack).all():
                group.append(i)
                break
        else:
            groups.append([i])
    largest = max(groups, key=len)
    if 2 * len(largest) <= len(ranks):
        return list(ranks)
    return [rank for i, rank in enumerate(ranks) if i not in largest]
