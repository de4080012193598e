"""Fixed clipping, alone and on each tensor, against arithmetic by hand."""

from __future__ import annotations

import math

import pytest

from tests.clipping.steps import rule, step


def test_a_norm_above_the_limit_is_scaled_to_it() -> None:
    """min(1, 1 / (4 + 1e-6)) = 0.24999994."""
    assert rule("fixed").judge(step(4.0)).factor == pytest.approx(0.24999994, abs=1e-8)


@pytest.mark.parametrize("total", [0.0, 0.5, 1.0])
def test_a_norm_up_to_the_limit_is_left_alone(total: float) -> None:
    """1 itself is not above 1, and a norm of 0 divides nothing."""
    judged = rule("fixed").judge(step(total))

    assert (judged.factor, judged.clipped) == (1.0, False)


@pytest.mark.parametrize("total", [math.nan, math.inf])
def test_a_norm_that_is_no_number_is_told_and_forgotten(total: float) -> None:
    """It counts as not finite and not as clipped, and the next step is judged as ever."""
    fixed = rule("fixed", max_norm=2.0)

    judged = fixed.judge(step(total))

    assert (judged.clipped, judged.non_finite, judged.poisoned) == (False, True, 0)
    assert fixed.judge(step(8.0)).factor == pytest.approx(0.25, rel=1e-6)


def test_component_wise_clips_each_tensor_by_itself() -> None:
    """With 2: norms 1, 4 and 8 give 1, 2 / 4 and 2 / 8."""
    judged = rule("component_wise", max_norm=2.0).judge(step(l2=[1.0, 4.0, 8.0]))

    assert judged.tensors is not None
    assert judged.tensors.tolist() == pytest.approx([1.0, 0.5, 0.25], rel=1e-6)
    assert judged.factor == pytest.approx(0.25, rel=1e-6)


def test_component_wise_leaves_out_what_is_absent_or_no_number() -> None:
    """A tensor without a gradient and one with NaN are 1; the third is clipped all the same."""
    judged = rule("component_wise").judge(step(l2=[None, math.nan, 4.0]))

    assert judged.tensors is not None
    assert judged.tensors.tolist() == pytest.approx([1.0, 1.0, 0.25], rel=1e-6)
    assert judged.non_finite
