"""What `include` and `exclude` leave of a model, and what they say where they fit nothing."""

from __future__ import annotations

from typing import Any

import foreshock
import pytest
import torch
from foreshock.errors import SettingError
from foreshock.testing import RecordingTransport
from torch import nn

from tests.client.conftest import Attach
from tests.client.models import TiedTransformer, perceptron, train


def _watched(attach: Attach, model: nn.Module, **settings: Any) -> RecordingTransport:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, **settings)
    train(model, optimizer, watch, num_steps=2)
    watch.close()
    return transport


def _parts(transport: RecordingTransport) -> set[str]:
    names = {s.name for schema in transport.schemas.values() for s in schema.series}
    return {name.partition("[")[0] for name in names}


def test_a_pattern_takes_modules_with_all_that_is_inside(attach: Attach) -> None:
    """`*` stands for the block's number, and parameters follow their module."""
    transport = _watched(attach, TiedTransformer(), include="encoder.layers.*.linear1")
    layers = [f"encoder.layers.{i}.linear1" for i in range(2)]
    assert _parts(transport) == {f"{x}{part}" for x in layers for part in ("", ".weight", ".bias")}


def test_exclude_wins_over_include(attach: Attach) -> None:
    """For modules and parameters alike."""
    transport = _watched(attach, perceptron(), include=["0", "2"], exclude=["*.bias", "2"])
    assert _parts(transport) == {"0", "0.weight"}


def test_variables_hold_patterns_with_commas(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FORESHOCK_INCLUDE and FORESHOCK_EXCLUDE say the same as the arguments."""
    monkeypatch.setenv("FORESHOCK_INCLUDE", "0, 2")
    monkeypatch.setenv("FORESHOCK_EXCLUDE", "*.bias,2")
    assert _parts(_watched(attach, perceptron())) == {"0", "0.weight"}


def test_a_predicate_is_asked_about_the_thing_itself(attach: Attach) -> None:
    """By name and by what it is: a module or a parameter."""

    def wanted(name: str, item: Any) -> bool:
        return isinstance(item, nn.ReLU) or name == "2.bias"

    assert _parts(_watched(attach, perceptron(), include=wanted)) == {"1", "2.bias"}


@pytest.mark.parametrize("given", [{"exclude": "logits*"}, {"include": "keys"}])
def test_observed_tensors_are_chosen_by_name_too(given: dict[str, Any], attach: Attach) -> None:
    """One rule for all that has a name."""
    watch, transport = attach(nn.Identity(), **given)
    watch.observe("logits.0", torch.ones(2))
    watch.observe("keys", torch.ones(2))
    watch.step()
    watch.close()
    assert transport.series("activation") == ["keys"]


def test_the_norm_of_a_part_is_not_called_grad_norm(attach: Attach) -> None:
    """Detectors must not take it for the model's; the one that the loop gives they may."""
    transport = _watched(attach, perceptron(), include="0")
    assert transport.scalar("grad_norm") == {}
    assert set(transport.scalar("grad_norm/watched")) == {0, 1}


def test_the_norm_of_everything_is_called_grad_norm(attach: Attach) -> None:
    """Also where activations, or weights that do not learn, are left out."""
    model = perceptron()
    next(iter(model.parameters())).requires_grad_(False)
    transport = _watched(attach, model, exclude=["1", "0.weight"])
    assert set(transport.scalar("grad_norm")) == {0, 1}
    assert transport.scalar("grad_norm/watched") == {}


def test_a_pattern_that_fits_nothing_is_said_once_with_what_is_near(
    attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start, before an hour of training has measured nothing."""
    _watched(attach, TiedTransformer(), exclude=["encodr.layers.*.linear1", "head"])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "'encodr.layers.*.linear1'" in said[0]
    assert "encoder.layers.*.linear1" in said[0].partition("near it are ")[2]


@pytest.mark.parametrize("given", [[], "", " , ", 5, ["a", 3], [""]])
def test_what_is_no_pattern_is_refused(given: Any) -> None:
    """The message shows what a pattern looks like; an empty include would measure nothing."""
    if given == "":
        given = []
    with pytest.raises(SettingError, match="include"):
        foreshock.watch(perceptron(), include=given)


def test_a_predicate_that_fails_is_told_at_the_start() -> None:
    """With the name that it failed for."""
    with pytest.raises(SettingError, match=r"'0\.weight': ZeroDivisionError"):
        foreshock.watch(perceptron(), exclude=lambda name, item: bool(1 / 0))
