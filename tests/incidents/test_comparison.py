"""Which incidents of two accounts are the same, and in what they differ."""

from __future__ import annotations

from typing import Any

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Incident, State
from foreshock_service.incidents.comparison import RankedIncident, compare


def incident(rank: int = 0, **fields: Any) -> RankedIncident:
    """An explosion of steps 100 to 140, recovered."""
    usual: dict[str, Any] = {
        "number": 1, "kind": "explosion", "severity": Severity.WARNING, "state": State.RECOVERED,
        "onset_step": 100, "opened_step": 110, "opened_ord": 110, "updated_step": 165,
        "recovered_step": 140, "group": "blocks.1", "root_series": None, "confidence": 1.0,
    }  # fmt: skip
    return RankedIncident(rank, Incident(**{**usual, **fields}))


def test_equal_accounts_have_nothing_to_tell() -> None:
    """Numbers do not count: they are given in order of arrival."""
    difference = compare([incident()], [incident(number=7)])

    assert difference.is_equal
    assert difference.sentences() == []
    assert len(difference.same) == 1


def test_what_changed_is_told_with_both_values() -> None:
    """Kind, severity, onset, alarm and name."""
    after = incident(
        kind="divergence", severity=Severity.CRITICAL, onset_step=105, opened_step=130, group=None
    )

    assert compare([incident()], [after]).sentences() == [
        "Changed: explosion of step 110: its kind is divergence and was explosion; it is critical "
        "and was warning; its onset is step 105 and was 100; it opens at step 130 and did at 110; "
        "it names nobody and named blocks.1."
    ]


def test_incidents_that_do_not_overlap_are_lost_and_gained() -> None:
    """In the order of their steps, with their sentences."""
    later = incident(onset_step=500, opened_step=500, opened_ord=500, recovered_step=540)

    assert compare([later], [incident()]).sentences() == [
        "Gained: warning explosion of step 110: blocks.1 recovered after 40 steps; blocks.1 left "
        "its baseline from step 100; the loss has not moved.",
        "Lost: warning explosion of step 500: blocks.1 recovered after 40 steps; blocks.1 left "
        "its baseline from step 500; the loss has not moved.",
    ]


def test_one_that_never_ended_swallows_no_other() -> None:
    """The later one of the same kind is paired with itself, and a third is gained."""
    endless = incident(state=State.OPEN, recovered_step=None)
    later = incident(kind="loss_spike", onset_step=500, opened_step=500, opened_ord=500)

    difference = compare([endless], [endless, later])

    assert difference.same == (endless,)
    assert difference.gained == (later,)


def test_the_same_kind_goes_before_the_nearer_step() -> None:
    """Two at once: each finds its own kind."""
    spike = incident(kind="gradient_spike", opened_step=112, opened_ord=112)
    growth = incident(opened_step=125, opened_ord=125)

    difference = compare([incident()], [spike, growth])

    assert difference.changed == ((incident(), growth),)
    assert difference.gained == (spike,)


def test_ranks_are_compared_with_themselves() -> None:
    """And named, but for rank 0."""
    difference = compare([incident(rank=0)], [incident(rank=1)])

    assert [text.partition(":")[0] for text in difference.sentences()] == ["Gained", "Lost"]
    assert any("of step 110 on rank 1:" in text for text in difference.sentences())
