"""Lost experts: modules of a routed layer that get nothing to do any more while others work.

`dead_units`: of siblings (modules under one parent that differ by a number, at least three) one has
no activation or no gradient, absent or exactly zero, on 20 rows on which a sibling lives, and for
three times as long as any sibling ever was idle and came back. It must have lived on 8 rows next to
a living sibling before. Up to eight are named.

Layers of a plain stack are siblings too; what tells a router is that siblings have been idle and
come back, twice at least in the group. Layers that are frozen one by one never come back, and heads
that take turns by task never live together. A row on which all siblings are idle is not counted: it
was not their turn to be measured. Thinned frames and skipped steps are passed over.
Source: Shazeer et al. 2017 (arXiv 1701.06538) and Fedus et al. 2022 (arXiv 2101.03961) for routers
that collapse onto few experts; the sign of routing is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from foreshock.wire import FrameFlag

from foreshock_service.detectors.baseline import RMS, Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import Indices, Layout
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, all_of, any_of
from foreshock_service.detectors.siblings import sibling_groups
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "experts"

_NOBODY: Final = np.zeros(0, np.int64)
_NOT_ALL: Final = int(FrameFlag.THINNED | FrameFlag.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsThresholds(Thresholds):
    """The numbers of the rule above."""

    rows: int = threshold(20, "rows", "so long must an expert be idle while a sibling lives")
    longest: float = threshold(
        3.0, "times", "and longer than any sibling that came back, by so much", guard=True
    )
    alive_rows: int = threshold(
        8, "rows", "so long must it have lived together with a sibling before", guard=True
    )
    returns: int = threshold(
        2, "count", "returns of siblings that were idle make a routed layer", guard=True
    )


class Experts:
    """Watches siblings for those that are never chosen again."""

    name = NAME
    thresholds = ExpertsThresholds

    def __init__(self, limits: ExpertsThresholds | None = None) -> None:
        self._limits = limits or ExpertsThresholds()
        self._memory = SeriesMemory("together")
        self._idle = Streaks()
        self._returns: dict[str, list[int]] = {}
        self._keys: tuple[tuple[str, str], ...] = ()
        self._groups: dict[str, Indices] = {}
        self._members: Indices = _NOBODY

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row = baselines.layout, baselines.row
        self._align(layout, frame.step)
        if not self._groups or int(frame.flags) & _NOT_ALL:
            return []
        alive = row.measured & ((row.rms > 0) | row.bad)
        if all_of(alive[self._members]) and not self._idle.running:
            self._memory["together"][self._members] = (
                np.fmax(self._memory["together"][self._members], 0.0) + 1.0
            )
            return []
        watched, together = np.zeros_like(alive), np.zeros_like(alive)
        for name, group in self._groups.items():
            living = int(alive[group].sum())
            if living:
                watched[group] = True
                if living > 1:
                    together[group] |= alive[group]
                self._count_returns(name, group, alive)
        if not any_of(watched):
            return []
        memory = self._memory
        memory["together"] = np.fmax(memory["together"], 0.0) + together
        known = memory["together"] >= self._limits.alive_rows
        self._idle.update(layout, holds=known & ~alive, measured=watched, step=frame.step)
        lost, others = self._lost(watched)
        if not any_of(lost):
            return []
        foremost = int(np.flatnonzero(lost)[np.argmin(layout.flow[lost])])
        return series_findings(
            frame,
            lost,
            order=layout.flow,
            detector=NAME,
            kind="dead_units",
            severity=Severity.WARNING,
            statistic="rms",
            value=np.zeros(layout.num_series),
            baseline=np.exp2(baselines.value("slow", RMS)),
            since=self._idle.since,
            evidence={"num_siblings": int(others[foremost])},
        )

    def _align(self, layout: Layout, step: int) -> None:
        self._memory.align(layout)
        if layout.keys is not self._keys:
            self._keys, self._groups = layout.keys, sibling_groups(layout)
            self._members = np.unique(np.concatenate([*self._groups.values(), _NOBODY]))
            nothing = np.zeros(layout.num_series, np.bool_)
            self._idle.update(layout, holds=nothing, measured=nothing, step=step)

    def _count_returns(self, name: str, group: Indices, alive: Bools) -> None:
        idle = self._idle.rows[group]
        back = alive[group] & (idle > 0)
        if any_of(back):
            count, longest = self._returns.get(name, [0, 0])
            self._returns[name] = [count + int(back.sum()), max(longest, int(idle[back].max()))]

    def _lost(self, watched: Bools) -> tuple[Bools, Indices]:
        """Who is lost, and how many others the group of each has [series]."""
        limits = self._limits
        lost, others = np.zeros_like(watched), np.zeros(watched.size, np.int64)
        lasting = self._idle.lasting(limits.rows)
        if not any_of(lasting):
            return lost, others
        for name, group in self._groups.items():
            count, longest = self._returns.get(name, [0, 0])
            if count < limits.returns:
                continue
            gone = lasting[group] & (self._idle.rows[group] > limits.longest * longest)
            if gone.any() and not gone.all():
                lost[group] |= gone
                others[group[gone]] = np.maximum(others[group[gone]], group.size - 1)
        return lost, others

    def state(self) -> State:
        """Rows together, streaks, and by group how many came back and after how long."""
        return {
            "memory": self._memory.state(),
            "idle": self._idle.state(),
            "returns": {name: list(pair) for name, pair in self._returns.items()},
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._memory.restore(state["memory"])
        self._idle.restore(state["idle"])
        self._returns = {
            str(name): [int(n) for n in pair] for name, pair in state["returns"].items()
        }
