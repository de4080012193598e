"""Files that are broken, empty, or made to do harm: one clear line each, and the rest is read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scan.logs import csv_of
from tests.scan.running import scan
from tests.scan.test_traces import SERIES, write_pair


def _claims(folder: Path, member: str, shape: tuple[int, ...]) -> None:
    """Replace one array by a header that claims a shape, with nothing behind it."""
    path = write_pair(folder, "hostile")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    about = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, about)
    members[f"{member}.npy"] = header.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


HARMED = Path("harmed-by-a-pickle")


class Harm:
    """Runs code if it is unpickled."""

    def __reduce__(self) -> Any:
        return (HARMED.touch, ())


def _pickled(folder: Path) -> None:
    write_pair(folder, "hostile", step=np.array([Harm(), Harm(), Harm()], dtype=object))


def _cut(folder: Path) -> None:
    path = write_pair(folder, "hostile")
    path.write_bytes(path.read_bytes()[:200])


def _text(name: str, text: str | bytes) -> Callable[[Path], object]:
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(data)


DEEP = "[" * 100_000
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (_pickled, "`step` holds object"),
    "huge scalars": (lambda f: _claims(f, "scalars", (10**9, 3)), "claims 24000000000 bytes"),
    "huge stats": (lambda f: _claims(f, "stats", (2**40, 2**40, 5)), "claims"),
    "other shape": (lambda f: _claims(f, "scalars", (0, 3)), "its description says (3, 3)"),
    "cut npz": (_cut, "no npz file, or a damaged one"),
    "text npz": (_text("hostile.npz", "not a zip"), "hostile.json is missing"),
    "negative steps": (
        lambda f: write_pair(f, "hostile", step=np.array([-1, 0, 1])),
        "whole numbers from 0 up",
    ),
    "float steps": (
        lambda f: write_pair(f, "hostile", step=np.array([0.5, 1.5, 2.5])),
        "`step` holds float64",
    ),
    "wrong series": (
        lambda f: write_pair(f, "hostile", series=[{**SERIES[0], "numel": "many"}]),
        "whole numbers",
    ),
    "no list of names": (
        lambda f: write_pair(f, "hostile", stat_names={"mean": 1}),
        "must be a list of names",
    ),
    "empty csv": (_text("hostile.csv", ""), "the file is empty"),
    "binary csv": (_text("hostile.csv", bytes(range(256)) * 50), "no text in UTF-8"),
    "binary csv of zeros": (_text("hostile.csv", bytes(5000)), "holds a NUL character"),
    "csv without a loss": (_text("hostile.csv", "step,accuracy\n1,2\n"), "no column is a loss"),
    "csv of no losses": (_text("hostile.csv", "step,loss\n1,\n2,\n"), "no row has a loss"),
    "nan step": (_text("hostile.csv", "step,loss\nnan,1\n"), "row 1: step 'nan' is no whole"),
    "1e400 step": (_text("hostile.csv", "step,loss\n1e400,1\n"), "step '1e400' is no whole"),
    "half a step": (_text("hostile.csv", "step,loss\n1.5,1\n"), "step '1.5' is no whole"),
    "negative step": (_text("hostile.csv", "step,loss\n-1,1\n"), "step '-1' is no whole"),
    "a step that is missing": (_text("hostile.csv", "step,loss\n,1\n"), "a loss and no step"),
    "a loss of words": (_text("hostile.csv", "step,loss\n1,high\n"), "loss 'high' is no number"),
    "too many cells": (_text("hostile.csv", "step,loss\n1,2,3\n"), "3 cells under 2 names"),
    "an endless line": (_text("hostile.csv", "x" * 1_100_000), "line 1 has more than 1048576"),
    "an endless cell": (_text("hostile.csv", 'step,loss\n1,"' + "x\n" * 90_000), "it is no CSV"),
    "too many columns": (
        _text("hostile.csv", ",".join(f"c{i}" for i in range(5000)) + ",loss\n1\n"),
        "more than 4096 names",
    ),
    "no json": (_text("hostile.jsonl", "{'step': 1}\n"), "line 1 is no JSON"),
    "deep json": (_text("hostile.jsonl", DEEP), "line 1 is no JSON"),
    "an array": (_text("hostile.jsonl", "[1, 2]\n"), "line 1 is no JSON object"),
    "endless digits": (
        _text("hostile.jsonl", '{"step": 1, "loss": ' + "9" * 5000 + "}\n"),
        "line 1 is no JSON",
    ),
    "1e400 json step": (_text("hostile.jsonl", '{"step": 1e400, "loss": 1}\n'), "step 'inf'"),
    "a list as a step": (_text("hostile.jsonl", '{"step": [1], "loss": 1}\n'), "step '[1]'"),
    "true as a loss": (_text("hostile.jsonl", '{"step": 1, "loss": true}\n'), "loss 'True'"),
    "cut json": (
        _text("hostile.jsonl", '{"step": 1, "loss": 1}\n{"step": 2, "lo'),
        "line 2 is no JSON, and cut off",
    ),
    "jsonl without a loss": (_text("hostile.jsonl", '{"text": "a"}\n'), "no row has a loss"),
    "no history": (_text("trainer_state.json", '{"log_history": 5}'), "a list of objects"),
    "empty history": (_text("trainer_state.json", '{"log_history": []}'), "has no loss"),
    "cut history": (_text("trainer_state.json", '{"log_history": [{"st'), "no JSON, or cut off"),
    "deep history": (_text("trainer_state.json", DEEP), "no JSON, or cut off"),
    "empty events": (_text("events.out.tfevents.1.a", ""), "the file is empty"),
    "other events": (_text("events.out.tfevents.1.a", b"\xff" * 500), "damaged at byte 0 of 500"),
    "empty wandb": (_text("run-1.wandb", ""), "the file is empty"),
    "other wandb": (_text("run-1.wandb", b"\xff" * 500), "does not begin as a W&B run does"),
    "other format": (_text("notes.txt", "hello"), "of no format that is read"),
    "other json": (_text("notes.json", '{"a": 1}'), "of no format that is read"),
    "no file": (lambda folder: None, "there is no such file"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The line that each hostile file got in one scan of all, with a sound one at the end."""
    root = tmp_path_factory.mktemp("hostile")
    named: dict[str, Path] = {}
    for name, (make, _) in HOSTILE.items():
        folder = root / name
        folder.mkdir()
        make(folder)
        files = sorted(folder.iterdir(), reverse=True)
        named[name] = files[0] if files else folder / "absent.csv"
    (root / "sound.csv").write_text(csv_of(sick=False))

    done = scan(*named.values(), root / "sound.csv")

    assert done.status == 2
    assert done.lines[-1].startswith("2 runs scanned, 0 with incidents")
    assert not HARMED.exists()
    lines = {}
    for name, path in named.items():
        (lines[name],) = (line for line in done.errors if f"{path}: " in line)
    assert len(done.errors) == len(lines)
    return lines


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_one_clear_line(told: dict[str, str], name: str) -> None:
    """With its name and the reason, and never a traceback."""
    assert HOSTILE[name][1] in told[name]


def test_an_overflowing_loss_is_infinite(tmp_path: Path) -> None:
    """1e400 is beyond float64: as a loss it is what it became in the training."""
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps({"step": i, "loss": 1.0}) + "\n" for i in range(40))
        + '{"step": 40, "loss": 1e400}\n{"step": 41, "loss": 1e400}\n{"step": 42, "loss": 1e400}\n'
    )

    done = scan(tmp_path, "--jsonl", tmp_path / "told.jsonl")

    assert done.status == 1
    assert done.told[0]["onset_step"] == 40
