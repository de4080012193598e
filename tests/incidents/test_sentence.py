"""The sentence of an incident: how its numbers are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Incident, State, Transition
from foreshock_service.incidents.verdict import sentence


def _grown(ratio: float) -> Incident:
    return Incident(
        number=1, kind="explosion", severity=Severity.CRITICAL, state=State.OPEN, onset_step=40,
        opened_step=50, opened_ord=50, updated_step=60, group="blocks.1.attn",
        root_series=None, confidence=0.9,
        evidence={"ratio": ratio},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ratio", "written"),
    [(2.25, "2.2x"), (99.94, "99.9x"), (1500.0, "1,500x"), (25_801.0, "25,800x"),
     (3e9, "over 1,000,000x")],
)  # fmt: skip
def test_a_large_ratio_is_written_in_full(ratio: float, written: str) -> None:
    """Nobody who is woken at night should have to read 1.5e+03."""
    assert f"grew {written} above" in sentence(_grown(ratio))


def test_an_escalation_says_what_joined() -> None:
    """Or the second message would be the first one over again."""
    worse = replace(_grown(2.25), kinds=("explosion", "divergence"))
    told = sentence(worse, Transition.ESCALATED)
    assert told == f"Now with divergence: {sentence(worse)}"


def test_a_layer_keeps_its_capital() -> None:
    """`Encoder.out` is a name, also in the middle of a sentence."""
    over = replace(_grown(2.25), group="Encoder.out", state=State.RECOVERED, recovered_step=70)
    assert "; Encoder.out grew" in sentence(over)
