"""The zoo of a checkout: where it is, what is in it, and which scenario a name means.

The zoo is no part of the distribution: its small trainings are a benchmark, in `benchmarks/` of the
repository.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import foreshock
from foreshock.errors import ForeshockError

_MARK: Final = Path("benchmarks", "zoo", "registry.py")


class NoZooError(ForeshockError, LookupError):
    """The zoo, or the scenario that was asked for, is not here; the message says what to do."""


class LabelledFault(Protocol):
    """The part of `benchmarks.zoo.faults.Fault` that the demo tells."""

    @property
    def kind(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def accept(self) -> tuple[str, ...]: ...


class Playable(Protocol):
    """The part of `benchmarks.zoo.registry.Scenario` that the demo needs."""

    @property
    def name(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def every_step(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def fault(self) -> LabelledFault | None: ...
    def play(
        self, watch: Callable[..., foreshock.Watch], *, sick: bool = True, seed: int | None = None
    ) -> Iterator[float]: ...


def checkout(places: Sequence[Path] | None = None) -> Path:
    """The folder with the zoo in it: the checkout that this client is installed from, or else the
    current folder. Raises `NoZooError` if neither has it."""
    if places is None:
        places = [Path(foreshock.__file__).resolve().parents[2], Path.cwd()]
    found = next((place for place in places if (place / _MARK).is_file()), None)
    if found is None:
        raise NoZooError(
            "the zoo is not here: it lies in benchmarks/zoo of Foreshock's repository, not in the "
            "package; run this in the root of a checkout"
        )
    return found


def load_zoo(root: Path) -> dict[str, Playable]:
    """Every scenario of the zoo in `root`, by name; from here on `benchmarks` is found there."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    registry = importlib.import_module("benchmarks.zoo.registry")
    return {scenario.name: scenario for scenario in registry.all_scenarios()}


def scenario_of(name: str, zoo: dict[str, Playable]) -> Playable:
    """The scenario of that name; raises `NoZooError`, which names close ones."""
    if name in zoo:
        return zoo[name]
    close = difflib.get_close_matches(name, zoo, n=3, cutoff=0.5)
    meant = f" (did you mean {', '.join(close)}?)" if close else ", or nearly so"
    raise NoZooError(
        f"no scenario is called {name!r}{meant}; foreshock demo --list prints those that there are"
    )


def listing(zoo: dict[str, Playable], *, show_held: bool) -> Iterator[str]:
    """A line for each scenario: its name, its fault's kind or `healthy`, what is trained. Of the
    half that detection is not written against only the number, unless `show_held`."""
    shown = [s for _, s in sorted(zoo.items()) if show_held or s.split != "held"]
    for scenario in shown:
        kind = "healthy" if scenario.fault is None else scenario.fault.kind
        yield f"{scenario.name:32s} {kind:24s} {scenario.arch}, {scenario.optimizer}"
    num_sick = sum(s.fault is not None for s in shown)
    yield f"{len(shown)} scenarios: {len(shown) - num_sick} healthy, {num_sick} with a fault"
    if num_hidden := len(zoo) - len(shown):
        yield f"{num_hidden} more are not listed; --show-held prints them"
