"""All rules over one run: the account that each of them gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from foreshock_service.clipping.account import STRONGEST, ShadowResult
from foreshock_service.clipping.registry import RULES, values_of
from foreshock_service.clipping.shadow import Shadow, SickSteps, joined

from tests.clipping.frames import frame


def over(totals: list[float], **given: float) -> ShadowResult:
    """Fixed clipping over logged norms, of which steps 10 to 19 are sick."""
    shadow = Shadow({"fixed": given}, sick=[SickSteps(10, 20)])
    for number, total in enumerate(totals):
        shadow.push(frame(number, scalars={"grad_norm": total}))
    (result,) = shadow.results()
    return result


def test_clipped_steps_are_counted_on_healthy_ones_apart() -> None:
    """Of 40 steps 3 are above 1, one of them inside the incident: 2 of 30 healthy ones."""
    totals = [0.5] * 40
    totals[3], totals[15], totals[30] = 2.0, 10.0, 4.0

    result = over(totals)

    assert (result.num_steps, result.num_clipped) == (40, 3)
    assert (result.num_healthy, result.num_healthy_clipped) == (30, 2)
    assert result.clipped_share == 3 / 40
    assert result.false_clip_rate == 2 / 30
    assert (result.first_step, result.last_step) == (3, 30)
    assert result.min_factor == pytest.approx(0.1, rel=1e-5)
    assert result.median_factor == pytest.approx(0.25, rel=1e-5)
    assert [(s.step, s.healthy) for s in result.strongest] == [(15, False), (30, True), (3, True)]
    assert result.sentence == (
        "fixed would have clipped 3 of 40 steps (7.5 %), at steps 3 to 30, at most to 0.1 of the "
        "size; 2 of 30 healthy steps (6.67 %)."
    )
    assert result.approximate == ()


def test_only_the_strongest_steps_are_listed() -> None:
    """And all of them counted."""
    result = over([2.0 + number for number in range(200)])

    assert result.num_clipped == 200
    assert [s.step for s in result.strongest] == list(range(199, 199 - STRONGEST, -1))


def test_a_quiet_run_has_no_factor() -> None:
    """Nothing was clipped, so there is nothing to have a median."""
    result = over([0.5] * 30)

    assert (result.min_factor, result.median_factor, result.first_step) == (None, None, None)
    assert result.sentence == (
        "fixed would have clipped none of 30 steps; 0 of 20 healthy steps (0 %)."
    )


def test_norms_that_are_no_numbers_are_told() -> None:
    """As steps of their own kind, neither clipped nor left out."""
    result = over([math.nan, math.inf, 0.5])

    assert (result.num_steps, result.num_clipped, result.num_non_finite) == (3, 0, 2)
    assert "2 had a norm that is not finite" in result.sentence


def test_tensors_are_listed_by_how_often_they_would_have_been_clipped() -> None:
    """`layers.1` on three steps, `layers.0` on one."""
    shadow = Shadow({"component_wise": {}})
    for number, l2 in enumerate([(0.5, 2.0), (0.5, 4.0), (8.0, 2.0), (0.5, 0.5)]):
        shadow.push(frame(number, l2))

    (result,) = shadow.results()

    assert [(t.name, t.num_steps) for t in result.tensors] == [
        ("layers.1.weight", 3),
        ("layers.0.weight", 1),
    ]
    assert result.strongest[0].tensor == "layers.0.weight"


def test_a_poisoned_rule_says_from_which_step_on() -> None:
    """One NaN at step 30, and the healthy steps behind it do not mend it."""
    shadow = Shadow()
    for number in range(60):
        total = math.nan if number == 30 else 0.5
        shadow.push(frame(number, scalars={"grad_norm": total}))

    found = {result.algorithm: result for result in shadow.results()}

    assert found["zclip"].poisoned_step == 30
    assert "poisoned from step 30: a NaN enters its mean" in found["zclip"].sentence
    assert found["autoclip"].poisoned_step == 30
    assert found["fixed"].poisoned_step is None


def test_a_rule_without_what_it_needs_says_what() -> None:
    """A run with only a loss and norms has nothing for rules that judge tensors."""
    shadow = Shadow()
    shadow.push(frame(0, scalars={"loss": 1.0, "grad_norm": 2.0}))

    found = {result.algorithm: result for result in shadow.results()}

    assert [name for name, result in found.items() if result.available] == [
        "fixed", "zclip", "autoclip",
    ]  # fmt: skip
    assert found["agc"].sentence == (
        "agc is not available: it needs the norm of each gradient, before clipping and the norm of "
        "each weight, and no step of the run has it."
    )
    assert found["agc"].clipped_share is None


def test_a_norm_of_some_gradients_makes_rules_of_the_whole_unavailable() -> None:
    """And the sentence says how to get the whole one."""
    shadow = Shadow({"zclip": {}})
    shadow.push(frame(0, [1.0, 1.0], scalars={"grad_norm/watched": 2.0}))

    (result,) = shadow.results()

    assert not result.available
    assert "log what clip_grad_norm_ returns as grad_norm" in result.sentence


def test_every_rule_judges_a_whole_frame() -> None:
    """With gradients, weights and a norm none is missing anything."""
    shadow = Shadow()
    for number in range(3):
        shadow.push(frame(number, [0.3, 0.4], weights=[1.0, 1.0], scalars={"grad_norm": 0.5}))

    assert [(r.algorithm, r.num_steps) for r in shadow.results()] == [(name, 3) for name in RULES]


def test_frames_without_gradients_are_told_and_change_nothing() -> None:
    """Rules that judge tensors see two steps of three."""
    shadow = Shadow({"fira": {}})
    steps: list[list[float | None]] = [[1.0, 1.0], [None, None], [1.0, 1.0]]
    for number, l2 in enumerate(steps):
        shadow.push(frame(number, l2))

    (result,) = shadow.results()

    assert result.num_steps == 2
    assert any("1 step of 3 have no gradient statistics" in text for text in result.approximate)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("nonsense", {}, "no clipping rule is called"),
        ("zclip", {"beta": 1.0}, "zclip has no parameter 'beta'; it has alpha"),
        ("zclip", {"alpha": 1.5}, "alpha must be between 0 and 1"),
        ("zclip", {"alpha": math.nan}, "alpha must be between 0 and 1"),
        ("zclip", {"warmup_steps": 2.5}, "must be a whole number"),
        ("fixed", {"max_norm": 0.0}, "must be between 1e-12"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(
    name: str, given: dict[str, float], message: str
) -> None:
    """With what would."""
    with pytest.raises(ValueError, match=message):
        Shadow({name: given})


@pytest.mark.parametrize("name", list(RULES))
def test_every_default_and_bound_is_accepted(name: str) -> None:
    """A rule can be made of the ends of its ranges, and then judges a step."""
    for end in ("default", "low", "high"):
        given = {key: getattr(item, end) for key, item in RULES[name].parameters.items()}
        shadow = Shadow({name: values_of(name, given)})
        for number in range(3):
            shadow.push(frame(number, [3.0, 4.0], weights=[1.0, 1.0], scalars={"grad_norm": 5.0}))
        (result,) = shadow.results()
        assert result.num_steps == 3
        assert result.min_factor is None or 0.0 <= result.min_factor < 1.0


def test_stretches_that_touch_are_one() -> None:
    """And one without an end holds everything after it."""
    assert joined([SickSteps(30, 40), SickSteps(5, 10), SickSteps(8, 12), SickSteps(12, 13)]) == [
        SickSteps(5, 13),
        SickSteps(30, 40),
    ]
    assert joined([SickSteps(9, None), SickSteps(2, 3), SickSteps(20, 30)]) == [
        SickSteps(2, 3),
        SickSteps(9, None),
    ]


def test_nothing_that_a_client_can_send_breaks_a_rule() -> None:
    """Norms and tensors of 0, of the largest floats, negative, NaN, Inf and absent, in any order:
    every factor stays in [0, 1], and nothing overflows aloud."""
    odd = [0.0, 1e-45, 1.0, 3e38, 1.8e308, -1.0, math.nan, math.inf, -math.inf]
    tensors: list[float | None] = [0.0, 1e-40, 1.0, 1e38, math.nan, math.inf, None]
    rng = np.random.default_rng(7)
    shadow = Shadow({name: {} for name in RULES})
    for number in range(400):
        l2 = [tensors[i] for i in rng.integers(len(tensors), size=2)]
        weights = [tensors[i] for i in rng.integers(len(tensors), size=2)]
        scalars = {"grad_norm": odd[rng.integers(len(odd))]} if number % 3 else {}
        shadow.push(frame(number, l2, weights=weights, scalars=scalars))

    for result in shadow.results():
        assert result.num_steps > 0
        assert result.min_factor is None or 0.0 <= result.min_factor < 1.0
        assert result.num_clipped <= result.num_steps
