"""The Hugging Face Trainer's state. `recorded/trainer_state.json` was written by a real Trainer
(transformers 5.24: 300 steps, an evaluation each 50, every batch NaN after step 200)."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tests.scan.reading import rows
from tests.scan.running import scan

RECORDED = Path(__file__).parent / "recorded" / "trainer_state.json"


def test_evaluations_are_part_of_their_step() -> None:
    """60 logged steps, 6 of them with an evaluation, all of one attempt."""
    found = rows(RECORDED)

    assert [step for _, step, _ in found] == list(range(5, 301, 5))
    assert {attempt for attempt, _, _ in found} == {0}
    assert [step for _, step, values in found if "eval_loss" in values] == list(range(50, 301, 50))


def test_the_average_at_the_end_is_not_the_loss() -> None:
    """The last record of a history holds `train_loss` of the whole training."""
    history = json.loads(RECORDED.read_text())["log_history"]
    assert "train_loss" in history[-2]

    _, step, values = rows(RECORDED)[-1]

    assert step == 300
    assert math.isnan(values["loss"])
    assert "train_loss" not in values


def test_its_incident_is_found(tmp_path: Path) -> None:
    """The first logged loss that is NaN; the run is called as the file is."""
    done = scan(RECORDED, "--jsonl", tmp_path / "told.jsonl")

    assert done.status == 1
    assert [(told["run"], told["kind"], told["onset_step"]) for told in done.told] == [
        ("trainer_state", "non_finite", 205)
    ]


def test_it_may_have_another_name(tmp_path: Path) -> None:
    """It is known by its `log_history`; other JSON in the folder is passed over."""
    (tmp_path / "renamed.json").write_text(RECORDED.read_text())
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')

    done = scan(tmp_path)

    assert done.lines[-2].startswith("renamed: 60 rows, 1 incident")
    assert done.lines[-1].endswith("1 other file passed over.")
