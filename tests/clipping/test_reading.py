"""What of a frame becomes a norm, and what is said against it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from foreshock.wire import FrameFlag
from foreshock_service.clipping.protocol import Need
from foreshock_service.clipping.reading import NormReader

from tests.clipping.frames import frame
from tests.factories import ALL_MEASURED, ATTEMPT, make_schema

ALL = tuple(Need)


def test_norms_are_made_of_mean_and_spread() -> None:
    """To the precision of float32, with the largest element of each and their common norm."""
    reader = NormReader()

    norms = reader.read(frame(0, [3.0, 4.0], weights=[10.0, None]))

    assert norms is not None
    assert reader.names == ["layers.0.weight", "layers.1.weight"]
    assert norms.l2.tolist() == pytest.approx([3.0, 4.0], rel=1e-6)
    assert norms.abs_max.tolist() == pytest.approx([3.0 / 64, 4.0 / 64], rel=1e-6)
    assert norms.total == pytest.approx(5.0, rel=1e-6)
    assert norms.weights[0] == pytest.approx(10.0, rel=1e-6)
    assert math.isnan(norms.weights[1])
    assert norms.last.tolist() == [False, True]
    assert "no grad_norm was logged" in reader.caveats(ALL)[0]


def test_the_logged_norm_goes_before_the_sum() -> None:
    """It is what `clip_grad_norm_` returned, in full precision."""
    norms = NormReader().read(frame(0, [3.0, 4.0], scalars={"grad_norm": 5.001}))

    assert norms is not None
    assert norms.total == 5.001


def test_absent_nan_and_inf_are_three_things() -> None:
    """Nothing, NaN and inf; and the common norm is no number."""
    norms = NormReader().read(frame(0, [math.nan, None]))
    other = NormReader().read(frame(0, [math.inf, 4.0]))

    assert norms is not None
    assert other is not None
    assert norms.present.tolist() == [True, False]
    assert math.isnan(norms.l2[0])
    assert norms.total is not None
    assert math.isnan(norms.total)
    assert other.l2.tolist() == pytest.approx([math.inf, 4.0])
    assert other.total == math.inf


def test_weights_are_the_newest_known() -> None:
    """On a step that measured none they are those of before."""
    reader = NormReader()
    reader.read(frame(0, [1.0, 1.0], weights=[10.0, 20.0]))

    norms = reader.read(frame(1, [1.0, 1.0], weights=[None, 30.0]))

    assert norms is not None
    assert norms.weights.tolist() == pytest.approx([10.0, 30.0], rel=1e-6)


def test_a_tensor_keeps_its_place_when_the_schema_changes() -> None:
    """New ones come behind, and those that are gone are absent."""
    reader = NormReader()
    reader.read(frame(0, [1.0, 2.0], weights=[1.0, 1.0]))
    bigger = make_schema(num_layers=3, kinds=("gradient",))

    norms = reader.read(frame(1, [None, 5.0, 6.0], schema=bigger))

    assert norms is not None
    assert reader.names[2] == "layers.2.weight"
    assert norms.l2[1:].tolist() == pytest.approx([5.0, 6.0], rel=1e-6)
    assert norms.present.tolist() == [False, True, True]
    assert norms.last.tolist() == [False, False, True]


def test_a_step_that_loss_scaling_skipped_is_left_out() -> None:
    """And counted."""
    reader = NormReader()

    assert reader.read(frame(0, [math.inf, 1.0], flags=ALL_MEASURED | FrameFlag.SKIPPED)) is None
    assert "loss scaling skipped" in reader.caveats(ALL)[0]


def test_the_norm_of_a_part_is_not_the_models() -> None:
    """Neither as logged by the client nor as the sum of what is measured."""
    reader = NormReader()

    norms = reader.read(frame(0, [3.0, 4.0], scalars={"grad_norm/watched": 5.0}))

    assert norms is not None
    assert norms.total is None
    assert reader.saw_partial


def test_a_norm_below_zero_is_none() -> None:
    """A hostile client's -1 is not clipped to anything."""
    norms = NormReader().read(frame(0, [3.0, 4.0], scalars={"grad_norm": -1.0}))

    assert norms is not None
    assert norms.total == pytest.approx(5.0)


def test_gradients_that_were_measured_after_clipping_are_told() -> None:
    """The logged norm, of before, is larger than what the gradients add up to."""
    reader = NormReader()
    reader.read(frame(0, [0.6, 0.8], scalars={"grad_norm": 5.0}))

    assert "watch.grads_ready()" in reader.caveats(ALL)[0]


def test_norms_that_stand_at_one_limit_are_told() -> None:
    """Half of the steps have the largest norm of all, which is no chance."""
    reader = NormReader()
    rng = np.random.default_rng(0)
    for number in range(40):
        total = 1.0 if number % 2 else float(rng.uniform(0.2, 0.9))
        reader.read(frame(number, scalars={"grad_norm": total}))

    (text,) = [text for text in reader.caveats(ALL) if "clipped already" in text]
    assert "20 steps of 40" in text


def test_a_free_norm_stands_at_no_limit() -> None:
    """Nothing is said of norms that differ from step to step."""
    reader = NormReader()
    for number, total in enumerate(np.random.default_rng(0).lognormal(0, 0.3, 200)):
        reader.read(frame(number, scalars={"grad_norm": float(total)}))

    assert [text for text in reader.caveats(ALL) if "clipped already" in text] == []


def test_a_resumed_run_is_told() -> None:
    """The rules' memory would hang on the checkpoint."""
    reader = NormReader()
    reader.read(frame(5, [1.0, 1.0]))
    reader.read(frame(3, [1.0, 1.0], attempt=ATTEMPT + 1))

    assert any("resumed once" in text for text in reader.caveats(ALL))


def test_a_rule_is_told_only_what_concerns_it() -> None:
    """A rule of the whole reads the logged norm, whatever was measured of the tensors."""
    reader = NormReader()
    reader.read(frame(0, scalars={"grad_norm": 5.0}))
    reader.read(frame(1, [0.6, 0.8], scalars={"grad_norm": 5.0}))

    assert reader.caveats((Need.TOTAL,)) == []
    assert len(reader.caveats((Need.TENSORS,))) == 2
