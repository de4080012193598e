"""The names that other tools give the same thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scan.reading import rows, written


@pytest.mark.parametrize(
    "header",
    [
        "step,loss,grad_norm,lr",
        "global_step,train_loss,grad-norm,learning_rate",
        "Iteration,Train Loss,Gradient Norm,Learning Rate",
        "iter,train/loss,train/grad_norm,train/lr",
        "num_updates,loss,gnorm,lr",
        "_step,train/loss,train/grad_norm,train/learning_rate",
        '"Step","name - train/loss","name - train/grad_norm","name - train/learning_rate"',
        "iteration,lm loss,grad_norm,lr",
        "step,train/CrossEntropyLoss,optim/total_grad_norm,optim/learning_rate_group0",
    ],
)
def test_names_of_other_tools_are_known(tmp_path: Path, header: str) -> None:
    """Step, loss, gradient norm and rate, however they are written."""
    assert rows(written(tmp_path / "log.csv", f"{header}\n7,1.5,0.25,1e-3\n")) == [
        (0, 7, {"loss": 1.5, "grad_norm": 0.25, "lr": 1e-3})
    ]


def test_other_columns_keep_their_names_where_they_are_numbers(tmp_path: Path) -> None:
    """What is a note, a date or true is left out."""
    text = "date,step,loss,accuracy,note\n2024-01-01,1,2.0,0.5,warm\n"

    assert rows(written(tmp_path / "log.csv", text)) == [(0, 1, {"loss": 2.0, "accuracy": 0.5})]


def test_objects_in_objects_are_read_one_level_deep(tmp_path: Path) -> None:
    """Those that only group are not part of the name."""
    text = '{"step": 3, "metrics": {"loss": 1.0}, "train": {"lr": 0.1, "more": {"deep": 1}}}\n'

    assert rows(written(tmp_path / "log.jsonl", text)) == [(0, 3, {"loss": 1.0, "lr": 0.1})]


def test_a_header_record_of_another_kind_is_no_row(tmp_path: Path) -> None:
    """Configurations stand at the top of many logs."""
    text = '{"config": {"lr": 0.1}, "seed": 3}\n{"step": 0, "loss": 1.0}\n'

    assert [step for _, step, _ in rows(written(tmp_path / "log.jsonl", text))] == [0]
