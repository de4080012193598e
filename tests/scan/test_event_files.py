"""TensorBoard's event files, written by PyTorch's own writer."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.scan.logs import BROKEN_AT, losses
from tests.scan.reading import only_run, rows
from tests.scan.running import scan, scan_alone


def write_run(folder: Path, steps: range, *, sick: bool = False, new_style: bool = False) -> None:
    """One training of a run: loss and gradient norm by step, an accuracy by epoch and
    by sample."""
    with SummaryWriter(str(folder)) as writer:
        for step in steps:
            loss = losses(sick=sick)[step]
            writer.add_scalar("train/loss", loss, step, new_style=new_style)
            writer.add_scalar("train/grad_norm", 0.5, step, new_style=new_style)
            if step % 40 == 39:
                writer.add_scalar("val/accuracy", 0.5, step // 40)
                writer.add_scalar("val/loss", 9.0, step)
                writer.add_scalar("seen/accuracy", 0.5, 64 * step)
                writer.add_scalar("seen/accuracy", 0.5, 64 * step + 1)
                writer.add_text("note", "an epoch", step)


@pytest.mark.parametrize("new_style", [False, True], ids=["values", "tensors"])
def test_tags_become_names_and_a_step_one_frame(tmp_path: Path, new_style: bool) -> None:
    """In both forms of a scalar; what counts epochs or samples begins no frame and no attempt."""
    write_run(tmp_path / "first", range(80), new_style=new_style)

    found = rows(tmp_path / "first")

    assert [step for _, step, _ in found] == list(range(80))
    assert {attempt for attempt, _, _ in found} == {0}
    assert found[0][2] == {"loss": pytest.approx(losses(sick=False)[0]), "grad_norm": 0.5}
    assert found[39][2].keys() == {"loss", "grad_norm", "val/loss"}


def test_files_of_a_folder_are_one_run_in_the_order_of_time(tmp_path: Path) -> None:
    """A resumed training writes one more file, which repeats steps."""
    folder = tmp_path / "resumed"
    write_run(folder, range(60))
    write_run(folder, range(50, 100))
    for number, path in enumerate(sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns)):
        # The writer numbers files by the second; the older one must not be first by its name.
        path.rename(folder / f"{'zy'[number]}.tfevents.{1700000000 + number}.host")

    run = only_run(folder)
    found = [(frame.attempt, frame.step) for frame in run.frames()]

    assert run.name == "resumed"
    assert found == [(0, step) for step in range(60)] + [(1, step) for step in range(50, 100)]


def test_each_folder_is_a_run_and_one_without_a_loss_is_passed_over(tmp_path: Path) -> None:
    """A folder of runs is scanned in alphabetical order."""
    write_run(tmp_path / "b", range(160), sick=True)
    write_run(tmp_path / "a", range(80))
    with SummaryWriter(str(tmp_path / "a" / "val")) as writer:
        writer.add_scalar("accuracy", 0.5, 1)

    done = scan(tmp_path, "--jsonl", tmp_path / "told.jsonl")

    assert (done.status, done.errors) == (1, [])
    assert done.lines[0] == "a: 80 rows, no incident."
    assert done.lines[-1].endswith("1 other file passed over.")
    assert [(told["run"], told["onset_step"]) for told in done.told] == [("b", BROKEN_AT)]


def test_what_a_killed_training_left_is_scanned_and_the_cut_is_told(tmp_path: Path) -> None:
    """The last record lacks its end: status 2, and the incident before it."""
    write_run(tmp_path / "killed", range(160), sick=True)
    (path,) = (tmp_path / "killed").iterdir()
    path.write_bytes(path.read_bytes()[:-7])

    done = scan(tmp_path, "--jsonl", tmp_path / "told.jsonl")

    assert done.status == 2
    assert "cut off or damaged at byte" in done.errors[0]
    assert [told["run"] for told in done.told] == ["killed"]


def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    """One line with the command, and status 2."""
    write_run(tmp_path / "run", range(2))
    (tmp_path / "path" / "tensorboard").mkdir(parents=True)
    (tmp_path / "path" / "tensorboard" / "__init__.py").write_text("raise ImportError('none')\n")

    done = scan_alone(tmp_path / "run", PYTHONPATH=str(tmp_path / "path"))

    assert done.status == 2
    assert "pip install 'foreshock-service[tensorboard]'" in done.errors[0]
