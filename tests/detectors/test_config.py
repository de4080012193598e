"""A configuration says what it changes, and refuses what it does not know."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.loss import LossThresholds
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.detectors.thresholds import Sensitivity
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.traces import healthy

DOCUMENT = """
sensitivity = "low"
disabled = ["plateau"]
[thresholds.loss]
sigmas = 9
first_rows = 40
"""


def test_a_document_is_read_and_written_back() -> None:
    """What a user wrote is what detection has, and what is stored can be read again."""
    config = EngineConfig.from_document(tomllib.loads(DOCUMENT))
    assert config.sensitivity is Sensitivity.LOW
    assert config.disabled == {"plateau"}
    assert EngineConfig.from_document(config.to_document()) == config


def test_a_threshold_that_is_set_counts_as_it_stands() -> None:
    """Sensitivity stretches the others only."""
    limits = EngineConfig.from_document(tomllib.loads(DOCUMENT)).limits("loss")
    assert isinstance(limits, LossThresholds)
    assert (limits.sigmas, limits.first_rows) == (9.0, 40)
    assert limits.tail_factor == pytest.approx(LossThresholds().tail_factor ** 1.5)


def test_low_sensitivity_asks_for_more_and_high_for_less() -> None:
    """Of distances from the normal, and of nothing else."""
    for detector in DETECTORS.values():
        low, normal, high = (detector.thresholds().at(s) for s in Sensitivity)
        for item in detector.thresholds.described():
            values = [getattr(limits, item.name) for limits in (high, normal, low)]
            if item.unit in ("octaves", "sigmas", "times") and not item.guard:
                assert values[0] < values[1] < values[2], item.name
            else:
                assert len(set(values)) == 1, item.name


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"sensitivty": "low"}, "unknown key sensitivty"),
        ({"sensitivity": "lower"}, "must be one of low, normal, high"),
        ({"sensitivity": 3}, "must be one of low, normal, high"),
        ({"sensitivity": ["low"]}, "must be one of low, normal, high"),
        ({"disabled": "loss"}, "must be a list"),
        ({"disabled": [1]}, "must be a list"),
        ({"disabled": ["losses"]}, "no detector is called losses"),
        ({"thresholds": {"losses": {}}}, "no detector is called losses"),
        ({"thresholds": []}, "must hold a table"),
        ({"thresholds": {"loss": 3}}, "must hold a table"),
        ({"thresholds": {"loss": {"sigma": 3}}}, "thresholds.loss: no threshold is called sigma"),
        ({"thresholds": {"loss": {"sigmas": "3"}}}, "must be a number"),
        ({"thresholds": {"loss": {"sigmas": True}}}, "must be a number"),
        ({"thresholds": {"loss": {"sigmas": -1}}}, "between 0 and"),
        ({"thresholds": {"loss": {"sigmas": math.nan}}}, "between 0 and"),
        ({"thresholds": {"loss": {"sigmas": math.inf}}}, "between 0 and"),
        ({"thresholds": {"loss": {"first_rows": 2.5}}}, "a whole number"),
        ({"thresholds": {"loss": {"first_rows": math.inf}}}, "between 1 and"),
        ({"thresholds": {"loss": {"window_rows": 0}}}, "between 1 and"),
        ({"thresholds": {"loss": {"share_of_level": 1.5}}}, "between 0 and 1"),
    ],
)
def test_a_wrong_document_is_refused_with_the_reason(document: Any, words: str) -> None:
    """Whatever is wrong is named, with what would be right."""
    with pytest.raises(ValueError, match=words):
        EngineConfig.from_document(document)


def test_a_threshold_reaches_its_rule() -> None:
    """A loss of eight sigmas is told at six and not at a hundred."""
    trace = healthy()
    trace.scalars["loss"][150:170] *= 2.5

    def kinds(config: EngineConfig) -> set[str]:
        session = DetectionSession(config)
        frames = trace.frames()
        return {c.incident.kind for frame in frames for c in session.push(frame).changes}

    assert "loss_spike" in kinds(EngineConfig())
    deaf = {"sigmas": 1000.0, "sunk_sigmas": 1000.0, "beyond_all_rows": 30}
    assert kinds(EngineConfig(thresholds={"loss": deaf})) == set()
