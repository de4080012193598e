"""Which labelled runs there are on this machine, and what is known of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.zoo.score import Run, load_runs

SHARED: Final = Path("..") / "shared"
ZOO: Final = Path("build") / "zoo"


class NoRunsError(Exception):
    """There is nothing to score; the message says how to record something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A run with a label: where it is, and what folds are made by.

    `source` is who published a log, and an architecture for a trace. `windows` is the label of a
    log: steps in which an alert must come, or may.
    """

    path: Path
    run: Run
    source: str
    windows: Mapping[str, Any] | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its faults; none for a healthy run."""
        return tuple(dict.fromkeys(str(event["kind"]) for event in self.run.events))


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Runs that are scored together. Of a `hidden` one nothing but totals is told.

    `scorer` is the collection's own program, where it has one, whose answer ours must be.
    """

    name: str
    title: str
    folder: Path
    runs: Sequence[Labelled]
    hidden: bool = False
    scorer: Path | None = None

    @property
    def is_logs(self) -> bool:
        """Whether the labels are windows of a log with nothing but scalars."""
        return any(labelled.windows is not None for labelled in self.runs)

    def labels(self) -> dict[str, Run]:
        """The runs by id, as the scorer wants them."""
        return {labelled.run.id: labelled.run for labelled in self.runs}


def collections(*, shared: Path = SHARED, zoo: Path = ZOO) -> list[Collection]:
    """Everything that is there, largest claim first.

    Raises:
        NoRunsError: nothing is.
    """
    found = [*_zoo(zoo), *_corpus(shared / "corpus"), *_logs(shared / "real_logs")]
    if not found:
        raise NoRunsError(
            f"no labelled runs in {zoo} or {shared}; record some with: "
            f"python -m benchmarks.zoo run --split both --out {zoo} --jobs 2"
        )
    return found


def _zoo(folder: Path) -> list[Collection]:
    runs = _traces(folder)
    found = []
    for split in ("held", "look"):
        mine = [labelled for labelled in runs if labelled.run.split == split]
        if mine:
            found.append(
                Collection(
                    name=f"zoo-{split}",
                    title=f"zoo, `{split}`",
                    folder=folder,
                    runs=mine,
                    hidden=split == "held",
                )
            )
    return found


def _corpus(folder: Path) -> list[Collection]:
    runs = _traces(folder / "dev")
    if not runs:
        return []
    return [
        Collection(
            name="corpus",
            title="corpus",
            folder=folder / "dev",
            runs=runs,
            scorer=folder / "score.py",
        )
    ]


def _traces(folder: Path) -> list[Labelled]:
    if not folder.is_dir():
        return []
    runs = load_runs(folder)
    found = []
    for path in sorted(path for path in folder.rglob("*.json")):
        about = json.loads(path.read_text())
        if isinstance(about, dict) and about.get("id") in runs:
            found.append(Labelled(path=path, run=runs[about["id"]], source=about.get("arch", "")))
    return found


def _logs(folder: Path) -> list[Collection]:
    if not (folder / "manifest.json").exists():
        return []
    runs = []
    for entry in json.loads((folder / "manifest.json").read_text()):
        path = folder / f"{entry['name']}.csv"
        lines = path.read_text().splitlines()[1:]
        steps = np.array([int(line.partition(",")[0]) for line in lines], np.int64)
        runs.append(
            Labelled(
                path=path,
                run=Run(id=entry["name"], steps=steps, events=()),
                source=str(entry["repo"]),
                windows=entry,
            )
        )
    return [
        Collection(
            name="logs",
            title="public logs",
            folder=folder,
            runs=runs,
            scorer=folder / "score.py",
        )
    ]
