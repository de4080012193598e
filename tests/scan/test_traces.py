"""Labelled traces: pairs of `.npz` and `.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from foreshock.wire import STATISTICS, FrameFlag

from tests.scan.reading import frames, only_run

SERIES = [
    {
        "name": "layers.0.weight",
        "kind": "weight",
        "module_type": "Linear",
        "depth": 0,
        "numel": 64,
        "dtype": "float32",
    }
]
STAT_NAMES = ["mean", "std", "rms", "nan_count", "inf_count"]


def write_pair(folder: Path, name: str = "run", **changes: Any) -> Path:
    """A sound pair of three rows, but for what is changed: arrays (`values` are the scalars), or
    keys of the description."""
    arrays = {
        "step": np.array([0, 1, 1]),
        "scalars": np.array([[3.0, np.nan, np.nan], [np.nan, 0.1, np.nan], [2.0, 0.1, np.nan]]),
        "stats": np.ones((3, 1, len(STAT_NAMES)), np.float32),
    }
    about: dict[str, Any] = {
        "id": "other",
        "optimizer": "AdamW",
        "scalars": ["loss", "lr", "grad_norm"],
        "stat_names": STAT_NAMES,
        "series": SERIES,
    }
    arrays["scalars"] = changes.pop("values", arrays["scalars"])
    for key, value in changes.items():
        if key in about:
            about[key] = value
        else:
            arrays[key] = value
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"{name}.npz", allow_pickle=True, **arrays)
    (folder / f"{name}.json").write_text(json.dumps(about))
    return folder / f"{name}.npz"


def test_a_pair_is_one_run_with_its_optimizer(tmp_path: Path) -> None:
    """Whichever of the two is named; the run is called as the files are."""
    arrays = write_pair(tmp_path)

    for path in (arrays, arrays.with_suffix(".json"), tmp_path):
        run = only_run(path)
        assert (run.name, run.facts.optimizer) == ("run", "AdamW")


def test_rows_have_the_statistics_and_only_logged_scalars(tmp_path: Path) -> None:
    """NaN is "not logged"; `count` is the size of a series that was measured."""
    stats = np.ones((3, 1, len(STAT_NAMES)), np.float32)
    stats[1] = np.nan

    found = frames(write_pair(tmp_path, stats=stats))

    assert [(f.attempt, f.step) for f in found] == [(0, 0), (0, 1), (1, 1)]
    assert [sorted(f.scalars) for f in found] == [["loss"], ["lr"], ["loss", "lr"]]
    column = dict(zip(STATISTICS, found[0].stats[0], strict=True))
    assert (column["count"], column["mean"], column["nan_count"]) == (64.0, 1.0, 1.0)
    assert np.isnan(column["kurtosis"])
    assert np.isnan(found[1].stats).all()


def test_a_loss_that_is_nan_with_the_tensors_is_a_value(tmp_path: Path) -> None:
    """Also where it never was a number; with finite tensors it was not logged on that row."""
    values = np.full((3, 3), np.nan)
    stats = np.ones((3, 1, len(STAT_NAMES)), np.float32)
    stats[0] = 0.0

    found = frames(write_pair(tmp_path, values=values, stats=stats))

    assert [sorted(f.scalars) for f in found] == [[], ["loss"], ["loss"]]


def test_without_tensors_a_loss_that_is_nan_is_a_value(tmp_path: Path) -> None:
    """Nothing else could say that the training was lost."""
    stats = np.ones((3, 0, len(STAT_NAMES)), np.float32)

    found = frames(write_pair(tmp_path, series=[], stats=stats))

    assert ["loss" in f.scalars for f in found] == [True, True, True]


def test_a_nan_that_was_logged_is_a_value(tmp_path: Path) -> None:
    """Where the arrays say so: a mean over no tokens leaves the tensors sound."""
    logged = np.array([[True, False, False], [True, True, False], [False, True, False]])

    found = frames(write_pair(tmp_path, logged=logged))

    assert [sorted(f.scalars) for f in found] == [["loss"], ["loss", "lr"], ["lr"]]
    assert np.isnan(found[1].scalars["loss"])


def test_attempts_and_flags_are_taken_where_they_are(tmp_path: Path) -> None:
    """The zoo's traces have both."""
    flags = np.array([int(FrameFlag.MEASURED_WEIGHT), int(FrameFlag.SKIPPED), 0])

    found = frames(write_pair(tmp_path, attempt=np.array([4, 4, 9]), flags=flags))

    assert [f.attempt for f in found] == [4, 4, 9]
    assert [f.flags for f in found] == [FrameFlag.MEASURED_WEIGHT, FrameFlag.SKIPPED, FrameFlag(0)]


def test_labels_reach_nobody(tmp_path: Path) -> None:
    """The description may hold anything under the keys that are not read."""
    arrays = write_pair(tmp_path)
    plain = [repr(f.scalars) for f in frames(arrays)]
    path = arrays.with_suffix(".json")
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "label": 7, "injected": [], "seed": {}, "arch": None}))

    assert [repr(f.scalars) for f in frames(arrays)] == plain
