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
    "one gradient x 30": 18,
    "one gradient x 200": 19,
    "log Z drifts": 6,
    "an activation x 8": 22,
    "zeroed units": 22,
}
"""Of 22 runs, but 13 have a log Z."""
NAMED = {**FOUND, "updates x 4": 0, "updates x 10": 0, "log Z drifts": 0}


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
    assert (suites.spliced["zeroed units"], suites.spliced["log Z drifts"]) == (22, 13)
    assert [f"{n}: {suites.found[n]}" for n in FOUND if suites.found[n] < FOUND[n]] == []


def test_spliced_tensors_are_named_first(suites: Suites) -> None:
    """As many as before, or more."""
    assert [f"{n}: {suites.located[n]}" for n in NAMED if suites.located[n] < NAMED[n]] == []
