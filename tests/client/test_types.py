"""A user's program is checked by mypy: what is right passes, and a mistake is found in it."""

from __future__ import annotations

import subprocess
import sys
import typing
from dataclasses import fields
from pathlib import Path

import pytest
from foreshock.settings import ClientSettings, SettingArguments

PROGRAM = """
import foreshock
import torch
from foreshock.errors import SettingError
from foreshock.testing import RecordingTransport

model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
transport = RecordingTransport()

def wanted(name: str, item: torch.nn.Module | torch.Tensor) -> bool:
    return name != "bias"

with foreshock.watch(
    model, [optimizer], run="typed", include=wanted, exclude="*.bias", tags=["a"],
    config={"lr": 0.1}, transport=transport, activation_every=8, spool_dir="spool",
) as watch:
    watch.step(loss=torch.ones(()), step=3, batch_id="b", accuracy=0.5)
    watch.log({"eval/loss": 1.0}, lr=0.1)
    watch.observe("logits", torch.ones(2))
    done: bool = watch.flush(1.0)
    page: str | None = watch.url
first: dict[int, float] = transport.scalar("loss")
"""
WRONG = {
    "foreshock.wacth(model)": "attr-defined",
    "foreshock.watch(model, activation_evry=8)": "call-arg",
    "foreshock.watch(model, activation_every='8')": "typeddict-item|arg-type",
    "foreshock.watch(model, include=3)": "arg-type",
    "foreshock.watch(model, 'adam')": "arg-type",
    "watch.observe(torch.ones(2), 'logits')": "arg-type",
    "watch.checkpoints('x')": "attr-defined",
    "watch.step(loss='much')": "arg-type",
    "watch.note()": "call-arg",
}


def check(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy as a user would, with no configuration of ours."""
    (folder / "program.py").write_text(program)
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_mistakes_are_found_and_what_is_right_passes(tmp_path: Path) -> None:
    """Every wrong line is an error of its own kind, and no other line is one."""
    num_right = len(PROGRAM.splitlines())
    done = check(PROGRAM + "\n".join(WRONG) + "\n", tmp_path)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    found = {int(line.split(":")[1]) for line in errors}
    assert found == {num_right + 1 + i for i in range(len(WRONG))}, done.stdout
    for i, kinds in enumerate(WRONG.values()):
        line = next(line for line in errors if f":{num_right + 1 + i}: " in line)
        assert line.rpartition("[")[2].rstrip("]") in kinds.split("|"), line


NAMED = {"run", "project", "url", "token", "include", "exclude"}


@pytest.mark.parametrize("name", [f.name for f in fields(ClientSettings) if f.name not in NAMED])
def test_every_setting_is_a_typed_argument(name: str) -> None:
    """What `watch` does not name itself stands in `SettingArguments`, with the field's type."""
    field = typing.get_type_hints(ClientSettings)[name] | None
    argument = typing.get_type_hints(SettingArguments)[name]
    assert argument in (field, field | str)


def test_there_is_no_typed_argument_that_is_no_setting() -> None:
    """A setting that is gone is gone from the arguments."""
    names = {field.name for field in fields(ClientSettings)}
    assert set(typing.get_type_hints(SettingArguments)) == names - NAMED
