"""The benchmark of the client's cost, run on a training that is over in an instant: what it says it
compared was compared. No figure is asserted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.overhead import report
from benchmarks.overhead.__main__ import variants
from benchmarks.overhead.interleave import Session, interleave
from benchmarks.overhead.sink import sink
from benchmarks.overhead.threads import ThreadLedger
from benchmarks.overhead.variants import Nothing, Surroundings, Variant, bare
from benchmarks.overhead.verdict import complaints
from benchmarks.overhead.workloads import tiny


@pytest.fixture(scope="module")
def sink_url() -> Iterator[str]:
    """A sink for the tests of this module."""
    with sink() as url:
        yield url


def _measure(
    compared: tuple[Variant, ...], folder: Path, sink_url: str, *, num_steps: int = 20
) -> Session:
    return interleave(
        tiny(),
        compared,
        num_steps=num_steps,
        num_warm_up=20,
        folder=folder,
        sink_url=sink_url,
        ledger=ThreadLedger(),
    )


def test_every_variant_captured_what_it_says(tmp_path: Path, sink_url: str) -> None:
    """Foreshock at both cadences, wandb and TensorBoard: each is read back from where it wrote, and
    each trained exactly as the bare loop did."""
    session = _measure(variants(), tmp_path, sink_url)
    # A training this short has no use for a bound on unaccounted time.
    wrong = [text for text in complaints(session) if "CPU time" not in text]
    assert wrong == []
    watching = [m for m in session.measured if m.variant.expects]
    assert len(watching) == 4
    assert all(set(m.variant.expects) <= set(m.captured) for m in watching)
    text = "\n".join(report.lines(session))
    assert all(m.variant.name in text for m in session.measured[1:])
    assert len(report.document(session)["variants"]) == len(variants())


def test_a_variant_that_captures_nothing_is_named(tmp_path: Path, sink_url: str) -> None:
    """Else the cheapest tool is one that does not work."""
    idle = Variant(name="idle", attach=lambda *_: Nothing(), expects={"frames": 1})
    session = _measure((bare("bare"), idle), tmp_path, sink_url)
    assert "tiny: idle captured 0 frames, at least 40 expected" in list(complaints(session))


def test_a_variant_that_changes_the_training_is_named(tmp_path: Path, sink_url: str) -> None:
    """Costs of different trainings are not compared."""

    def spoil(model: nn.Module, optimizer: torch.optim.Optimizer, around: Surroundings) -> Nothing:
        optimizer.param_groups[0]["lr"] *= 2
        return Nothing()

    session = _measure((bare("bare"), replace(bare("other"), attach=spoil)), tmp_path, sink_url)
    assert any("other changed the training" in text for text in complaints(session))


def test_only_whole_periods_are_measured(tmp_path: Path, sink_url: str) -> None:
    """A number of steps that would cut a period short is refused."""
    slow = Variant(name="slow", attach=lambda *_: Nothing(), expects={"frames": 7})
    with pytest.raises(ValueError, match="slow repeats after 7 steps"):
        _measure((bare("bare"), slow), tmp_path, sink_url)
