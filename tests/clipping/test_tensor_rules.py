"""OLMo's adaptive clipping, AGC, Stable-SPAM's threshold and Fira's limiter, by hand."""

from __future__ import annotations

import math

import pytest
from foreshock_service.clipping.fira import Fira
from foreshock_service.clipping.olmo import Olmo
from foreshock_service.clipping.stable_spam import StableSpam

from tests.clipping.steps import rule, step


def olmo(*norms: float | None) -> Olmo:
    """With r = 2 and b = 0.9, behind these norms of one tensor."""
    made = rule("olmo", ratio=2.0, beta=0.9)
    assert isinstance(made, Olmo)
    for norm in norms:
        made.judge(step(l2=[norm]))
    return made


def test_olmo_keeps_an_average_from_the_second_step_on() -> None:
    """Step 1 is forgotten: at step 2 the average is 0.9 x 2 + 0.1 x 2 = 2."""
    assert olmo(1.0).average.tolist() == [0.0]
    assert olmo(1.0, 2.0).average.tolist() == pytest.approx([2.0])


def test_olmo_clips_to_twice_the_average_and_learns_the_limit() -> None:
    """2 x 2 = 4 of 10 is 0.4; the average is 0.9 x 2 + 0.1 x 4 = 2.2. Then 4 is below 4.4, and the
    average is 0.9 x 2.2 + 0.1 x 4 = 2.38."""
    rule_ = olmo(1.0, 2.0)

    assert rule_.judge(step(l2=[10.0])).factor == pytest.approx(0.4, rel=1e-6)
    assert rule_.average.tolist() == pytest.approx([2.2])
    assert not rule_.judge(step(l2=[4.0])).clipped
    assert rule_.average.tolist() == pytest.approx([2.38])


def test_olmo_judges_the_first_step_against_itself() -> None:
    """With r = 0.5 a first norm of 3 is halved, 1.5 / (3 + 1e-6)."""
    judged = rule("olmo", ratio=0.5).judge(step(l2=[3.0]))

    assert judged.factor == pytest.approx(0.5, rel=1e-6)


def test_olmo_is_poisoned_by_a_nan_and_not_by_an_inf() -> None:
    """Inf counts as the limit: 0.9 x 2 + 0.1 x 4 = 2.2."""
    hit, spared = olmo(1.0, 2.0), olmo(1.0, 2.0)

    nan, inf = hit.judge(step(l2=[math.nan])), spared.judge(step(l2=[math.inf]))

    assert (nan.non_finite, nan.poisoned, inf.non_finite, inf.poisoned) == (True, 1, True, 0)
    assert (nan.clipped, inf.clipped) == (False, False)
    assert spared.average.tolist() == pytest.approx([2.2])
    assert not hit.judge(step(l2=[1e9])).clipped


def test_olmo_gives_an_absent_tensor_no_step() -> None:
    """Its average begins with its first gradient, after step 1."""
    assert olmo(1.0, None, 3.0).average.tolist() == pytest.approx([3.0])
    assert olmo(1.0, 2.0, None).average.tolist() == pytest.approx([2.0])


def test_agc_holds_a_gradient_below_a_hundredth_of_its_weight() -> None:
    """0.01 x 5 = 0.05 of 0.1 is 0.5; 0.01 x max(0, 0.001) = 1e-5 of 1e-4 is 0.1; 0.04 is below."""
    judged = rule("agc").judge(step(l2=[0.1, 1e-4, 0.04], weights=[5.0, 0.0, 5.0]))

    assert judged.tensors is not None
    assert judged.tensors.tolist() == pytest.approx([0.5, 0.1, 1.0])


def test_agc_exempts_the_last_layer_unless_told_not_to() -> None:
    """As the paper does."""
    last = step(l2=[0.1], weights=[5.0], last=[True])

    assert rule("agc").judge(last).factor == 1.0
    assert rule("agc", exempt_last=0).judge(last).factor == pytest.approx(0.5)


def test_agc_judges_nothing_without_a_weight_or_a_number() -> None:
    """Weights that were never measured, gradients of NaN, of 0, and absent ones are left alone."""
    judged = rule("agc").judge(
        step(l2=[0.1, math.nan, 0.0, None], weights=[math.nan, 5.0, 5.0, 5.0])
    )

    assert judged.tensors is not None
    assert judged.tensors.tolist() == [1.0, 1.0, 1.0, 1.0]
    assert (judged.non_finite, judged.poisoned) == (True, 0)


