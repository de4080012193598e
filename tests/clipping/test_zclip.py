"""ZClip against its published rule, by hand.

The 25 norms of the warm-up are 12 x 0.4, 12 x 0.6 and 0.5:
mean 12.5 / 25 = 0.5, population variance 24 x 0.01 / 25 = 0.0096.
"""

from __future__ import annotations

import math

import pytest
from foreshock_service.clipping.zclip import BY_PLAIN, BY_SCORE, ZClip

from tests.clipping.steps import rule, step

WARMUP = [0.4, 0.6] * 12 + [0.5]


def warm(**given: float) -> ZClip:
    """A ZClip behind its warm-up."""
    zclip = rule("zclip", **given)
    assert isinstance(zclip, ZClip)
    for total in WARMUP:
        assert not zclip.judge(step(total)).clipped
    return zclip


def test_the_warm_up_makes_mean_and_population_variance() -> None:
    """Of 25 norms, not before the last of them."""
    zclip = rule("zclip")
    assert isinstance(zclip, ZClip)
    for total in WARMUP[:-1]:
        zclip.judge(step(total))
    assert zclip.mean is None

    zclip.judge(step(WARMUP[-1]))

    assert zclip.mean == pytest.approx(0.5)
    assert zclip.variance == pytest.approx(0.0096)


def test_the_plain_limit_holds_during_the_warm_up() -> None:
    """The first step may be clipped already: 1 / (2 + 1e-6)."""
    judged = rule("zclip").judge(step(2.0))

    assert judged.factor == pytest.approx(1 / 2.000001)
    assert judged.by == BY_PLAIN


def test_an_outlier_is_clipped_and_its_limit_is_learned() -> None:
    """s = sqrt(0.0096) = 0.09798; z = (0.9 - 0.5) / s = 4.0825 > 2.5; the limit is
    0.5 + 2.5 s / (4.0825 / 2.5) = 0.5 + 0.15 = 0.65. Then m = 0.97 x 0.5 + 0.03 x 0.65 = 0.5045 and
    v = 0.97 x 0.0096 + 0.03 x (0.65 - 0.5045)^2 = 0.009312 + 0.0006351 = 0.0099471."""
    zclip = warm()

    judged = zclip.judge(step(0.9))

    assert judged.factor == pytest.approx(0.65 / 0.9, rel=1e-5)
    assert judged.by == BY_SCORE
    assert zclip.mean == pytest.approx(0.5045, rel=1e-5)
    assert zclip.variance == pytest.approx(0.0099471, rel=1e-5)


def test_a_norm_within_the_threshold_is_learned_as_it_is() -> None:
    """z = (0.7 - 0.5) / 0.09798 = 2.04; m = 0.485 + 0.021 = 0.506;
    v = 0.009312 + 0.03 x (0.7 - 0.506)^2 = 0.009312 + 0.00112908 = 0.01044108."""
    zclip = warm()

    assert not zclip.judge(step(0.7)).clipped
    assert zclip.mean == pytest.approx(0.506)
    assert zclip.variance == pytest.approx(0.01044108)


def test_the_plain_limit_goes_first_where_it_is_lower() -> None:
    """An outlier's limit of 0.65 is above 0.6; what is learned is 0.65 all the same."""
    zclip = warm(max_norm=0.62)

    judged = zclip.judge(step(0.9))

    assert judged.factor == pytest.approx(0.62 / 0.9, rel=1e-5)
    assert judged.by == BY_PLAIN
    assert zclip.mean == pytest.approx(0.5045, rel=1e-5)


def test_one_nan_leaves_only_the_plain_limit_for_ever() -> None:
    """As published: 0.9 is no outlier any more, and 5 is clipped to 1."""
    zclip = warm()

    hit = zclip.judge(step(math.nan))
    after = [zclip.judge(step(total)) for total in (0.9, 5.0)]

    assert (hit.clipped, hit.non_finite, hit.poisoned) == (False, True, 1)
    assert [judged.poisoned for judged in after] == [1, 1]
    assert not after[0].clipped
    assert after[1].factor == pytest.approx(0.2)
    assert after[1].by == BY_PLAIN


def test_an_infinite_norm_is_clipped_to_the_mean_and_poisons_nothing() -> None:
    """z and z / 2.5 are infinite: the limit is m, which leaves m as it is; v = 0.97 x 0.0096."""
    zclip = warm()

    judged = zclip.judge(step(math.inf))

    assert (judged.clipped, judged.non_finite, judged.poisoned) == (False, True, 0)
    assert zclip.mean == pytest.approx(0.5)
    assert zclip.variance == pytest.approx(0.009312)


def test_an_infinite_norm_of_the_warm_up_poisons() -> None:
    """Its mean is infinite and its variance NaN."""
    zclip = rule("zclip", warmup_steps=2)
    zclip.judge(step(math.inf))

    assert zclip.judge(step(0.5)).poisoned == 1


def test_norms_of_zero_divide_nothing() -> None:
    """A run that stands still: mean and spread are 0, and then any norm is an outlier."""
    zclip = rule("zclip", warmup_steps=2)
    assert [zclip.judge(step(0.0)).clipped for _ in range(3)] == [False] * 3

    assert zclip.judge(step(0.5)).factor == pytest.approx(0.0, abs=1e-6)
