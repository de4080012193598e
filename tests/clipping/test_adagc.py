"""AdaGC against its published rule, by hand; two tensors, and a warm-up of two steps."""

from __future__ import annotations

import math

import pytest
from foreshock_service.clipping.adagc import BY_TENSOR, BY_WARMUP, AdaGC
from foreshock_service.clipping.registry import RULES

from tests.clipping.steps import rule, step


def short() -> AdaGC:
    """Tensors have limits of their own from step 3 on."""
    adagc = rule("adagc", warmup_steps=3)
    assert isinstance(adagc, AdaGC)
    return adagc


def warm() -> AdaGC:
    """Behind a warm-up that leaves running norms of 0.3 and 0.4."""
    adagc = short()
    adagc.judge(step(5.0, [3.0, 4.0]))
    adagc.judge(step(0.5, [0.3, 0.4]))
    return adagc


def test_the_warm_up_clips_the_whole_and_keeps_the_smallest() -> None:
    """G = 5: h = 0.2, gamma = (0.6, 0.8). G = 0.5: h = 1, and (0.3, 0.4) is smaller in both."""
    adagc = short()

    first = adagc.judge(step(5.0, [3.0, 4.0]))
    gamma = adagc.gamma.tolist()
    second = adagc.judge(step(0.5, [0.3, 0.4]))

    assert first.factor == pytest.approx(0.2)
    assert first.by == BY_WARMUP
    assert gamma == pytest.approx([0.6, 0.8])
    assert not second.clipped
    assert adagc.gamma.tolist() == pytest.approx([0.3, 0.4])


def test_then_each_tensor_is_held_to_its_own_running_norm() -> None:
    """1.05 x 0.3 = 0.315 of 0.6 is 0.525; gamma = 0.98 x 0.3 + 0.02 x 0.315 = 0.3003. The other is
    below 0.42 and keeps 0.98 x 0.4 + 0.02 x 0.4 = 0.4."""
    adagc = warm()

    judged = adagc.judge(step(1.0, [0.6, 0.4]))

    assert judged.tensors is not None
    assert judged.tensors.tolist() == pytest.approx([0.525, 1.0])
    assert judged.by == BY_TENSOR
    assert adagc.gamma.tolist() == pytest.approx([0.3003, 0.4])


def test_the_published_warm_up_ends_at_step_100() -> None:
    """Steps 1 to 99 are clipped as a whole, the 100th by tensor."""
    assert RULES["adagc"].parameters["warmup_steps"].default == 100
    adagc = rule("adagc")

    by = [adagc.judge(step(2.0, [2.0])).by for _ in range(100)]

    assert by == [BY_WARMUP] * 99 + [BY_TENSOR]


def test_a_tensor_that_is_absent_keeps_its_running_norm() -> None:
    """And one whose first gradient comes later begins with it."""
    adagc = warm()

    adagc.judge(step(1.0, [None, 0.4, 7.0]))

    assert adagc.gamma.tolist() == pytest.approx([0.3, 0.4, 7.0])


def test_a_nan_after_the_warm_up_poisons_its_tensor_only() -> None:
    """The other goes on: 0.42 of 0.84."""
    adagc = warm()

    hit = adagc.judge(step(math.nan, [math.nan, 0.4]))
    after = adagc.judge(step(1.0, [9.0, 0.84]))

    assert (hit.non_finite, hit.poisoned, after.poisoned) == (True, 1, 1)
    assert after.tensors is not None
    assert after.tensors.tolist() == pytest.approx([1.0, 0.5])


def test_an_inf_after_the_warm_up_poisons_its_tensor_and_is_not_clipped() -> None:
    """Inf times a factor of 0 is NaN, which nobody would call clipped."""
    adagc = warm()

    hit = adagc.judge(step(math.inf, [math.inf, 0.4]))

    assert (hit.clipped, hit.non_finite, hit.poisoned) == (False, True, 1)


def test_an_infinite_norm_of_the_warm_up_leaves_limits_of_zero() -> None:
    """h = 1 / inf = 0 is the smallest norm that there is: the finite tensor is clipped to 0."""
    adagc = short()
    adagc.judge(step(0.5, [0.3, 0.4]))

    hit = adagc.judge(step(math.inf, [math.inf, 0.4]))
    after = adagc.judge(step(0.5, [0.3, 0.4]))

    assert (hit.clipped, hit.non_finite, hit.poisoned) == (False, True, 1)
    assert after.tensors is not None
    assert after.tensors.tolist() == pytest.approx([1.0, 0.0])


def test_a_nan_of_the_warm_up_is_not_smaller_than_anything() -> None:
    """The running norms stay as they are."""
    adagc = short()
    adagc.judge(step(0.5, [0.3, 0.4]))
    adagc.judge(step(math.nan, [math.nan, 0.1]))

    assert adagc.gamma.tolist() == pytest.approx([0.3, 0.4])


def test_a_norm_of_zero_divides_nothing() -> None:
    """After the warm-up it is below its limit; gamma = 0.98 x 0.3."""
    adagc = warm()

    assert not adagc.judge(step(0.4, [0.0, 0.4])).clipped
    assert adagc.gamma.tolist() == pytest.approx([0.294, 0.4])