def spam(*largest: float | None) -> StableSpam:
    """With theta = 0.9, behind these largest elements of one tensor."""
    made = rule("stable_spam", theta=0.9)
    assert isinstance(made, StableSpam)
    for value in largest:
        made.judge(step(abs_max=[value]))
    return made


def test_stable_spam_lets_the_first_step_through() -> None:
    """m = 0.1 x 1, debiased by 1 - 0.9: the limit is 1."""
    assert not spam().judge(step(abs_max=[1.0])).clipped


def test_stable_spam_scales_to_the_debiased_average() -> None:
    """m = 0.9 x 0.1 + 0.1 x 3 = 0.39; 0.39 / (1 - 0.81) = 2.052632; of 3 that is 0.684211. Then
    m = 0.351 + 0.2 = 0.551, the limit 0.551 / 0.271 = 2.03, and 2 is below it."""
    rule_ = spam(1.0)

    assert rule_.judge(step(abs_max=[3.0])).factor == pytest.approx(0.684211, abs=1e-6)
    assert not rule_.judge(step(abs_max=[2.0])).clipped
    assert rule_.average.tolist() == pytest.approx([0.551])


def test_stable_spam_counts_only_the_steps_with_a_gradient() -> None:
    """After an absent step the second one is still the second."""
    assert spam(1.0, None).judge(step(abs_max=[3.0])).factor == pytest.approx(0.684211, abs=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_stable_spam_never_clips_again_after_a_value_that_is_no_number(value: float) -> None:
    """Its average is that value for ever."""
    rule_ = spam(1.0)

    hit, after = rule_.judge(step(abs_max=[value])), rule_.judge(step(abs_max=[1e9]))

    assert (hit.non_finite, hit.poisoned) == (True, 1)
    assert (after.clipped, after.poisoned) == (False, 1)


def test_stable_spam_takes_zeros_for_values() -> None:
    """m = 0; then 1: m = 0.1, the limit 0.1 / 0.19 = 0.526316."""
    assert spam(0.0).judge(step(abs_max=[1.0])).factor == pytest.approx(0.526316, abs=1e-6)


def fira(*norms: float | None) -> Fira:
    """Behind these norms of one tensor."""
    made = rule("fira")
    assert isinstance(made, Fira)
    for norm in norms:
        made.judge(step(l2=[norm]))
    return made


def test_fira_lets_a_norm_grow_by_one_percent() -> None:
    """rho = max(2 / 1, 1.01) / 1.01 = 1.980198: 0.505 is left, and 2 / rho = 1.01 is kept. Then 1
    is no growth, and is kept as it is."""
    rule_ = fira(1.0)

    assert rule_.judge(step(l2=[2.0])).factor == pytest.approx(0.505, rel=1e-6)
    assert rule_.kept.tolist() == pytest.approx([1.01], rel=1e-6)
    assert not rule_.judge(step(l2=[1.0])).clipped
    assert rule_.kept.tolist() == pytest.approx([1.0])


def test_fira_lets_the_first_step_and_small_growth_through() -> None:
    """1 to 1.01 is just allowed."""
    rule_ = fira()

    assert [rule_.judge(step(l2=[n])).clipped for n in (1.0, 1.0, 1.01)] == [False] * 3


def test_fira_hardly_comes_back_from_zero() -> None:
    """rho = 1 / (0 + 1e-8) / 1.01: what is left, and kept, is 1.01e-8."""
    rule_ = fira(1.0, 0.0)

    assert rule_.judge(step(l2=[1.0])).factor == pytest.approx(1.01e-8)
    assert rule_.kept.tolist() == pytest.approx([1.01e-8])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_fira_keeps_a_value_that_is_no_number_for_ever(value: float) -> None:
    """Inf over Inf is NaN; nothing is counted as clipped from there on."""
    rule_ = fira(1.0)

    hit, after = rule_.judge(step(l2=[value])), rule_.judge(step(l2=[1e9]))

    assert (hit.clipped, hit.non_finite, hit.poisoned) == (False, True, 1)
    assert (after.clipped, after.poisoned) == (False, 1)


def test_fira_gives_an_absent_tensor_no_step() -> None:
    """It is compared with its last gradient."""
    assert fira(1.0, None).judge(step(l2=[2.0])).factor == pytest.approx(0.505, rel=1e-6)
