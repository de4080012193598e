"""Replica divergence: ranks that no longer hold the same weights."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import FIRST, copied_weights, parted_replicas
from tests.detectors.traces import Trace, changes_of, healthy, names_of, told_by


def _ranked(factor: float, first: int = FIRST) -> Trace:
    """A run that logs one weight once for each of two ranks."""
    trace = healthy(100)
    for rank in range(2):
        old = f"weight:blocks.{rank}.mlp.up.weight"
        trace.describe(old, name=f"rank{rank}/mlp.up.weight")
        trace.put(f"weight:rank{rank}/mlp.up.weight", "std", 1.0, slice(None))
    trace.scale("weight:rank1/mlp.up.weight", factor, first)
    return trace


def test_checksums_that_part_are_told() -> None:
    """Critical, about the run as a whole, and dated to the first step that differed."""
    (finding,) = told_by("replicas", parted_replicas())
    assert (finding.kind, finding.series) == ("replica_divergence", None)
    assert (finding.severity, finding.onset_step) == ("critical", FIRST)
    assert finding.step <= FIRST + 5


def test_the_smallest_difference_counts() -> None:
    """Synchronous replicas are the same to the last bit."""
    trace = parted_replicas()
    trace.scalars["weight_checksum_rank1"] = trace.scalars["weight_checksum_rank0"].copy()
    trace.scalars["weight_checksum_rank1"][FIRST:] += 1e-9
    assert len(told_by("replicas", trace)) == 1


def test_one_row_of_difference_is_quiet() -> None:
    """A checksum that was read between two ranks' steps agrees again on the next."""
    trace = parted_replicas()
    trace.scalars["weight_checksum_rank1"] = trace.scalars["weight_checksum_rank0"].copy()
    trace.scalars["weight_checksum_rank1"][FIRST] += 1.0
    assert told_by("replicas", trace) == []


def test_a_rank_that_logs_nothing_is_quiet() -> None:
    """One number alone differs from nothing."""
    trace = parted_replicas()
    trace.missing = {("weight_checksum_rank1", row) for row in range(100)}
    assert told_by("replicas", trace) == []


def test_a_checksum_that_is_no_number_is_quiet() -> None:
    """NaN equals nothing, itself included; what is not finite is another detector's."""
    trace = parted_replicas()
    trace.scalars["weight_checksum_rank1"] = trace.scalars["weight_checksum_rank0"].copy()
    trace.scalars["weight_checksum_rank2"] = trace.scalars["weight_checksum_rank0"].copy()
    trace.scalars["weight_checksum_rank0"] = np.full(100, np.nan)
    assert told_by("replicas", trace) == []


def test_a_weight_that_differs_between_ranks_is_named() -> None:
    """The one of the later rank, since the first is what it is compared with."""
    trace = _ranked(1.05)
    (finding,) = told_by("replicas", trace)
    assert names_of([finding], trace) == ["weight:rank1/mlp.up.weight"]
    assert (finding.severity, finding.onset_step) == ("critical", FIRST)


def test_rounded_statistics_of_equal_weights_are_quiet() -> None:
    """A statistic that was sent with ten bits differs by less than a thousandth."""
    assert told_by("replicas", _ranked(1.0005)) == []


def test_a_checksum_that_is_no_number_hides_no_difference() -> None:
    """The other ranks are still compared with one another."""
    trace = parted_replicas()
    trace.scalars = {"weight_checksum_rank2": np.full(100, np.nan), **trace.scalars}
    assert len(told_by("replicas", trace)) == 1


def test_ranks_that_take_local_steps_are_quiet() -> None:
    """Twelve steps each for itself, then the mean of them, from the first step on."""
    trace = _meeting(every=12, until=400)
    assert told_by("replicas", trace) == []


