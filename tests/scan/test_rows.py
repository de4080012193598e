"""What belongs to one step, what is a restart, and what no one logged."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

from tests.scan.reading import frames, only_run, rows, written


def jsonl(path: Path, *records: dict[str, Any]) -> Path:
    """The records, a line each."""
    return written(path, "".join(json.dumps(record) + "\n" for record in records))


def test_what_is_not_logged_is_absent(tmp_path: Path) -> None:
    """An empty cell and a missing column leave no scalar; `nan` and `inf` are values."""
    text = "step,loss,grad_norm,lr\n5,1.5,,\n10,inf,2,\n15,nan,0,1e-3\n"

    first, second, third = rows(written(tmp_path / "log.csv", text))

    assert first == (0, 5, {"loss": 1.5})
    assert second == (0, 10, {"loss": math.inf, "grad_norm": 2.0})
    assert third[2].keys() == {"loss", "grad_norm", "lr"}
    assert math.isnan(third[2]["loss"])


def test_rows_of_one_step_are_one_frame(tmp_path: Path) -> None:
    """The loss, the rate and an evaluation of a step may be logged apart, and in any order."""
    path = jsonl(
        tmp_path / "log.jsonl",
        {"step": 1, "lr": 0.1},
        {"step": 1, "loss": 3.0},
        {"step": 1, "eval_loss": 2.5},
        {"step": 2, "loss": 2.0},
    )

    assert rows(path) == [
        (0, 1, {"lr": 0.1, "loss": 3.0, "eval_loss": 2.5}),
        (0, 2, {"loss": 2.0}),
    ]


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    """Also where its loss is NaN, which differs from itself."""
    text = "step,loss\n1,3.0\n1,3.0\n2,nan\n2,nan\n"

    assert [step for _, step, _ in rows(written(tmp_path / "log.csv", text))] == [1, 2]


def test_another_loss_of_the_same_step_is_a_row_of_its_own(tmp_path: Path) -> None:
    """And no attempt: nothing went back."""
    text = "step,loss\n1,3.0\n1,2.5\n2,2.0\n"

    assert rows(written(tmp_path / "log.csv", text)) == [
        (0, 1, {"loss": 3.0}),
        (0, 1, {"loss": 2.5}),
        (0, 2, {"loss": 2.0}),
    ]


def test_a_step_that_goes_back_begins_an_attempt(tmp_path: Path) -> None:
    """Steps stay as logged, with their gaps."""
    text = "step,loss\n10,3\n20,2.5\n70,2\n20,2.6\n30,2.4\n"

    found = [(attempt, step) for attempt, step, _ in rows(written(tmp_path / "log.csv", text))]

    assert found == [(0, 10), (0, 20), (0, 70), (1, 20), (1, 30)]


def test_a_metric_with_steps_of_its_own_is_no_restart(tmp_path: Path) -> None:
    """A rate logged by epoch goes back without the loss, one logged by sample goes ahead."""
    path = jsonl(
        tmp_path / "log.jsonl",
        {"step": 100, "loss": 3.0},
        {"step": 1, "lr": 0.1},
        {"step": 101, "loss": 2.9},
        {"step": 6400, "accuracy": 0.5},
        {"step": 102, "loss": 2.8},
    )

    assert rows(path) == [
        (0, 100, {"loss": 3.0}),
        (0, 101, {"loss": 2.9}),
        (0, 102, {"loss": 2.8}),
    ]


def test_the_rate_of_a_resumed_step_is_kept(tmp_path: Path) -> None:
    """It was logged before the loss that shows the restart."""
    path = jsonl(
        tmp_path / "log.jsonl",
        {"step": 100, "loss": 3.0},
        {"step": 50, "lr": 0.1},
        {"step": 50, "loss": 3.1},
    )

    assert rows(path)[-1] == (1, 50, {"lr": 0.1, "loss": 3.1})


def test_a_log_without_steps_is_counted(tmp_path: Path) -> None:
    """From 0, in its order."""
    assert rows(written(tmp_path / "log.csv", "loss\n3\n2\n\n1\n")) == [
        (0, 0, {"loss": 3.0}),
        (0, 1, {"loss": 2.0}),
        (0, 2, {"loss": 1.0}),
    ]


def test_a_loss_is_never_made_of_two_columns(tmp_path: Path) -> None:
    """The likeliest name of the first row is the loss; the other keeps its own name."""
    text = "step,train_loss,loss\n1,9,3\n2,8,\n"

    assert rows(written(tmp_path / "log.csv", text)) == [
        (0, 1, {"train_loss": 9.0, "loss": 3.0}),
        (0, 2, {"train_loss": 8.0}),
    ]


def test_a_frame_without_series_costs_nothing(tmp_path: Path) -> None:
    """All frames share one empty table."""
    first, second = frames(written(tmp_path / "log.csv", "loss\n1\n2\n"))

    assert first.schema.series == ()
    assert first.stats is second.stats


def test_a_long_log_is_read_row_by_row(tmp_path: Path) -> None:
    """What is held does not grow with the file: 50,000 rows in less memory than the file takes."""
    path = written(tmp_path / "long.csv", "step,loss\n" + "1,2.5\n2,2.4\n" * 25_000)
    run = only_run(path)

    tracemalloc.start()
    num_frames = sum(1 for _ in run.frames())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert num_frames == 50_000
    assert peak_bytes < path.stat().st_size
