"""Shadow clipping: the published rules replayed over a run's frames, each with its account."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foreshock_service.clipping.account import Account, ShadowResult
from foreshock_service.clipping.protocol import Need, Norms, Rule
from foreshock_service.clipping.reading import PARTIAL, NormReader
from foreshock_service.clipping.registry import RULES, make_rule, values_of
from foreshock_service.domain.frames import Frame


@dataclass(frozen=True, slots=True)
class SickSteps:
    """Steps from `first` up to and without `end`, None where the trouble has not ended."""

    first: int
    end: int | None

    def holds(self, step: int) -> bool:
        """Whether a step is one of them."""
        return self.first <= step and (self.end is None or step < self.end)


def joined(sick: Sequence[SickSteps]) -> list[SickSteps]:
    """The same steps in as few stretches as there are, in order."""
    stretches: list[SickSteps] = []
    for steps in sorted(sick, key=lambda item: item.first):
        last = stretches[-1] if stretches else None
        if last is None or (last.end is not None and steps.first > last.end):
            stretches.append(steps)
        elif last.end is not None:
            end = None if steps.end is None else max(last.end, steps.end)
            stretches[-1] = SickSteps(last.first, end)
    return stretches


class Shadow:
    """Feeds the frames of one rank to rules; nothing is remembered outside of it.

    `chosen` names rules with the parameters that differ from their defaults; without it, all.

    Raises:
        ValueError: there is no such rule or parameter, or a value is outside its range.
    """

    def __init__(
        self,
        chosen: Mapping[str, Mapping[str, float]] | None = None,
        *,
        sick: Sequence[SickSteps] = (),
    ) -> None:
        self._reader = NormReader()
        self._sick = joined(sick)
        self._sick_from = [steps.first for steps in self._sick]
        self._accounts: list[Account] = []
        for name, given in ({key: {} for key in RULES} if chosen is None else chosen).items():
            values = values_of(name, given)
            self._accounts.append(Account(make_rule(name, values), values))

    @property
    def num_frames(self) -> int:
        """How many frames have been read."""
        return self._reader.num_frames

    def push(self, frame: Frame) -> None:
        """Take the next frame in."""
        norms = self._reader.read(frame)
        if norms is None:
            return
        healthy = not self._is_sick(frame.step)
        for account in self._accounts:
            if _has(norms, account.rule):
                judged = account.rule.judge(norms)
                account.add(frame.step, judged, self._reader.names, healthy=healthy)

    def _is_sick(self, step: int) -> bool:
        place = bisect_right(self._sick_from, step)
        return place > 0 and self._sick[place - 1].holds(step)

    def results(self) -> list[ShadowResult]:
        """What each rule would have done so far."""
        reader = self._reader
        return [
            account.result(
                reader.names,
                reader.caveats(account.rule.needs),
                self._missing(account.rule.needs),
            )
            for account in self._accounts
        ]

    def _missing(self, needs: Iterable[Need]) -> str:
        wanted = " and ".join(needs)
        if Need.TOTAL in needs and self._reader.saw_partial:
            return (
                f"needs {wanted}, and the run has only {PARTIAL}, that of the gradients it "
                "measures: log what clip_grad_norm_ returns as grad_norm"
            )
        return f"needs {wanted}, and no step of the run has it"


def _has(norms: Norms, rule: Rule) -> bool:
    for need in rule.needs:
        if need is Need.TOTAL and norms.total is None:
            return False
        if need in (Need.TENSORS, Need.ABS_MAX) and not norms.present.any():
            return False
        if need is Need.WEIGHTS and not (norms.weights == norms.weights).any():
            return False
    return True
