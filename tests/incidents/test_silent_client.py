"""When a run or a rank is silent: the rule, with the time given."""

from __future__ import annotations

import pytest
from foreshock_service.domain.findings import Severity
from foreshock_service.incidents.silent_client import Pace, RankSeen, patience, silent_of

LEAST = 120.0


def _steady(usual: float, *, longest: float = 0.0, survived: float = 0.0) -> Pace:
    return Pace(num_steps=64, usual=usual, longest=max(usual, longest), survived=survived)


def _rank(rank: int, heard_at: float, pace: Pace | None = None) -> RankSeen:
    return RankSeen(
        rank=rank, host=f"node-{rank}", attempt=1, step=100, next_ord=101, heard_at=heard_at,
        pace=pace or _steady(1.0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pace", "seconds"),
    [
        (_steady(0.5), 120),
        (_steady(30.0), 600),
        (_steady(600.0), 3600),
        (_steady(3600.0), 3 * 3600),
        (_steady(50_000.0), 12 * 3600),
        (_steady(1.0, longest=400.0), 800),
        (_steady(1.0, survived=840.0), 1680),
        (Pace(num_steps=3, usual=1.0, longest=1.0), 600),
        (Pace(), 600),
    ],
)
def test_patience_follows_the_pace_of_the_run(pace: Pace, seconds: float) -> None:
    """The setting, the median, the longest step and the longest pause, whichever is longest."""
    assert patience(pace, LEAST) == seconds


@pytest.mark.parametrize(
    ("quiet", "expected"),
    [(120.0, None), (121.0, Severity.WARNING), (600.0, Severity.WARNING), (601.0, "critical")],
)
def test_gravity_grows_with_time(quiet: float, expected: str | None) -> None:
    """Nothing, then a warning, then critical at five times as long."""
    found = silent_of([_rank(0, 0.0)], now=quiet, listening_since=0.0, least=LEAST)
    assert (found.severity if found else None) == expected


def test_time_before_anybody_listened_does_not_count() -> None:
    """The later of the last arrival and the beginning of listening."""
    run = [_rank(0, 0.0)]
    assert silent_of(run, now=1000.0, listening_since=900.0, least=LEAST) is None
    found = silent_of(run, now=1100.0, listening_since=900.0, least=LEAST)
    assert found is not None
    assert found.seconds == 200.0


def test_a_rank_is_named_only_if_others_were_heard_well_after_it() -> None:
    """Ranks that stop within a few seconds of one another are one silent run."""
    together = [_rank(0, 3.0), _rank(1, 0.0)]
    assert silent_of(together, now=122.0, listening_since=0.0, least=LEAST) is None
    found = silent_of(together, now=124.0, listening_since=0.0, least=LEAST)
    assert found is not None
    assert found.ranks == ()
    apart = [_rank(0, 120.0), _rank(1, 0.0), _rank(2, 120.0)]
    found = silent_of(apart, now=122.0, listening_since=0.0, least=LEAST)
    assert found is not None
    assert [rank.rank for rank in found.ranks] == [1]


def test_a_run_without_a_rank_is_not_judged() -> None:
    """There is nothing to have heard."""
    assert silent_of([], now=1e9, listening_since=0.0, least=LEAST) is None


def test_a_clock_that_goes_back_makes_nobody_silent() -> None:
    """Replicas' clocks differ by a little, and what was heard may lie ahead."""
    assert silent_of([_rank(0, 1e6)], now=0.0, listening_since=0.0, least=LEAST) is None
