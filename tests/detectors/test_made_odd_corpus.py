"""The suites of `test_made_odd` on the healthy runs of the corpus, where the checkout has it."""

from __future__ import annotations

import pytest

from benchmarks.detection.collections import collections
from benchmarks.detection.suites import Suites, run_suites
from benchmarks.detection.transforms import ODDITIES
from benchmarks.processes import processes
from tests.fixtures.corpus import FOLDER

pytestmark = [pytest.mark.corpus, pytest.mark.timeout(1200)]

QUIET = {
    **{oddity.name: 22 for oddity in ODDITIES},
    "every 2nd row": 21,
    "30 % of losses missing": 21,
    "joined mid-run": 20,
}
"""Of 22 healthy runs; a floor, which better rules raise."""
FOUND = {
    "weight x 1.05": 20,
    "weight x 1.5": 21,
    "a weight's largest element x 3": 21,
    "gradient exactly zero": 22,
    "NaN in one activation": 22,
    "updates x 4": 20,
    "updates x 10": 22,
    "one gradient x 30": 22,
    "one gradient x 200": 22,
    "update exactly zero": 22,
    "all gradients x 30 once": 16,
    "a batch x 6 once": 18,
    "loss back at its start": 16,
    "log Z drifts": 6,
    "an activation x 8": 22,
    "zeroed units": 22,
    "an activation grows x 1024": 22,
    "a gradient grows x 256": 22,
    "a gradient fades to 1/4096": 22,
    "an update grows x 64": 22,
    "activations from a layer on grow x 64": 22,
    "activations from a layer on fade to 1/64": 22,
    "gradients from a layer on x 64": 19,
    "gradients from a layer on fade to 1/4096": 22,
    "all gradients grow x 256": 17,
    "all updates grow x 32": 22,
    "the loss climbs": 19,
}
"""Of 22 runs, but 13 have a log Z and 19 have come down."""
NOBODYS = (
    "updates x 4",
    "updates x 10",
    "all gradients x 30 once",
    "a batch x 6 once",
    "loss back at its start",
    "log Z drifts",
    "all gradients grow x 256",
    "all updates grow x 32",
    "the loss climbs",
)
"""Faults of which no tensor is to blame."""
NAMED = {name: number for name, number in FOUND.items() if name not in NOBODYS} | {
    "activations from a layer on grow x 64": 16,
    "activations from a layer on fade to 1/64": 19,
    "gradients from a layer on x 64": 18,
    "gradients from a layer on fade to 1/4096": 18,
}


@pytest.fixture(scope="module")
def suites() -> Suites:
    """Counts over its healthy runs."""
    (corpus,) = collections(shared=FOLDER.parent, zoo=FOLDER / "nothing")[:1]
    assert corpus.name == "corpus"
    healthy = [one.path for one in corpus.runs if not one.run.events]
    with processes(2) as pool:
        return run_suites(healthy, pool)


def test_healthy_runs_made_odd_stay_quiet(suites: Suites) -> None:
    """As many as before, or more."""
    assert [f"{n}: {suites.quiet[n]}" for n in QUIET if suites.quiet[n] < QUIET[n]] == []


def test_spliced_faults_are_found(suites: Suites) -> None:
    """As many as before, or more."""
    few = {"log Z drifts": 13, "loss back at its start": 19, "the loss climbs": 19}
    assert dict(suites.spliced) == {**dict.fromkeys(FOUND, 22), **few}
    assert [f"{n}: {suites.found[n]}" for n in FOUND if suites.found[n] < FOUND[n]] == []


def test_spliced_tensors_are_named_first(suites: Suites) -> None:
    """As many as before, or more."""
    assert [f"{n}: {suites.located[n]}" for n in NAMED if suites.located[n] < NAMED[n]] == []
