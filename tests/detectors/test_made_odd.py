"""Healthy runs, recorded from real trainings and then made odd in ways that are no fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.detection.recordings import Recording
from benchmarks.detection.splices import SPLICES
from benchmarks.detection.splicing import first_row
from benchmarks.detection.suites import Suites, spliced_of, suites_of
from benchmarks.detection.told import Alert, alerts_of
from benchmarks.detection.transforms import ODDITIES, Oddity, other_name, rows_taken
from tests.fixtures.recordings import HEALTHY

every_oddity = pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.name)


@pytest.mark.parametrize("name", HEALTHY)
@every_oddity
def test_a_healthy_run_made_odd_is_quiet(
    healthy_recordings: dict[str, Recording], name: str, oddity: Oddity
) -> None:
    """Rows left out, a restart, losses in other units, other names: nothing to tell a person."""
    assert alerts_of(oddity.apply(healthy_recordings[name])) == []


def _plain(alerts: list[Alert]) -> list[tuple[int, str, str, int]]:
    return [(a["step"], a["kind"], a["severity"], a["opened_step"]) for a in alerts]


@pytest.mark.parametrize("splice", ["weight x 1.5", "an activation x 8", "updates x 10"])
@pytest.mark.parametrize(
    "oddity", [o for o in ODDITIES if o.changes_nothing], ids=lambda oddity: oddity.name
)
def test_no_unit_and_no_name_hides_a_fault(
    healthy_recordings: dict[str, Recording], oddity: Oddity, splice: str
) -> None:
    """What changes no alert of a healthy run changes none of a sick one either."""
    healthy = healthy_recordings["lora-from-zeros"]
    first = first_row(healthy)
    assert first is not None
    spliced = SPLICES[splice](healthy, first)
    assert spliced is not None
    told = _plain(alerts_of(spliced.recording))
    assert told == _plain(alerts_of(oddity.apply(spliced.recording))) != []


def test_an_oddity_changes_what_it_says(healthy_recordings: dict[str, Recording]) -> None:
    """Else a suite of untouched runs would be quiet, and say nothing."""
    run = healthy_recordings["lora-from-zeros"]
    odd = {o.name: o.apply(run) for o in ODDITIES}
    rows = {name: o.num_rows for name, o in odd.items()}
    assert (rows["every 2nd row"], rows["every 5th row"]) == (190, 76)
    assert (rows["joined mid-run"], rows["restarted"]) == (254, 418)
    assert 0.9 < rows["7 % of rows missing"] / run.num_rows < 0.96
    assert 0.6 < odd["30 % of losses missing"].logged["loss"].mean() < 0.8
    assert odd["restarted"].attempts[-1] == 1 + run.attempts[-1]
    assert odd["1000 steps later"].steps[0] == 1000 + run.steps[0]
    assert np.array_equal(odd["loss - 5"].scalars["loss"], run.scalars["loss"] - 5)
    assert not set(odd["series renamed"].keys()) & set(run.keys())
    keys = run.keys()
    which = keys.index(next(key for key in keys if key.startswith("gradient:")))
    measured = ~np.isnan(run.stats[:, which, 2])
    grown = odd["gradients x 1024"].stats[measured, which, 2]
    assert np.array_equal(grown, 1024 * run.stats[measured, which, 2])


def test_a_name_keeps_its_place_and_what_it_means() -> None:
    """Rules may read that something is a weight, an attention logit or a rank's."""
    assert other_name("rank1/blocks.0.mlp.weight") == "rank1/skcolb.0.plm.weight"
    assert other_name("blocks.0.attn.logits") == "skcolb.0.attn.logits"


def test_rows_taken_out_of_order_begin_an_attempt(
    healthy_recordings: dict[str, Recording],
) -> None:
    """As a resumed run does."""
    run = healthy_recordings["lora-from-zeros"]
    again = rows_taken(run, np.array([0, 1, 2, 1, 2, 3]))
    assert again.attempts.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.fixture(scope="module")
def suites(healthy_recordings: dict[str, Recording]) -> Suites:
    """Counts over all of them."""
    total = Suites()
    for recording in healthy_recordings.values():
        total.add(spliced_of(recording))
    return total


FOUND = {
    "weight x 1.05": 3,
    "weight x 1.5": 3,
    "a weight's largest element x 3": 3,
    "gradient exactly zero": 3,
    "NaN in one activation": 3,
    "updates x 4": 2,
    "updates x 10": 3,
    "one gradient x 30": 3,
    "one gradient x 200": 3,
    "update exactly zero": 3,
    "all gradients x 30 once": 2,
    "a batch x 6 once": 2,
    "loss back at its start": 2,
    "an activation x 8": 3,
    "zeroed units": 3,
    "an activation grows x 1024": 3,
    "a gradient grows x 256": 3,
    "a gradient fades to 1/4096": 3,
    "an update grows x 64": 3,
    "activations from a layer on grow x 64": 3,
    "activations from a layer on fade to 1/64": 3,
    "gradients from a layer on x 64": 2,
    "gradients from a layer on fade to 1/4096": 3,
    "all gradients grow x 256": 2,
    "all updates grow x 32": 3,
    "the loss climbs": 3,
}
"""Of three runs each, by the zoo's deadline; a floor, which better rules raise."""
NOBODYS = (
    "updates x 4",
    "updates x 10",
    "all gradients x 30 once",
    "a batch x 6 once",
    "loss back at its start",
    "all gradients grow x 256",
    "all updates grow x 32",
    "the loss climbs",
)
NAMED = {name: number for name, number in FOUND.items() if name not in NOBODYS} | {
    "gradients from a layer on fade to 1/4096": 1,
}
"""With the tensor in question named first; when all grow there is nobody to name."""


def test_a_fault_put_into_a_healthy_run_is_found(suites: Suites) -> None:
    """Each splice in as many runs as before, or more."""
    assert {name: suites.spliced[name] for name in FOUND} == dict.fromkeys(FOUND, 3)
    assert [f"{n}: {suites.found[n]}" for n in FOUND if suites.found[n] < FOUND[n]] == []


def test_the_tensor_that_was_spliced_is_named_first(suites: Suites) -> None:
    """Not what came of it, and not what is always large."""
    assert [f"{n}: {suites.located[n]}" for n in NAMED if suites.located[n] < NAMED[n]] == []


def test_a_run_that_is_not_quiet_counts_in_no_suite(
    healthy_recordings: dict[str, Recording],
) -> None:
    """What it says after a change could not be put down to the change."""
    run = healthy_recordings["lora-from-zeros"]
    broken = run.scalars["loss"].copy()
    broken[200] = np.nan
    counts = suites_of(replace(run, scalars={**run.scalars, "loss": broken}))
    assert (counts.odd.total(), counts.spliced.total()) == (0, 0)
