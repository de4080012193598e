"""The zoo: what it records, when it refuses a label, and how it scores."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import zoo
from benchmarks.zoo.faults import KINDS
from benchmarks.zoo.labels import UntrueLabelError, faulty_label, healthy_label
from benchmarks.zoo.one_run import record_one
from benchmarks.zoo.record import train
from benchmarks.zoo.registry import SPLITS, Scenario, all_scenarios
from benchmarks.zoo.rules import Crosses
from benchmarks.zoo.score import Run, load_runs, score
from tests.benchmarks.runs import FAULT, tiny

_VARIANT = re.compile(r",| in | with | without | on | beta2| eps| 0\.")
"""Where the name of an architecture or an optimizer ends and what is special about it begins."""
SICK = Scenario(
    name="tiny", arch="linear", optimizer="SGD", train=tiny, summary="As told.", fault=FAULT
)


def test_every_scenario_says_what_it_is() -> None:
    """Names are unique and plain, summaries are sentences, and both halves hold both outcomes."""
    scenarios = all_scenarios()

    assert all(s.summary.endswith(".") and s.name.replace("-", "").isalnum() for s in scenarios)
    counts = {(s.split, s.fault is None) for s in scenarios}
    assert counts == {(split, healthy) for split in SPLITS for healthy in (True, False)}


def test_the_readme_counts_the_zoo() -> None:
    """The table and the sentence below it are what is registered; a variant of a network or of an
    optimizer is no other one."""
    scenarios = all_scenarios()
    readme = (Path(zoo.__file__).parent / "README.md").read_text()

    for split in SPLITS:
        half = [s.fault for s in scenarios if s.split == split]
        sick = [fault for fault in half if fault]
        slow = sum(fault.pace == "slow" for fault in sick)
        row = f"| `{split}` | {len(half) - len(sick)} | {len(sick)} | {slow} |"
        assert row in readme, row
    num_archs, num_optimizers = (
        len({_VARIANT.split(name)[0] for name in names})
        for names in ([s.arch for s in scenarios], [s.optimizer for s in scenarios])
    )
    assert f"{num_archs} architectures and {num_optimizers} optimizers" in readme
    assert min(num_archs, num_optimizers) >= 20
    kinds = {s.fault.kind for s in scenarios if s.fault}
    assert f"All {len(kinds)} kinds" in readme
    assert kinds == set(KINDS)


def test_a_quick_recording_is_read_back_with_its_label(tmp_path: Path) -> None:
    """A registered fault is trained, checked and written, and the scorer reads it."""
    assert record_one("mlp-nan-in-data", tmp_path) is None

    run = load_runs(tmp_path)["mlp-nan-in-data"]
    about = json.loads((tmp_path / "mlp-nan-in-data.json").read_text())
    with np.load(tmp_path / "mlp-nan-in-data.npz") as arrays:
        shape = arrays["stats"].shape
    assert run.events[0]["onset_step"] == run.events[0]["visible_step"] == 210
    assert shape == (300, len(about["series"]), len(about["stat_names"]))


def test_a_planted_fault_gets_its_step_and_its_series() -> None:
    """The label names the step, the series of the module, and where the loss left its twin."""
    label = faulty_label(SICK, FAULT, train(SICK, sick=True), train(SICK, sick=False))

    event = label["events"][0]
    assert (event["valid_from"], event["onset_step"], event["loss_moved_step"]) == (60, 60, 60)
    assert event["layers"] == ["0", "0.weight", "0.bias"]


def test_the_same_seed_records_the_same_run() -> None:
    """Two recordings agree to the bit, as the comparison with a twin needs."""
    first, second = train(SICK, sick=True), train(SICK, sick=True)

    np.testing.assert_array_equal(first.losses, second.losses)
    np.testing.assert_array_equal(first.stats, second.stats)


def test_a_label_that_the_run_does_not_show_is_refused() -> None:
    """A fault whose rule finds nothing, or which acts before its step, has no label."""
    sick, twin = train(SICK, sick=True), train(SICK, sick=False)

    unseen = replace(FAULT, onset=Crosses(series="loss", above=1e9))
    with pytest.raises(UntrueLabelError, match="no onset"):
        faulty_label(SICK, unseen, sick, twin)
    with pytest.raises(UntrueLabelError, match="differ before step 70"):
        faulty_label(SICK, replace(FAULT, at=70), sick, twin)
    with pytest.raises(UntrueLabelError, match="does not show"):
        faulty_label(SICK, FAULT, twin, twin)


def test_a_healthy_label_is_refused_where_the_loss_does_not_fall() -> None:
    """A run that ends above its start is not called healthy."""
    trace = train(SICK, sick=False)
    rising = replace(trace, scalars=trace.scalars[::-1].copy())

    with pytest.raises(UntrueLabelError, match="does not fall"):
        healthy_label(SICK, rising)


def _event(**changes: object) -> dict[str, object]:
    return {
        "kind": "loss_spike", "onset_step": 100, "valid_from": 100, "visible_step": 100,
        "loss_moved_step": 100, "end_step": 150, "pace": "fast", "layers": ["b.weight"],
        "severity": "critical", "accept_kinds": [], **changes,
    }  # fmt: skip


RUNS = {
    "healthy": Run(id="healthy", steps=np.arange(400), events=()),
    "sick": Run(id="sick", steps=np.arange(400), events=(_event(),)),
}


def _alert(step: int, run: str = "sick", kind: str = "loss_spike") -> dict[str, object]:
    return {"run": run, "step": step, "kind": kind, "severity": "critical", "series": ["b.weight"]}


@pytest.mark.parametrize(
    ("alerts", "composite"),
    [([_alert(100)], 1.0), ([], 0.0), ([_alert(99)], 0.0), ([_alert(121)], 0.0)],
    ids=["oracle", "silence", "too early", "too late"],
)
def test_the_ends_of_the_scale(alerts: list[dict[str, object]], composite: float) -> None:
    """An oracle scores 1; silence, and an alert outside its time, find nothing."""
    assert score(RUNS, alerts).figures["composite"] == pytest.approx(composite)


def test_an_alarm_on_every_row_is_worth_nothing() -> None:
    """What always alarms finds the fault, and is trusted by nobody."""
    alerts = [_alert(step, run) for run in RUNS for step in range(400)]

    figures = score(RUNS, alerts).figures
    assert figures["detected"] == 1.0
    assert figures["composite"] < 0.03


def test_a_wrong_kind_and_a_false_alarm_cost() -> None:
    """Another kind gets half the credit; one false alarm lowers trust and dirties the run."""
    other = score(RUNS, [_alert(100, kind="saturation")]).figures
    false = score(RUNS, [_alert(100), _alert(10, "healthy")]).figures

    assert (other["recall"], other["kind_exact"]) == (0.5, 0.0)
    assert (false["precision"], false["healthy_runs_without_alert"]) == (0.5, 0.0)
