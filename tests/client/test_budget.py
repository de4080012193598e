"""The budget's decisions, on trainings that are only numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from foreshock.sampling import Cadence
from foreshock.watching.budget import Budget, Change, sentence
from foreshock.wire import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

EVERY = {"gradient": 1, "weight": 1, "update": 1, "activation": 4, "activation_grad": 4}
LEAST_OFTEN = {
    "gradient": 4,
    **dict.fromkeys(("weight", "update", "activation", "activation_grad"), 16),
}
LONG_ENOUGH = 4096
"""Steps in which the budget has settled, whatever it began with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds: of a step's own, of every step of the monitor, and of a measurement by kind."""

    own: float = 1.0
    base: float = 0.001
    by_kind: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Training:
    """Steps that cost what they are told, and what the budget made of them."""

    budget: Budget
    changes: list[Change] = field(default_factory=list)
    num_steps: int = 0

    def run(self, num_steps: int, costs: Costs, *, pause_every: int = 0) -> None:
        """Go on for some steps; every `pause_every`-th holds the training up a thousandfold."""
        for _ in range(num_steps):
            due = self.budget.cadence.due(self.num_steps)
            spent = costs.base + sum(costs.by_kind.get(kind, 0.0) for kind in due)
            pause = 1000 * costs.own if pause_every and self.num_steps % pause_every == 7 else 0
            change = self.budget.spend(
                seconds=costs.own + pause + spent, spent=spent, measured=due & costs.by_kind.keys()
            )
            self.num_steps += 1
            if change is not None:
                self.changes.append(change)

    def ratio(self, costs: Costs) -> float:
        """The monitor's part of a step at the cadence in force, to the step's own time."""
        every = self.budget.cadence.every
        kinds = sum(cost / every[kind] for kind, cost in costs.by_kind.items() if every[kind])
        return (costs.base + kinds) / costs.own


def training(share: float = 0.05, **every: int) -> Training:
    """A training at the default cadence."""
    return Training(Budget(Cadence({**EVERY, **every}, 32), share=share))


seconds = st.floats(min_value=0, max_value=10)
costs_of = st.builds(
    Costs,
    own=st.floats(min_value=0.01, max_value=2),
    base=st.floats(min_value=0, max_value=0.01),
    by_kind=st.dictionaries(st.sampled_from(KINDS), seconds),
)
cadences = st.fixed_dictionaries(
    {kind: st.sampled_from([0, 1, 2, 3, 4, 10, 100]) for kind in KINDS}
)


@settings(max_examples=60, deadline=None)
@given(
    share=st.floats(min_value=0.001, max_value=0.9),
    every=cadences,
    phases=st.lists(costs_of, max_size=4),
)
def test_a_cadence_is_thinned_in_powers_of_two_and_within_bounds(
    share: float, every: dict[str, int], phases: list[Costs]
) -> None:
    """Whatever a training costs and when, each kind stays on multiples of what was set, never more
    often than that, and never rarer than its bound; what was never is never."""
    seen = training(share, **every)
    for costs in phases:
        seen.run(512, costs)
        for kind, now in seen.budget.cadence.every.items():
            factor = now // every[kind] if every[kind] else 1
            assert now == every[kind] * factor
            assert factor & (factor - 1) == 0 < factor
            assert factor == 1 or now <= LEAST_OFTEN[kind]
        assert seen.budget.thinned == (seen.budget.cadence.every != every)


@settings(max_examples=60, deadline=None)
@given(costs=costs_of, share=st.floats(min_value=0.01, max_value=0.8))
def test_steady_costs_end_within_the_budget_or_at_the_bound(costs: Costs, share: float) -> None:
    """It thins no further than it must, in one direction, and then rests."""
    seen = training(share)
    seen.run(LONG_ENOUGH, costs)
    settled = len(seen.changes)
    limit = share / (1 - share)
    at_bound = all(
        2 * seen.budget.cadence.every[kind] > LEAST_OFTEN[kind] for kind in costs.by_kind
    )
    assert seen.ratio(costs) <= limit * (1 + 1e-9) or at_bound
    assert settled <= 11
    seen.run(LONG_ENOUGH, costs)
    assert len(seen.changes) == settled


