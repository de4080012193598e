"""The engine: one run's detectors and baselines, fed row by row."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from foreshock_service.detectors.announced import Announced
from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.codec import UNREADABLE
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.excess import excess_growth, growth_limits
from foreshock_service.detectors.layout import ACTIVATION, GRADIENT, UPDATE, WEIGHT
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import Detector
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.detectors.row import Bools, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Departure, latest_together

DEPARTED_SHARE: Final = 0.5
DEPARTED_STAY: Final = 0.6
DEPARTED_FIRST_ROWS: Final = 24
MAX_DEPARTURES: Final = 64
LEAP_OCTAVES: Final = 2.0


class Engine:
    """Rows in, findings out. The same rows give the same findings, across any restart."""

    def __init__(self, config: EngineConfig | None = None, facts: RunFacts | None = None) -> None:
        config = config or EngineConfig()
        self.baselines = Baselines(facts)
        self._config = config
        self._detectors = [self._make(name) for name in DETECTORS if name not in config.disabled]
        self._announced = Announced()
        self._growth_limits = config.growth_limits
        self._departed_limits = PerLayout(
            lambda layout: DEPARTED_SHARE * growth_limits(layout, self._growth_limits)
        )
        self._watched = PerLayout(
            lambda layout: layout.of_kind(ACTIVATION, GRADIENT, UPDATE, WEIGHT)
        )
        self._can_fade = PerLayout(
            lambda layout: layout.of_kind(ACTIVATION, WEIGHT) & layout.is_matrix
        )
        self._departed = Streaks()
        self._leapt = Streaks()

    def push(self, frame: Frame) -> list[Finding]:
        """Findings of the next frame, which its baselines learn afterwards."""
        # Rules compute with NaN, which stands for what was not measured. One context for all of
        # them: to enter one takes as long as a comparison of a thousand series.
        with np.errstate(all="ignore"):
            return self._push(frame)

    def _push(self, frame: Frame) -> list[Finding]:
        baselines = self.baselines
        baselines.read(frame)
        fresh = ((detector, self._make(detector.name)) for detector in self._detectors)
        self._announced.begin(frame, baselines, fresh)
        findings = [f for d in self._detectors for f in d.observe(frame, baselines)]
        findings = self._announced.told(findings, baselines.layout)
        self._departed.update(
            baselines.layout,
            holds=self._outside(),
            measured=baselines.row.measured,
            step=frame.step,
        )
        leaps = baselines.logs() - baselines.value("fast") > LEAP_OCTAVES
        self._leapt.update(
            baselines.layout, holds=leaps, measured=baselines.row.measured, step=frame.step
        )
        named = [f.series for f in findings if f.series is not None]
        hold = None
        if named:
            hold = np.zeros(baselines.layout.num_series, np.bool_)
            hold[named] = True
        baselines.learn(hold)
        return findings

    def freeze(self, *, run: bool, series: set[str] | frozenset[str] = frozenset()) -> None:
        """Stop learning for the whole run, or for the series named `kind:name`, or for none."""
        mask = self._named(series) if series else None
        if run:
            mask = np.ones(self.baselines.layout.num_series, np.bool_)
        self.baselines.freeze(mask)

    def accept(self, series: frozenset[str]) -> None:
        """Take the levels of the series named `kind:name` for normal."""
        self.baselines.accept(self._named(series))

    def departures(self, step: int) -> tuple[Departure, ...]:
        """Series outside their baseline on the newest row, which is that of a step: those that left
        first, together, in the order of the flow, then the others, first to leave first."""
        layout, row = self.baselines.layout, self.baselines.row
        growth = self.baselines.growth()
        known = row.bad | np.isfinite(growth)
        which = np.flatnonzero((self._departed.rows > 0) & known)
        if not which.size:
            return ()
        # What had drifted and then leaps has left with the leap: the incident is about that.
        since = np.where(self._leapt.rows > 0, self._leapt.since, self._departed.since)
        which = which[np.lexsort((layout.flow[which], since[which]))][:MAX_DEPARTURES]
        left = since[which]
        followed = np.maximum(left, latest_together(int(left[0]), step))
        which = which[np.lexsort((layout.flow[which], followed))]
        return tuple(
            Departure(
                series=f"{layout.keys[i][0]}:{layout.keys[i][1]}",
                step=int(since[i]),
                statistic="rms",
                ratio=float("inf") if row.bad[i] else float(np.exp2(growth[i])),
            )
            for i in which
        )

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs: JSON values and arrays."""
        return {
            "baselines": self.baselines.state(),
            "departed": self._departed.state(),
            "leapt": self._leapt.state(),
            "announced": self._announced.state(),
            "detectors": {d.name: dict(d.state()) for d in self._detectors},
        }

    def restore(self, state: dict[str, Any]) -> list[str]:
        """Take up a state; a detector that the state does not know starts fresh, and so does one
        that cannot read its part: the names of these."""
        self.baselines.restore(state["baselines"])
        self._departed.restore(state["departed"])
        self._leapt.restore(state["leapt"])
        self._announced.restore(state.get("announced", 0))
        unread = []
        for place, detector in enumerate(self._detectors):
            if detector.name not in state["detectors"]:
                continue
            try:
                detector.restore(state["detectors"][detector.name])
            except UNREADABLE:
                self._detectors[place] = self._make(detector.name)
                unread.append(detector.name)
        return unread

    def _named(self, series: set[str] | frozenset[str]) -> Bools:
        keys = self.baselines.layout.keys
        return np.array([f"{kind}:{name}" in series for kind, name in keys], np.bool_)

    def _make(self, name: str) -> Detector:
        return DETECTORS[name](self._config.limits(name))

    def _outside(self) -> Bools:
        """Left its baseline: half of the growth that would be too much, or NaN and Inf."""
        baselines, layout = self.baselines, self.baselines.layout
        limits = self._departed_limits.of(layout)
        growth = np.abs(baselines.growth())
        if (
            not self._departed.running
            and not any_of(baselines.row.bad)
            and not any_of(growth > limits)
        ):
            return np.zeros(layout.num_series, np.bool_)
        if self._departed.running:
            # Hysteresis: noise around the limit must not put the departure off.
            self._departed.align(layout)
            limits = np.where(self._departed.rows > 0, DEPARTED_STAY * limits, limits)
        # What fades has left as well: a layer that nothing passes any more grows nowhere.
        fades = self._can_fade.of(layout) & (-baselines.growth() > 2.0 * limits)
        outside = fades | (excess_growth(baselines, self._growth_limits) > limits)
        outside &= baselines.value("count") >= DEPARTED_FIRST_ROWS
        return np.asarray(self._watched.of(layout) & (outside | baselines.row.bad))
