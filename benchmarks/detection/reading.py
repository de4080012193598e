"""Reads a recorded run: the zoo's layout (`.npz` beside `.json`), or a log (`.csv`)."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from foreshock.wire import STATISTICS, Series, SeriesSchema
from foreshock_service.domain.facts import RunFacts

from benchmarks.detection.recordings import Recording


def read(path: Path) -> Recording:
    """The run that `path` (its `.json` or `.csv`) stands for."""
    return _log(path) if path.suffix == ".csv" else _trace(path)


def _trace(path: Path) -> Recording:
    about: dict[str, Any] = json.loads(path.read_text())
    with np.load(path.with_name(f"{path.stem}.npz")) as data:
        arrays = {name: np.asarray(data[name]) for name in data.files}
    steps, stats, names = arrays["step"], arrays["stats"], about["stat_names"]
    series = tuple(Series(**{**s, "shape": tuple(s.get("shape", ()))}) for s in about["series"])
    table = np.full((len(steps), len(series), len(STATISTICS)), np.nan, np.float32)
    for column, name in enumerate(STATISTICS):
        if name in names:
            table[:, :, column] = stats[:, :, names.index(name)]
    # `count` is the tensor's size, since traces do not record it.
    sizes = np.array([s.numel for s in series], np.float32)
    table[:, :, 0] = np.where(np.isnan(table[:, :, 1]), np.nan, sizes)
    back = np.concatenate([[0], np.cumsum(np.diff(steps) <= 0)]).astype(np.int64)
    scalars, logged = {}, {}
    for column, name in enumerate(about["scalars"]):
        values = arrays["scalars"][:, column].astype(np.float64)
        if np.isfinite(values).any():
            scalars[name] = values
            # A loss that is no number is a value; any other is a scalar that was not logged.
            logged[name] = ~np.isnan(values) | (name == "loss")
    return Recording(
        id=about["id"],
        schema=SeriesSchema(series),
        facts=RunFacts(optimizer=about["optimizer"]),
        steps=steps.astype(np.int64),
        attempts=arrays.get("attempt", back),
        flags=arrays.get("flags", np.zeros(len(steps), np.int64)),
        scalars=scalars,
        logged=logged,
        stats=table,
    )


def _log(path: Path) -> Recording:
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    steps = np.array([int(row["step"]) for row in rows], np.int64)
    names = [name for name in rows[0] if name != "step"]
    texts = {name: [row[name].strip() for row in rows] for name in names}
    used = [name for name in names if any(texts[name])]
    return Recording(
        id=path.stem,
        schema=SeriesSchema(()),
        facts=RunFacts(),
        steps=steps,
        attempts=np.concatenate([[0], np.cumsum(np.diff(steps) <= 0)]).astype(np.int64),
        flags=np.zeros(len(steps), np.int64),
        scalars={n: np.array([float(t) if t else np.nan for t in texts[n]]) for n in used},
        logged={n: np.array([bool(t) for t in texts[n]]) for n in used},
        stats=np.zeros((len(steps), 0, len(STATISTICS)), np.float32),
    )
