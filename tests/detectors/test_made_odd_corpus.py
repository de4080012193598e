"""The suites of `test_made_odd` on the healthy runs of the corpus, where the checkout has it."""

from __future__ import annotations

import pytest

from benchmarks.detection.collections import collections
from benchmarks.detection.judging import processes
from benchmarks.detection.suites import Suites, run_suites
from tests.detectors.corpus import FOLDER

pytestmark = [pytest.mark.corpus, pytest.mark.timeout(1200)]

QUIET: dict[str, int] = {}
FOUND: dict[str, int] = {}
NAMED: dict[str, int] = {}


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
    assert [f"{n}: {suites.found[n]}" for n in FOUND if suites.found[n] < FOUND[n]] == []


def test_spliced_tensors_are_named_first(suites: Suites) -> None:
    """As many as before, or more."""
    assert [f"{n}: {suites.located[n]}" for n in NAMED if suites.located[n] < NAMED[n]] == []