@pytest.mark.parametrize(
    ("limit", "thinned"),
    [
        (0.40, []),
        (0.23, ["activation"]),
        (0.16, ["activation", "weight"]),
        (0.10, ["activation", "weight", "gradient"]),
    ],
)
def test_activations_go_first_and_gradients_last(limit: float, thinned: list[str]) -> None:
    """Of three equal costs the next is thinned only where the one before has no more to give."""
    seen = training(limit / (1 + limit))
    seen.run(
        LONG_ENOUGH, Costs(base=0, by_kind={"activation": 0.4, "weight": 0.1, "gradient": 0.1})
    )
    every = seen.budget.cadence.every
    assert [k for k in ("activation", "weight", "gradient") if every[k] > EVERY[k]] == thinned


def test_what_costs_nothing_is_not_thinned() -> None:
    """A compiled model measures no activation: thinning them would only lose time."""
    seen = training()
    seen.run(LONG_ENOUGH, Costs(by_kind={"weight": 0.2, "update": 0.2}))
    assert seen.budget.cadence.every == {**EVERY, "weight": 8, "update": 8}


@settings(max_examples=30, deadline=None)
@given(at=st.integers(min_value=0, max_value=300))
def test_one_stall_of_the_monitor_thins_nothing(at: int) -> None:
    """A kernel that is compiled, or a table that grows, happens once."""
    seen = training()
    costs = Costs(by_kind={"activation": 0.01})
    seen.run(at, costs)
    seen.run(1, replace(costs, base=500.0))
    seen.run(300, costs)
    assert seen.changes == []


def test_pauses_of_the_training_make_no_room() -> None:
    """Evaluations between the steps do not hide what the monitor costs in a step."""
    seen = training()
    seen.run(LONG_ENOUGH, Costs(by_kind={"activation": 0.8}), pause_every=50)
    assert seen.budget.cadence.every["activation"] == 16


def test_when_there_is_room_again_everything_returns() -> None:
    """Back to what was set, in reverse order, and the last change says so."""
    seen = training()
    seen.run(LONG_ENOUGH, Costs(by_kind=dict.fromkeys(KINDS, 5.0)))
    assert all(seen.budget.cadence.every[kind] == LEAST_OFTEN[kind] for kind in KINDS)
    seen.run(LONG_ENOUGH, Costs(by_kind=dict.fromkeys(KINDS, 0.001)))
    assert seen.budget.cadence.every == EVERY
    returned = [list(change.every) for change in seen.changes if not change.exceeded]
    assert (returned[0], returned[-1]) == (["gradient"], ["activation", "activation_grad"])
    assert not seen.changes[-1].thinned


@settings(max_examples=20, deadline=None)
@given(period=st.integers(min_value=32, max_value=400))
def test_a_pace_that_changes_for_ever_does_not_make_it_flap(period: int) -> None:
    """Each return that had to be taken back doubles the wait: a day of steps has few changes."""
    seen = training()
    dear, cheap = (Costs(by_kind={"activation": cost}) for cost in (0.4, 0.04))
    for _ in range(20_000 // period):
        seen.run(period, dear)
        seen.run(period, cheap)
    assert len(seen.changes) < 40


def test_a_budget_that_cannot_be_kept_is_told_once() -> None:
    """Beyond the bounds only the user can help, and is told how."""
    seen = training()
    seen.run(3 * LONG_ENOUGH, Costs(base=2.0, by_kind={"activation": 1.0}))
    last = seen.changes[-1]
    assert [change.every for change in seen.changes].count({}) == 1
    assert (last.every, last.exceeded) == ({}, True)
    assert "raise overhead_budget" in sentence(last, budget=0.05)


def test_a_budget_of_0_never_thins() -> None:
    """Measure however much it costs."""
    seen = training(0)
    seen.run(1000, Costs(base=100.0, by_kind={"activation": 100.0}))
    assert seen.changes == []


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (
            {"activation_grad": 8, "weight": 8},
            "gradients of activations and weights every 8th step",
        ),
        ({"weight": 22, "gradient": 3}, "weights every 22nd step, gradients every 3rd step"),
        ({"weight": 1, "update": 112}, "weights every step, updates every 112th step"),
        ({"gradient": 101}, "gradients every 101st step"),
    ],
)
def test_a_change_reads_as_a_sentence(every: dict[str, int], expected: str) -> None:
    """What is measured how often, and why."""
    change = Change(every=every, share=0.0712, num_steps=64, thinned=True, exceeded=True)
    assert sentence(change, budget=0.05) == (
        f"measuring {expected}: the monitor took 7.1% of the last 64 steps, its budget is 5%"
    )
