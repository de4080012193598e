"""Two suites over healthy runs: made odd they stay quiet, and faults put into them are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

from foreshock_service.pipeline.session import DetectionSession

from benchmarks.detection.reading import read
from benchmarks.detection.recordings import Recording
from benchmarks.detection.splices import SPLICES
from benchmarks.detection.splicing import first_row
from benchmarks.detection.tables import table
from benchmarks.detection.told import alerts_from, alerts_of
from benchmarks.detection.transforms import ODDITIES


@dataclass(slots=True)
class Suites:
    """Counts by the name of an oddity or a splice; over several runs they add up."""

    odd: Counter[str] = field(default_factory=Counter)
    quiet: Counter[str] = field(default_factory=Counter)
    spliced: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    with_layer: Counter[str] = field(default_factory=Counter)
    located: Counter[str] = field(default_factory=Counter)

    def add(self, other: Suites) -> None:
        """Take up the counts of further runs."""
        for name, counts in self.by_name().items():
            counts.update(other.by_name()[name])

    def by_name(self) -> dict[str, Counter[str]]:
        """The counts by what they are of."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def suites_of(recording: Recording) -> Suites:
    """Both suites on one healthy run; nothing is counted of a run that is not quiet as it is."""
    counts = Suites()
    first = first_row(recording)
    state = _state_before(recording, first)
    if state is None:
        return counts
    for oddity in ODDITIES:
        counts.odd[oddity.name] += 1
        counts.quiet[oddity.name] += not alerts_of(oddity.apply(recording))
    if first is not None:
        counts.add(_spliced(recording, first, state))
    return counts


def spliced_of(recording: Recording) -> Suites:
    """The second suite alone."""
    first = first_row(recording)
    state = _state_before(recording, first)
    return Suites() if state is None or first is None else _spliced(recording, first, state)


def _spliced(recording: Recording, first: int, state: bytes) -> Suites:
    counts = Suites()
    for name, make in SPLICES.items():
        spliced = make(recording, first)
        if spliced is None:
            continue
        session = DetectionSession(facts=recording.facts)
        session.restore(state)
        outcome = spliced.outcome(session, first)
        counts.spliced[name] += 1
        counts.found[name] += bool(outcome.timely)
        if spliced.layers:
            counts.with_layer[name] += 1
            counts.located[name] += outcome.named(1)
    return counts


def _state_before(recording: Recording, row: int | None) -> bytes | None:
    """What a session knows before a row; None if the run is not quiet from start to end."""
    session = DetectionSession(facts=recording.facts)
    state = session.state()
    for frame in recording.frames():
        if frame.ord == row:
            state = session.state()
        if alerts_from(recording.id, session.push(frame).changes):
            return None
    return state


def suites_at(path: Path) -> Suites:
    """As `suites_of`, of a file."""
    return suites_of(read(path))


def run_suites(paths: Iterable[Path], pool: ProcessPoolExecutor) -> Suites:
    """Both suites over the healthy runs at these paths."""
    total = Suites()
    for counts in pool.map(suites_at, paths):
        total.add(counts)
    return total


def suite_tables(counts: Suites) -> Iterator[str]:
    """How many stayed quiet, and how many faults were found and their tensor named first."""
    yield from table(
        ("Healthy runs made odd", "Quiet"),
        ([o.name, f"{counts.quiet[o.name]} of {counts.odd[o.name]}"] for o in ODDITIES),
    )
    rows = []
    for name in SPLICES:
        located = f"{counts.located[name]} of {counts.with_layer[name]}"
        rows.append(
            [
                name,
                f"{counts.found[name]} of {counts.spliced[name]}",
                located if counts.with_layer[name] else "nobody to name",
            ]
        )
    yield from table(("Fault spliced into healthy runs", "Found", "Named first"), rows)
