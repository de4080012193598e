"""One method's figures over one collection, ours checked against the collection's own scorer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.detection.collections import Collection
from benchmarks.detection.logs import ScoredLog, log_figures, log_interval, score_log
from benchmarks.detection.told import Alert
from benchmarks.zoo.score import Scored, score

SAME: Final = 6e-4
"""The logs' scorer prints three decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a method reached. `runs` and `logs` are its shares by run, one of them empty."""

    method: str
    figures: Mapping[str, float]
    interval: tuple[float, float]
    runs: Sequence[Scored] = ()
    logs: Sequence[ScoredLog] = ()


def score_method(method: str, collection: Collection, alerts: Sequence[Alert]) -> Scores:
    """Score a method's alerts on all runs of a collection."""
    if collection.is_logs:
        logs = [
            score_log(one, [a for a in alerts if a["run"] == one.run.id]) for one in collection.runs
        ]
        return Scores(
            method=method, figures=log_figures(logs), interval=log_interval(logs), logs=logs
        )
    result = score(collection.labels(), alerts)
    return Scores(method=method, figures=result.figures, interval=result.interval, runs=result.runs)


def others_composite(collection: Collection, alerts: Sequence[Alert]) -> float | None:
    """The composite by the collection's own scorer, run as a user would; None if it has none."""
    if collection.scorer is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        told, answer = Path(folder) / "told.jsonl", Path(folder) / "answer.json"
        told.write_text("".join(json.dumps(alert) + "\n" for alert in alerts))
        command = [sys.executable, str(collection.scorer), str(collection.folder), str(told)]
        if not collection.is_logs:
            command += ["--json", str(answer)]
        done = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
        if not collection.is_logs:
            return float(json.loads(answer.read_text())["composite"])
    found = re.search(r"composite (\S+)\s*$", done.stdout)
    return float(found.group(1)) if found else None
