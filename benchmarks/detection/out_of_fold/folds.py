"""Which runs are left out together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.detection.collections import Labelled

Folds = dict[str, tuple[int, ...]]
"""Places of the runs that are left out, by the fold's name; each run is in one fold."""


def by_source(runs: Sequence[Labelled]) -> Folds:
    """Architectures of traces, publishers of logs."""
    return _grouped(runs, lambda labelled: labelled.source)


def by_kind(runs: Sequence[Labelled]) -> Folds:
    """Kinds of faults, a run with several in the fold of its first. Healthy runs have none, and are
    dealt out in turn, so that each is scored by thresholds that have not seen it either."""
    folds = _grouped([run for run in runs if run.kinds], lambda labelled: labelled.kinds[0])
    names = list(folds) or ["healthy"]
    place = {run.path: i for i, run in enumerate(runs)}
    sick = [run for run in runs if run.kinds]
    folds = {name: tuple(place[sick[i].path] for i in which) for name, which in folds.items()}
    for number, run in enumerate(run for run in runs if not run.kinds):
        name = names[number % len(names)]
        folds[name] = (*folds.get(name, ()), place[run.path])
    return folds


def _grouped(runs: Sequence[Labelled], key: Callable[[Labelled], str]) -> Folds:
    folds: Folds = {}
    for index, labelled in enumerate(runs):
        name = key(labelled)
        folds[name] = (*folds.get(name, ()), index)
    return dict(sorted(folds.items()))