def test_ranks_that_no_longer_meet_are_told() -> None:
    """After twice the time that they were ever apart for."""
    (finding,) = told_by("replicas", _meeting(every=12, until=120))
    assert finding.onset_step == 121
    assert finding.step == 121 + 21


def test_ranks_that_never_were_alike_are_told() -> None:
    """Nobody synchronised them."""
    (finding,) = told_by("replicas", _meeting(every=1000, until=0))
    assert (finding.onset_step, finding.step) == (1, 16)


def _meeting(*, every: int, until: int) -> Trace:
    """Two ranks whose weights are the same on some steps alone, and on no later ones."""
    trace = healthy(240)
    steps = np.arange(240)
    apart = (steps % every != 0) | (steps > until)
    for rank in range(2):
        sums = 1.0 + steps + 0.25 * rank * apart
        trace.scalars[f"weight_checksum_rank{rank}"] = sums.astype(np.float64)
    return trace


def test_a_difference_that_was_told_excuses_no_other() -> None:
    """Once mended, the next one is told as soon as the first was."""
    trace = _meeting(every=1, until=1000)
    for first in (60, 200):
        trace.scalars["weight_checksum_rank1"][first : first + 30] += 0.25
    assert [f.onset_step for f in told_by("replicas", trace)] == [60, 200]


def test_rows_on_which_no_rank_was_measured_do_not_count() -> None:
    """Neither as together nor as apart."""
    trace = _ranked(1.5)
    for rank in range(2):
        index = trace.index(f"weight:rank{rank}/mlp.up.weight")
        trace.stats[np.arange(100) % 4 != 0, index, :] = np.nan
    (finding,) = told_by("replicas", trace)
    assert (finding.onset_step, finding.step) == (60, 64)


def test_copies_that_part_by_a_ten_thousandth_are_told() -> None:
    """Two numbers do not stay the same to the bit by chance, as they change."""
    trace = copied_weights()
    finding = told_by("replicas", trace)[0]
    assert (finding.kind, finding.severity) == ("replica_divergence", "critical")
    assert (finding.onset_step, finding.step) == (80, 81)
    assert names_of([finding], trace) == ["weight:replica1.up.weight"]


def test_copies_need_rows_to_be_known_as_such() -> None:
    """Weights that began alike part at once."""
    assert told_by("replicas", copied_weights(first=20)) == []


def test_weights_that_do_not_move_are_no_copies() -> None:
    """Gains of frozen layers are all one."""
    trace = copied_weights()
    for copy in range(2):
        trace.put(f"weight:replica{copy}.up.weight", "std", 1.0, slice(0, 80))
    assert told_by("replicas", trace) == []


def test_copies_that_are_not_measured_on_a_row_stay_copies() -> None:
    """Absent is not different."""
    trace = copied_weights(first=10**9)
    trace.stats[90, trace.index("weight:replica1.up.weight")] = np.nan
    assert told_by("replicas", trace) == []


@pytest.mark.parametrize("name", ["weight_norm_rank{}", "rank{}/grad_norm"])
def test_a_scalar_of_each_rank_is_told_as_well(name: str) -> None:
    """Whatever it is: it was one number."""
    trace = healthy(100)
    for rank in range(3):
        trace.scalars[name.format(rank)] = np.linspace(1.0, 2.0, 100)
    trace.scalars[name.format(1)][FIRST:] += 1e-6
    finding = told_by("replicas", trace)[0]
    assert (finding.series, finding.onset_step) == (None, FIRST)
    told = name.replace("_rank{}", "").replace("rank{}/", "")
    assert changes_of(trace)[0].sentence.startswith(
        f"The ranks no longer agree on {told} from step {FIRST}"
    )


def test_scalars_that_never_were_one_are_quiet() -> None:
    """Each rank has a loss of its own."""
    trace = healthy(100)
    for rank in range(2):
        trace.scalars[f"loss_rank{rank}"] = np.random.default_rng(rank).normal(size=100)
    assert told_by("replicas", trace) == []
