"""Loss spikes and divergence: damage measured against what the run had achieved.

B is the median of the last 20 losses, sigma the robust spread around a line through the last 48,
progress the fall from the run's first losses to its best level. A row is damaged if the loss is
above B by more than max(6 sigma, 15 % of |B|), by 30 % of the progress, and by more than the run's
own tail (1.5 times the largest excursion that passed by itself). 10 % of the progress is enough on
a row whose gradient norm is twice its median of 47 rows. What a warm restart does to a loss is no
damage, nor is that of a critic which comes back towards nought (`loss_context`).

Where noise hides single rows, a median of 8 that undoes 70 % of the progress is damage as well: by
3 sigma, 15 %, and more than the tail was before these rows. It counts where the level means
something, which it does not for players and rewards, or if the run was joined in its middle.

- `loss_spike` (warning): 3 of the last 5 rows are damaged, or 2 of them by twice as much; or 7 rows
  are larger than any of the 48 before them, by 15 % and by 30 % of the progress in the median, and
  by half as much again as when that was told last. Noise of whatever shape does so once in 200
  million rows.
- `divergence` (critical): damage has lasted 20 rows, or the level of the last 16 rows has risen
  above the best level by 50 % of the progress, 8 sigma and 15 %, and still stands 16 rows later; or
  it stands for so long 8 times above the largest of the first 32 losses, progress or none; or, as
  above, by 70 % of the progress, 3 sigma, 15 % and the tail.

A loss that is on its way back (30 % of it) is no divergence, nor one that repeats the first rows of
the run: that is a new start in the same log, and everything is learned anew.

Values that are not finite are left to `non_finite`; a loss that was not logged is absent, not NaN.
Nothing is said in the first 32 logged rows. Every threshold is a ratio of differences of losses or
of losses, so scaling the loss changes nothing.

Source: 3-MAD and 3-sigma rules (trainscope, OLMo) raise dozens of false spikes on noisy healthy
losses; progress and the run's own tail are what keeps near-zero, GAN and policy-gradient losses
quiet. The 6 sigma and 15 % are those of the definition of visible damage in `incidents`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.beyond import BeyondAll
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.loss_context import LossContext
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window, centre_and_sigma, median
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossThresholds(Thresholds):
    """The numbers of the rules above."""

    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    window_rows: int = threshold(48, "rows", "calm losses that level and spread are of")
    first_rows: int = threshold(32, "rows", "losses before anything is judged")
    start_rows: int = threshold(10, "rows", "losses that make the start")
    sigmas: float = threshold(
        6.0, "sigmas", "a damaged loss above the level by so much of the spread"
    )
    share_of_level: float = threshold(0.15, "share", "and by so much of the level")
    share_of_progress: float = threshold(0.3, "share", "and by so much of all progress")
    confirmed_share: float = threshold(
        0.1, "share", "of all progress is enough, where the gradient norm has leapt as well"
    )
    leapt_norm: float = threshold(2.0, "times", "its median of 47 rows: a norm that has leapt")
    tail_factor: float = threshold(
        1.5, "times", "and above the largest excursion that passed by itself"
    )
    tail_decay: float = threshold(
        0.999, "share", "of that excursion is remembered from row to row", guard=True
    )
    plain_factor: float = threshold(2.0, "times", "the bar is passed by so much in plain damage")
    plain_rows: int = threshold(2, "rows", "of the last 5 that are enough if their damage is plain")
    lasting_rows: int = threshold(20, "rows", "damage that lasts so long is divergence")
    same_share: float = threshold(
        0.1,
        "share",
        "of the damage: so close do losses repeat the first ones in a new start",
        guard=True,
    )
    often: int = threshold(
        2, "count", "excursions that were told before the run's tail counts in full", guard=True
    )
    beyond_all_rows: int = threshold(7, "rows", "that are all larger than any of those before")
    beyond_all_share: float = threshold(0.3, "share", "of all progress that these undo")
    level_rows: int = threshold(16, "rows", "losses that make a level for slow rises")
    drift_rows: int = threshold(16, "rows", "so long must a slow rise stand")
    drift_share: float = threshold(0.5, "share", "of all progress that it must undo")
    leap_factor: float = threshold(8.0, "times", "a loss near zero above its level")
    leap_above_largest: float = threshold(2.0, "times", "and above the largest of the calm ones")
    leap_share: float = threshold(0.03, "share", "of all progress that it undoes at the least")
    rise_factor: float = threshold(10.0, "times", "a level near zero above the best one")
    rise_share: float = threshold(0.1, "share", "of all progress that it undoes at the least")
    sunk_rows: int = threshold(8, "rows", "losses that make a level in noise")
    sunk_sigmas: float = threshold(3.0, "sigmas", "such a level above that of the calm losses")
    sunk_share: float = threshold(0.7, "share", "of all progress that it undoes")
    sunk_learned: float = threshold(
        0.2, "share", "of the first losses that a run has learned, to lose most of it", guard=True
    )
    outgrown_factor: float = threshold(
        8.0, "times", "a level above the largest of the first losses, all of them positive"
    )
    recovering: float = threshold(
        0.3, "share", "of the way back: then a loss is recovering, and only a spike", guard=True
    )


@dataclass(frozen=True, slots=True)
class _Achieved:
    """What the run had achieved before a row: its calm level and their spread, its best level, and
    the progress, which is the fall to that from its first losses."""

    calm: float
    sigma: float
    best: float
    progress: float


class Loss:
    """Watches the scalar `loss`."""

    name = NAME
    thresholds = LossThresholds

    def __init__(self, limits: LossThresholds | None = None) -> None:
        self._limits = limits or LossThresholds()
        self._clear()

    def _clear(self) -> None:
        self._calm = Window(self._limits.window_rows)
        self._recent = Window(self._limits.level_rows)
        self._beyond = BeyondAll(
            newest=self._limits.beyond_all_rows, before=self._limits.window_rows
        )
        self._context = LossContext()
        self._damaged: list[int] = []  # steps of the damaged ones among the last 5 rows, else -1
        self._plain: list[int] = []  # which of them were damaged plainly
        self._num_rows = 0
        self._start = math.nan
        self._best = math.inf
        self._first_largest = 0.0
        self._tail = 0.0
        # The tail as it was before the rows that make a level, which would else excuse themselves.
        self._tails = deque([0.0], maxlen=self._limits.sunk_rows)
        self._peak = 0.0
        self._damaged_rows = 0
        self._calm_rows = 0
        self._drift_rows = 0
        self._onset = 0
        self._worst_level = -math.inf
        self._first: list[float] = []
        self._since_onset: list[float] = []
        self._told = False
        self._num_told = 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row; none on a row without a finite loss."""
        loss = frame.scalars.get("loss")
        if loss is None or not math.isfinite(loss):
            return []
        self._num_rows += 1
        self._recent.add(loss)
        self._beyond.add(loss, frame.step)
        self._context.follow(frame.scalars, loss)
        if len(self._first) < self._limits.lasting_rows + 1:
            self._first.append(loss)
        if self._num_rows <= self._limits.first_rows:
            self._calm.add(loss)
            if self._num_rows == self._limits.start_rows:
                self._start = self._calm.median()
            self._best = self._level()
            self._first_largest = max(self._first_largest, loss if loss > 0 else math.inf)
            return []
        levels_count = not baselines.is_game and not baselines.is_joined(self._limits.first_step)
        return self._judge(frame, loss, levels_count=levels_count)

    def _judge(self, frame: Frame, loss: float, *, levels_count: bool) -> list[Finding]:
        calm, sigma = centre_and_sigma(self._calm.values())
        had = _Achieved(calm, sigma, self._best, max(self._start - self._best, 0.0))
        level, damage, bar = self._level(), loss - calm, self._bar(had)
        damaged, told = damage > bar or self._leaps(loss, had), loss
        if not damaged and levels_count:
            noisy = self._noisy_level()
            if self._undoes(noisy - calm, calm, had, self._tails[0]):
                # What is told is the level: a single row of it may well lie below the calm ones.
                damaged, told = True, noisy
        damaged = damaged and not self._context.excuses(told)
        self._take_in(frame.step, loss, had, bar, damaged=damaged)
        drifted = self._drifts(level, had, levels_count=levels_count)
        if drifted and self._context.game_ends(level):
            self._best = level
        drifted = drifted and not self._context.excuses(level)
        self._worst_level = max(self._worst_level, level) if damaged or drifted else level
        self._drift_rows = self._drift_rows + 1 if drifted else 0
        if not damaged:
            self._best = min(self._best, level)
        lasting = self._damaged_rows >= self._limits.lasting_rows and damaged
        lost = lasting or self._drift_rows >= self._limits.drift_rows
        if lost and self._repeats_its_start():
            self._begin_anew(loss)
            return []
        kind, severity, reference = "loss_spike", Severity.WARNING, calm
        if lost and not self._is_recovering(level):
            kind, severity = "divergence", Severity.CRITICAL
            reference = calm if lasting else self._best
            onset = self._onset if lasting else frame.step
        elif damaged and self._is_spike():
            onset = self._onset
        elif not damaged and levels_count and (rise := self._beyond_all(had)):
            onset, told = self._beyond.since, calm + rise
            if self._context.excuses(told):
                return []
        else:
            return []
        self._told = True
        return [
            run_finding(
                frame,
                detector=NAME,
                kind=kind,
                severity=severity,
                statistic="loss",
                value=told,
                baseline=reference,
                score=(told - calm) / bar if bar > 0 else 0.0,
                onset_step=onset,
                evidence={
                    "loss": told,
                    "calm_loss": calm,
                    "sigma": sigma,
                    "progress_lost": (told - calm) / had.progress if had.progress > 0 else 0.0,
                },
            )
        ]

    def _bar(self, had: _Achieved) -> float:
        """So far above the calm losses one is damaged."""
        limits, share = self._limits, self._limits.share_of_progress
        if self._context.norm_leapt(limits.leapt_norm):
            share = limits.confirmed_share
        bar = max(
            limits.sigmas * had.sigma,
            limits.share_of_level * abs(had.calm),
            share * had.progress,
            limits.tail_factor * self._tail,
        )
        if had.progress < limits.sigmas * had.sigma:
            # A loss that never fell has nothing to lose: only a change beyond all it ever did.
            bar = max(bar, 2 * limits.sigmas * had.sigma, 0.5 * abs(had.calm))
        return bar

    def _take_in(
        self, step: int, loss: float, had: _Achieved, bar: float, *, damaged: bool
    ) -> None:
        """Count the row as one of an excursion, or as a calm one, of which levels are learned."""
        damage = loss - had.calm
        if self._damaged_rows and len(self._since_onset) < self._limits.lasting_rows:
            self._since_onset.append(loss)
        self._damaged = [*self._damaged[-4:], step if damaged else -1]
        self._plain = [*self._plain[-4:], int(damaged and damage > self._limits.plain_factor * bar)]
        if damaged:
            if self._damaged_rows == 0:
                self._onset = step
                self._since_onset = []
            self._damaged_rows += 1
            self._calm_rows = 0
            self._peak = max(self._peak, damage)
        else:
            self._calm_rows += 1
            if self._calm_rows >= 5:
                if self._damaged_rows:
                    self._pass_by()
                self._damaged_rows, self._peak = 0, 0.0
            self._calm.add(min(loss, had.calm + bar))
            self._tail = max(self._tail * self._limits.tail_decay, damage if damage < bar else 0.0)
        self._tails.append(self._tail)

    def _drifts(self, level: float, had: _Achieved, *, levels_count: bool) -> bool:
        """Whether the level of the last rows lies too far above the best one."""
        limits, best, progress, sigma = self._limits, had.best, had.progress, had.sigma
        bar = max(
            limits.drift_share * progress,
            8.0 * sigma,
            limits.share_of_level * abs(best),
            self._tail,
        )
        if best > 0:
            # Near zero a rise to many times the best level is plain long before it undoes the rest.
            far = (limits.rise_factor - 1.0) * best
            bar = min(bar, max(far, limits.rise_share * progress, 8.0 * sigma, 0.25 * self._tail))
        return (
            (progress > limits.sigmas * sigma and level - best > bar)
            or level > limits.outgrown_factor * self._first_largest
            or (levels_count and self._undoes(level - best, best, had, self._tail))
        )

    def _is_recovering(self, level: float) -> bool:
        # Of the last 8 rows, since a median of 16 is behind a loss that comes down fast.
        come_back = self._worst_level - min(level, self._noisy_level())
        return come_back > self._limits.recovering * (self._worst_level - self._best)

    def _is_spike(self) -> bool:
        damaged = sum(step >= 0 for step in self._damaged)
        return damaged >= 3 or sum(self._plain) >= self._limits.plain_rows

    def _leaps(self, loss: float, had: _Achieved) -> bool:
        """A loss near zero that leaps to many times its level, though little is undone yet."""
        limits = self._limits
        return (
            had.calm > 0
            and loss > limits.leap_factor * had.calm
            and loss > limits.leap_above_largest * self._calm.largest()
            and loss - had.calm > limits.leap_share * had.progress > 0
        )

    def _undoes(self, rise: float, level: float, had: _Achieved, tail: float) -> bool:
        """Whether a rise above a level undoes most of the progress, though no row stands out."""
        limits = self._limits
        bar = max(
            limits.sunk_sigmas * had.sigma,
            limits.share_of_level * abs(level),
            limits.sunk_share * had.progress,
            tail,
        )
        learned = max(limits.sunk_sigmas * had.sigma, limits.sunk_learned * abs(self._start))
        return had.progress > learned and rise > bar

    def _beyond_all(self, had: _Achieved) -> float | None:
        limits = self._limits
        if not had.progress:
            return None
        least = max(limits.share_of_level * abs(had.calm), limits.beyond_all_share * had.progress)
        return self._beyond.rise(had.calm, least=least, again=limits.tail_factor)

    def _noisy_level(self) -> float:
        return median(self._recent.values()[-self._limits.sunk_rows :])

    def _pass_by(self) -> None:
        """An excursion is over: what the run does by itself, told or not, is no news the next time.
        The first that was told does not count, the third in full: a run that exceeds often needs
        more."""
        weight = min(1.0, self._num_told / self._limits.often) if self._told else 1.0
        self._num_told += self._told
        self._tail = max(self._tail, weight * self._peak)
        self._told = False

    def _repeats_its_start(self) -> bool:
        """Whether the losses since the onset are the first ones of the run over again."""
        now = self._since_onset
        then = self._first[1 : 1 + len(now)]
        if len(now) < self._limits.drift_rows - 1 or len(then) < len(now):
            return False
        damage = median(now) - self._calm.median()
        return (
            median(abs(a - b) for a, b in zip(now, then, strict=True))
            < self._limits.same_share * damage
        )

    def _begin_anew(self, loss: float) -> None:
        """The run was started over in its own log: nothing that was learned holds any more."""
        first, told = self._first, self._num_told
        self._clear()
        self._first, self._num_told, self._num_rows = first, told, 1
        self._first_largest = loss if loss > 0 else math.inf
        self._calm.add(loss)
        self._recent.add(loss)

    def _level(self) -> float:
        return self._recent.median()

    def state(self) -> State:
        """The windows and the counters."""
        return {
            "calm": self._calm.state(),
            "recent": self._recent.state(),
            "beyond": self._beyond.state(),
            "context": self._context.state(),
            "damaged": list(self._damaged),
            "plain": list(self._plain),
            "first": list(self._first),
            "since_onset": list(self._since_onset),
            "told": [int(self._told), self._num_told],
            "tails": list(self._tails),
            "numbers": [
                self._num_rows,
                self._start,
                self._best,
                self._first_largest,
                self._tail,
                self._peak,
                self._damaged_rows,
                self._calm_rows,
                self._drift_rows,
                self._onset,
                self._worst_level,
            ],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._calm.restore(state["calm"])
        self._recent.restore(state["recent"])
        self._beyond.restore(state["beyond"])
        self._context.restore(state["context"])
        self._damaged = [int(step) for step in state["damaged"]]
        self._plain = [int(is_plain) for is_plain in state["plain"]]
        self._first = [float(x) for x in state["first"]]
        self._since_onset = [float(x) for x in state["since_onset"]]
        self._told, self._num_told = bool(state["told"][0]), int(state["told"][1])
        self._tails.clear()
        self._tails.extend(float(x) for x in state["tails"])
        (
            self._num_rows,
            self._start,
            self._best,
            self._first_largest,
            self._tail,
            self._peak,
            self._damaged_rows,
            self._calm_rows,
            self._drift_rows,
            self._onset,
            self._worst_level,
        ) = state["numbers"]
