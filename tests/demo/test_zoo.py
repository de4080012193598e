"""`foreshock demo NAME`: scenarios of the zoo, trained live beside their labels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from foreshock.__main__ import main
from foreshock.demo.live import compared
from foreshock.demo.zoo import NoZooError, checkout, load_zoo, scenario_of


def demo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foreshock", "demo", *arguments],
        cwd=cwd,
        env={**os.environ, "FORESHOCK_PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sick_scenario_is_told_beside_its_label(tmp_path: Path) -> None:
    """The label comes first, then the incident as it opens, with its kind and its distance."""
    done = demo("mlp-nan-in-data", "--exit", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.strip()]
    label = "    label: non_finite, its cause acts from step 210 on"
    incident = next(i for i, line in enumerate(told) if line.startswith("step 210: "))
    assert told.index(label) < incident
    assert told[incident + 1].startswith("    non_finite: the labelled kind")
    assert told[incident + 1].endswith("0 steps after the cause")
    assert re.fullmatch(r"found: \d+ of the fault", told[-1])
    assert list(tmp_path.iterdir()) == []


def test_a_healthy_scenario_is_told_as_quiet(tmp_path: Path) -> None:
    """Nothing opens, the last line says so, and the exit status is 0."""
    done = demo("lora-from-zeros", "--exit", cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "as labelled: a healthy run, and no incident"


def test_the_list_names_what_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each scenario of the open half, and the number of the others."""
    assert main(["demo", "--list"]) == 0

    zoo = load_zoo(checkout())
    lines = capsys.readouterr().out.splitlines()
    named = {line.split()[0] for line in lines[:-2]}
    assert named == {name for name, scenario in zoo.items() if scenario.split == "look"}
    assert any(re.match(r"mlp-nan-in-data +non_finite +MLP regression, Adam$", x) for x in lines)
    assert lines[-1] == f"{len(zoo) - len(named)} more are not listed; --show-held prints them"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["mlp-nan-in-dat"], "(did you mean mlp-nan-in-data"),
        ([""], "no scenario is called ''"),
        (["mlp-nan-in-data", "--list"], "not both"),
        (["mlp-nan-in-data", "--steps", "100"], "a scenario has its own number of steps"),
        (["mlp-nan-in-data", "--show-held"], "--show-held goes with --list"),
    ],
)
def test_what_cannot_be_run_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    """Nothing starts, the exit status is 2, and the message says what to do."""
    assert main(["demo", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_name_like_no_other_is_answered_with_the_list() -> None:
    """Where nothing is close, the message says where the names are."""
    with pytest.raises(NoZooError, match=r"'\?\?\?\?', or nearly so; foreshock demo --list"):
        scenario_of("????", load_zoo(checkout()))


def test_without_a_checkout_the_message_says_where_the_zoo_is(tmp_path: Path) -> None:
    """An installed client outside of a checkout has no zoo, and says what to do."""
    with pytest.raises(NoZooError, match="in the root of a checkout"):
        checkout([tmp_path])


def test_the_current_folder_is_looked_at_last(tmp_path: Path) -> None:
    """Of several places the first one that has the zoo is taken."""
    for folder in ("b", "c"):
        mark = tmp_path / folder / "benchmarks" / "zoo" / "registry.py"
        mark.parent.mkdir(parents=True)
        mark.touch()

    assert checkout([tmp_path / name for name in "abc"]) == tmp_path / "b"


@dataclass(frozen=True)
class Label:
    kind: str = "loss_spike"
    at: int = 100
    layers: tuple[str, ...] = ("rank0/a", "rank1/a.b")
    accept: tuple[str, ...] = ("saturation",)


@pytest.mark.parametrize(
    ("kind", "step", "series", "said"),
    [
        ("loss_spike", 103, "weight:a.b.weight", "the labelled kind, a true layer, 3 steps after "),
        ("bad_batch", 100, "activation:a.c", "a kind that fits, another layer than rank0/a, rank1"),
        ("saturation", 100, None, "a kind that fits, no layer named"),
        ("dead_units", 100, None, "another kind, no layer named"),
        ("loss_spike", 99, None, "false alarm: the fault acts from step 100 on"),
    ],
)
def test_an_incident_is_held_against_its_label(
    kind: str, step: int, series: str | None, said: str
) -> None:
    """By time, kind and layer, as the zoo's score does; ranks have their own layers."""
    incident = {"kind": kind, "opened_step": step, "root_series": series, "rank": 1}
    assert compared(incident, Label()).startswith(said)


def test_every_incident_of_a_healthy_run_is_false() -> None:
    """Without a fault there is nothing to find."""
    incident = {"kind": "loss_spike", "opened_step": 9, "root_series": "a", "rank": 0}
    assert compared(incident, None) == "false alarm: the training is healthy"
