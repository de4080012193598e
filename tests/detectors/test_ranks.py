"""Weights of several ranks: who is the odd one, and what must not be taken for a replica."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from foreshock_service.detectors.codec import decode_state, encode_state
from foreshock_service.detectors.ranks import RankComparison, WeightRow
from foreshock_service.domain.findings import Finding

from tests.factories import make_schema

SCHEMA = make_schema(num_layers=4, kinds=("weight",))
NAMES = tuple(series.name for series in SCHEMA.series)
HOSTS = {0: "node-0", 1: "node-0", 2: "node-1"}
Values = npt.NDArray[np.float64]
Break = Callable[[int, int, Values], None]
"""Changes the values [weights, 5] of a step and a rank in place."""


def _row(step: int, rank: int, change: Break | None) -> WeightRow:
    rng = np.random.default_rng(step)
    values = np.empty((4, 5))
    values[:, 0] = rng.normal(0, 0.01, 4)
    values[:, 1] = 1 + rng.normal(0, 0.01, 4)
    values[:, 2], values[:, 3], values[:, 4] = -4 * values[:, 1], 4 * values[:, 1], 4096
    if change is not None:
        change(step, rank, values)
    return WeightRow(1, step, step, SCHEMA, values, NAMES, (0, 1, 2, 3))


def _run(change: Break | None, *, ranks: int = 3, steps: int = 40) -> list[Finding]:
    comparison = RankComparison()
    found = []
    for step in range(steps):
        # Saved and taken up again at every row, as bytes: nothing but the state may matter.
        state = decode_state(encode_state(comparison.state()))
        comparison = RankComparison()
        comparison.restore(state)
        rows = {rank: _row(step, rank, change) for rank in range(ranks)}
        found += comparison.push(rows, HOSTS)
    return found


def _from(step: int, rank: int, weight: int | slice, column: int = 3, by: float = 1e-3) -> Break:
    def change(at: int, of: int, values: Values) -> None:
        if at >= step and of == rank:
            values[weight, column] *= 1 + by

    return change


def test_equal_ranks_say_nothing() -> None:
    """However the weights move."""
    assert _run(None) == []


@pytest.mark.parametrize("column", range(4))
def test_the_odd_rank_of_three_is_named_with_its_layer(column: int) -> None:
    """On the second row, with the step of the first, whatever statistic it shows in."""
    found = _run(_from(20, 2, 1, column, by=0.5))
    assert [(f.step, f.onset_step, f.series) for f in found[:1]] == [(21, 20, 1)]
    assert found[0].evidence == {
        "ranks": "2", "num_odd": 1, "num_ranks": 3, "num_apart": 1, "num_compared": 4,
        "host": "node-1",
    }  # fmt: skip


def test_of_two_ranks_both_are_named() -> None:
    """Nobody can know which of them is right."""
    found = _run(_from(20, 1, 1), ranks=2)
    assert found[0].evidence["ranks"] == "0, 1"
    assert found[0].evidence["num_odd"] == 2


def test_the_weight_that_left_first_is_named_first() -> None:
    """Not the one that is farthest off."""

    def change(step: int, rank: int, values: Values) -> None:
        _from(20, 1, 3)(step, rank, values)
        _from(21, 1, 0, by=1.0)(step, rank, values)

    assert list(dict.fromkeys(f.series for f in _run(change))) == [3, 0]
    assert [f.series for f in _run(change) if f.step == 22] == [3, 0]


def test_nobody_is_named_when_all_weights_depart_at_once() -> None:
    """An update that a rank missed is no layer's fault."""
    found = _run(_from(20, 1, slice(None)))
    assert [f.series for f in found[:1]] == [None]
    assert found[0].evidence["num_apart"] == 4


def test_the_ranks_that_a_sentence_leaves_out_are_counted_and_kept() -> None:
    """Twelve of thirty: eight are named, and whoever needs the others finds their numbers."""
    odd = range(3, 15)

    def change(step: int, rank: int, values: Values) -> None:
        if rank in odd:
            _from(20, rank, 1)(step, rank, values)

    evidence = _run(change, ranks=30)[0].evidence
    assert evidence["ranks"] == "3, 4, 5, 6, 7, 8, 9, 10 and 4 more"
    assert evidence["odd_ranks"] == ", ".join(str(rank) for rank in odd)
    assert evidence["num_odd"] == 12


def test_weights_that_differ_on_one_row_each_are_not_two_rows_of_one() -> None:
    """Rows are counted for a weight: two weights in turn are two single rows."""

    def change(step: int, rank: int, values: Values) -> None:
        if step in (20, 21) and rank == 1:
            values[step - 20, 3] *= 2

    assert _run(change) == []


def test_one_row_is_not_enough() -> None:
    """A statistic that was measured between two updates is back on the next row."""

    def change(step: int, rank: int, values: Values) -> None:
        if step == 20 and rank == 1:
            values[:, 3] *= 2

    assert _run(change) == []


@pytest.mark.parametrize("first", [0, 1, 7])
def test_a_weight_that_was_never_a_replica_is_sharded(first: int) -> None:
    """Different from the start, or from the first update of a shard that begins at zero."""
    assert _run(_from(first, 1, 2)) == []


def test_a_sharded_model_that_does_not_move_yet_is_not_taken_for_replicas() -> None:
    """Zeros and ones are alike on all ranks until a warm-up from zero moves them."""

    def change(step: int, rank: int, values: Values) -> None:
        values[:, :4] = 0.0 if step < 20 else step * (1 + rank)

    assert _run(change) == []


def test_another_size_on_another_rank_is_a_shard() -> None:
    """Whatever its statistics are."""

    def change(step: int, rank: int, values: Values) -> None:
        if rank == 1:
            values[2, 4] = 4095
            values[2, 3] *= 1 + 0.01 * (step > 20)

    assert _run(change) == []


def test_sums_in_another_order_are_the_same_weights() -> None:
    """Other hardware rounds otherwise."""
    assert _run(_from(20, 1, slice(None), by=1e-6)) == []


def test_values_that_are_not_finite_are_left_to_others() -> None:
    """NaN is told by the rank that has it."""

    def change(step: int, rank: int, values: Values) -> None:
        if step >= 20 and rank == 1:
            values[:, :4] = np.nan

    assert _run(change) == []
