"""Replica divergence: data-parallel processes that no longer hold the same weights.

`replica_divergence`: the scalars `weight_checksum_rank<r>` of a row are not all the same number, or
a weight that is logged once a rank (`rank0/...`, `rank1/...`) differs between ranks by more than
0.2 % in rms, on 2 rows. Synchronous data parallelism keeps replicas bit-identical, so any lasting
difference is a fault: a process that missed an update, other random numbers, a broken link.

Or numbers that were the same to the bit on 24 rows, on each of which they had changed, are not on
2: a scalar that is logged once a rank (`weight_norm_rank0`), or weights whose names differ by their
first number alone (`replica0.conv.weight`). Chance makes no such copies, so any difference counts.

Ranks that take local steps part on purpose and meet again. So 2 rows are enough only of ranks that
had the same weights on 8 rows before; others must be apart for 16 rows. Both must last twice as
long as any time apart that ended.

Names the weights that differ most.
Source: the invariant of synchronous data parallelism; the slack covers rounded statistics.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.copies import Copies
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import WEIGHT, Indices, Layout
from foreshock_service.detectors.per_names import PerNames
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "replicas"

_CHECKSUM: Final = re.compile(r"weight_checksum_rank\d+")
_RANKED: Final = re.compile(r"rank\d+/(.+)")
_OF_A_RANK: Final = re.compile(r"(.*?)[_/.-]?rank[_.-]?\d+[_/.-]?(.*)")
_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasThresholds(Thresholds):
    """The numbers of the rules above."""

    slack: float = threshold(0.002, "share", "ranks whose rms differ by more no longer agree")
    rows: int = threshold(2, "rows", "so long must they differ")
    settled_rows: int = threshold(8, "rows", "that ranks were alike for, which then should stay so")
    unsettled_rows: int = threshold(16, "rows", "so long must others differ", guard=True)
    copied_rows: int = threshold(
        24,
        "rows",
        "on which numbers changed and were the same to the bit, to be copies",
        guard=True,
    )
    longest: float = threshold(
        2.0, "times", "as long as any time that ranks were apart for and met again", guard=True
    )


class Replicas:
    """Compares the ranks of one row."""

    name = NAME
    thresholds = ReplicasThresholds

    def __init__(self, limits: ReplicasThresholds | None = None) -> None:
        self._limits = limits or ReplicasThresholds()
        self._rows = 0
        self._since = 0
        self._together = 0
        self._settled = False
        self._longest_apart = 0
        self._layout: Layout | None = None
        self._twin: Indices = np.zeros(0, np.int64)
        self._has_twins = False
        self._copies = Copies(self._limits.copied_rows)
        self._groups: dict[str, Indices] = {}
        self._of_ranks = PerNames(_by_rank)
        self._checksums = PerNames(lambda names: [n for n in names if _CHECKSUM.fullmatch(n)])

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        return self._ranks(frame, baselines) or self._parted(frame, baselines)

    def _parted(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        """Copies that are none any more."""
        layout, rms, scalars = baselines.layout, baselines.row.rms, frame.scalars
        logged = {n: [scalars[m] for m in of] for n, of in self._of_ranks.of(scalars).items()}
        self._copies.follow(
            {n: v for n, v in logged.items() if all(map(math.isfinite, v))}, frame.step
        )
        groups = {n: of for n, of in self._groups.items() if self._copies.follows(n)}
        self._groups = groups
        values = {name: rms[of].tolist() for name, of in groups.items()}
        # Weights that were not measured on this row are no numbers, and say nothing.
        self._copies.follow({n: v for n, v in values.items() if all(x == x for x in v)}, frame.step)
        parted = self._copies.apart(self._limits.rows)
        if not parted:
            return []
        apart, since = np.zeros(layout.num_series, np.bool_), np.zeros(layout.num_series, np.int64)
        for name in parted.keys() & groups.keys():
            apart[groups[name][1:]], since[groups[name]] = True, parted[name]
        first = min(parted.values())
        found = series_findings(
            frame,
            apart,
            order=layout.depth,
            detector=NAME,
            kind="replica_divergence",
            severity=Severity.CRITICAL,
            statistic="rms",
            value=rms,
            since=since,
        )
        return found or [
            run_finding(
                frame,
                detector=NAME,
                kind="replica_divergence",
                severity=Severity.CRITICAL,
                statistic=next(name for name, step in parted.items() if step == first),
                value=0.0,
                onset_step=first,
            )
        ]

    def _ranks(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        """Checksums and weights of ranks that differ."""
        layout, row = baselines.layout, baselines.row
        if layout is not self._layout:
            self._layout, self._twin, self._groups = layout, _twins(layout), _groups(layout)
            self._has_twins = bool((self._twin >= 0).any())
        sums = [frame.scalars[name] for name in self._checksums.of(frame.scalars)]
        sums = [value for value in sums if value == value]
        spread = max(sums) - min(sums) if len(sums) > 1 else 0.0
        if len(sums) < 2 and not self._has_twins:
            return []
        differs = np.abs(row.rms - row.rms[self._twin]) / row.rms[self._twin]
        differs = np.where(self._twin >= 0, np.nan_to_num(differs), 0.0)
        apart = differs > self._limits.slack
        if len(sums) < 2 and not (row.measured & (self._twin >= 0)).any():
            return []
        if spread == 0.0 and not apart.any():
            # What was told was a fault, and excuses no other.
            if self._rows < self._needed_rows():
                self._longest_apart = max(self._longest_apart, self._rows)
            self._rows, self._together = 0, self._together + 1
            return []
        if self._rows == 0:
            self._since = frame.step
            self._settled = self._together >= self._limits.settled_rows
            self._together = 0
        self._rows += 1
        if self._rows < self._needed_rows():
            return []
        found = series_findings(
            frame,
            apart,
            order=-differs,
            detector=NAME,
            kind="replica_divergence",
            severity=Severity.CRITICAL,
            statistic="rms",
            value=row.rms,
            baseline=row.rms[self._twin],
            score=differs,
            since=np.full(layout.num_series, self._since, np.int64),
        )
        if spread > 0.0:
            found.append(
                run_finding(
                    frame,
                    detector=NAME,
                    kind="replica_divergence",
                    severity=Severity.CRITICAL,
                    statistic="weight_checksum",
                    value=max(sums),
                    baseline=min(sums),
                    onset_step=self._since,
                )
            )
        return found

    def _needed_rows(self) -> float:
        """How long ranks must be apart until it is told."""
        least = self._limits.rows if self._settled else self._limits.unsettled_rows
        return max(least, self._limits.longest * self._longest_apart)

    def state(self) -> State:
        """The streak, and those before it."""
        return {
            "streak": [self._rows, self._since],
            "before": [self._together, int(self._settled), self._longest_apart],
            "copies": self._copies.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._rows, self._since = state["streak"]
        self._together, settled, self._longest_apart = state["before"]
        self._settled = bool(settled)
        self._copies.restore(state["copies"])


def _by_rank(names: Iterable[str]) -> dict[str, list[str]]:
    """The scalars that ranks log, by the name without the rank."""
    found: dict[str, list[str]] = {}
    for name in names:
        match = _OF_A_RANK.fullmatch(name)
        if match is not None:
            found.setdefault(f"{match[1]}{match[2]}", []).append(name)
    return found


def _groups(layout: Layout) -> dict[str, Indices]:
    """Weights whose names differ by their first number alone, by the rest of the name."""
    found: dict[str, list[int]] = {}
    for i in layout.indices[WEIGHT]:
        name, numbers = _NUMBER.subn("", layout.keys[i][1], count=1)
        if numbers:
            found.setdefault(name, []).append(int(i))
    return {name: np.array(of, np.int64) for name, of in found.items() if len(of) > 1}


def _twins(layout: Layout) -> Indices:
    """For a weight of a later rank, its index on the first rank that has it; -1 for all others."""
    first: dict[str, int] = {}
    twins = np.full(layout.num_series, -1, np.int64)
    for i in np.flatnonzero(layout.kind_masks[WEIGHT]):
        match = _RANKED.fullmatch(layout.keys[i][1])
        if match is not None:
            twin = first.setdefault(match[1], int(i))
            twins[i] = twin if twin != i else -1
    return twins
