"""W&B runs, written offline by the library itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from foreshock_service.errors import Unreadable

from tests.scan.reading import only_run, rows
from tests.scan.running import scan, scan_alone

PROGRAM = """
import wandb
run = wandb.init(mode="offline", project="p", config={"lr": 1e-3, "loss": "mse"})
for i in range(200):
    loss = float("nan") if i >= 150 else 2.0 - 0.01 * i
    run.log({"train/loss": loss, "train/grad_norm": 0.5, "train/global_step": 10 * i,
             "weights": wandb.Histogram([1, 2, 3])})
    if i % 50 == 49:
        run.log({"eval/loss": 1.0, "eval": {"accuracy": 0.5}, "train/global_step": 10 * i})
run.log({"note": "x" * 100_000})
run.finish()
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `wandb` of one run."""
    folder = tmp_path_factory.mktemp("recorded")
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**os.environ, "WANDB_SILENT": "true", "WANDB_DIR": str(folder)},
        check=True,
        capture_output=True,
    )
    return folder / "wandb"


def test_a_run_has_its_folder_s_name_and_the_training_s_steps(recorded: Path) -> None:
    """`train/global_step` is the step, and an evaluation belongs to it; records longer than a
    block of the log are put together."""
    run = only_run(recorded)
    found = rows(recorded)

    assert run.name.startswith("offline-run-")
    assert [step for _, step, _ in found] == list(range(0, 2000, 10))
    assert {attempt for attempt, _, _ in found} == {0}
    assert found[0][2] == {"loss": 2.0, "grad_norm": 0.5}
    assert found[49][2].keys() == {"loss", "grad_norm", "eval/loss", "eval/accuracy"}


def test_its_incident_is_found(recorded: Path, tmp_path: Path) -> None:
    """Among the logs and settings that lie beside it."""
    done = scan(recorded, "--jsonl", tmp_path / "told.jsonl")

    assert (done.status, done.errors) == (1, [])
    assert [(told["kind"], told["onset_step"]) for told in done.told] == [("non_finite", 1500)]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) * 2 // 3], "cut off"),
        (lambda data: data[:40_000] + bytes([data[40_000] ^ 1]) + data[40_001:], "damaged"),
    ],
    ids=["cut off", "a flipped bit"],
)
def test_what_comes_before_a_damage_is_read(
    recorded: Path, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    """The checksum of each record is checked."""
    (path,) = recorded.rglob("*.wandb")
    (tmp_path / "run.wandb").write_bytes(damage(path.read_bytes()))
    frames = only_run(tmp_path).frames()

    before = [next(frames).step for _ in range(10)]
    with pytest.raises(Unreadable, match=reason):
        list(frames)

    assert before == list(range(0, 100, 10))


def test_without_the_library_it_says_what_to_install(recorded: Path, tmp_path: Path) -> None:
    """One line with the command, and status 2."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text("raise ImportError('none')\n")

    done = scan_alone(recorded, PYTHONPATH=str(tmp_path))

    assert done.status == 2
    assert "pip install 'foreshock-service[wandb]'" in done.errors[0]
