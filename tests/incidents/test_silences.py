"""What a silence matches, and what is still news when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Incident, State, Transition
from foreshock_service.domain.silences import Silence, SilenceState, silence_over, told_after

RUN = AlertRun(run_id="lm-7", name="sweep lr=[1e-3]", project="lm")
INCIDENT = Incident(
    number=1,
    kind="gradient_spike",
    severity=Severity.WARNING,
    state=State.OPEN,
    onset_step=1,
    opened_step=1,
    opened_ord=1,
    updated_step=1,
    group="blocks.3.attn",
    root_series=None,
    confidence=1.0,
    kinds=("gradient_spike",),
)


def silence(matchers: Mapping[str, str], *, number: int = 1, ends_at: float = 20.0) -> Silence:
    """A silence from 10 on."""
    return Silence(
        silence_id=number,
        project=matchers.get("project"),
        run=matchers.get("run"),
        kind=matchers.get("kind"),
        group=matchers.get("group"),
        starts_at=10.0,
        ends_at=ends_at,
        created_at=0.0,
        created_by="me",
        reason="",
    )


@pytest.mark.parametrize(
    ("matchers", "fits"),
    [
        ({"run": "lm-7"}, True),
        ({"run": "lm-*"}, True),
        ({"run": "LM-*"}, False),
        ({"run": "sweep lr=[1e-3]"}, True),
        ({"run": "sweep*"}, True),
        ({"run": "lm"}, False),
        ({"project": "lm", "kind": "gradient_*"}, True),
        ({"project": "vision", "kind": "gradient_*"}, False),
        ({"group": "blocks.?.attn"}, True),
        ({"group": "*.mlp"}, False),
    ],
)
def test_every_matcher_must_fit(matchers: dict[str, str], fits: bool) -> None:
    """Exactly or as a glob, by id or name of the run; a name may hold the characters of a glob."""
    assert silence(matchers).matches(INCIDENT, RUN) is fits


def test_nobody_is_not_a_group() -> None:
    """An incident that names no layer fits no pattern for layers, not even `*`."""
    assert not silence({"group": "*"}).matches(replace(INCIDENT, group=None), RUN)


def test_a_silence_of_one_kind_does_not_hide_another() -> None:
    """A spike that became a divergence is told, whatever was said of spikes."""
    grown = replace(INCIDENT, kinds=("gradient_spike", "divergence"))
    assert not silence({"kind": "gradient_spike"}).matches(grown, RUN)
    assert silence({"kind": "*"}).matches(grown, RUN)


def test_a_hostile_glob_costs_little() -> None:
    """Stars upon stars against a long name: no backtracking without end."""
    pattern = "*a" * 60 + "b"
    assert not silence({"group": pattern}).matches(replace(INCIDENT, group="a" * 600), RUN)


def test_the_last_silence_to_end_counts() -> None:
    """And only those that are in force: not yet, no longer, and not over this incident."""
    all_of_them = [
        silence({"run": "lm-7"}, number=1, ends_at=30.0),
        silence({"run": "lm-7"}, number=2, ends_at=20.0),
        silence({"run": "other"}, number=3, ends_at=90.0),
    ]
    found = [silence_over(all_of_them, INCIDENT, RUN, now=now) for now in (9.0, 10.0, 25.0, 30.0)]
    assert [item and item.silence_id for item in found] == [None, 1, 1, None]
    states = [all_of_them[0].state(now) for now in (9.0, 10.0, 30.0)]
    assert states == [SilenceState.PENDING, SilenceState.LIVE, SilenceState.ENDED]


@pytest.mark.parametrize(
    ("withheld", "state", "told"),
    [
        ("opened", State.OPEN, "opened"),
        ("opened escalated", State.OPEN, "opened"),
        ("opened recovered", State.RECOVERED, None),
        ("opened recovered", State.OPEN, "opened"),
        ("opened resolved", State.RESOLVED, None),
        ("escalated named", State.OPEN, "escalated"),
        ("named loss_moved", State.OPEN, "loss_moved"),
        ("escalated recovered", State.RECOVERED, "recovered"),
        ("recovered resolved", State.RESOLVED, "resolved"),
        ("recovered", State.OPEN, None),
        ("escalated recovered", State.OPEN, "escalated"),
        ("acknowledged", State.OPEN, "acknowledged"),
    ],
)
def test_one_message_stands_for_all_that_was_withheld(
    withheld: str, state: State, told: str | None
) -> None:
    """What is over before anybody heard of it stays unsaid; what was told gets its end told."""
    transitions = [Transition(word) for word in withheld.split()]
    assert told_after(transitions, replace(INCIDENT, state=state)) == told
