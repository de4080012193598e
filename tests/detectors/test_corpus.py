"""The labelled runs, where the checkout has them: a floor under what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.detectors.corpus import FOLDER, detections_of, run_ids

FLOOR = 0.70
"""Measured 0.76 with kinds for which there is no detector yet counted as missed. The limits were
set with these runs in view, so this guards against a step back and says nothing of new runs."""


def _score(told: Path, answer: Path) -> dict[str, Any]:
    """What the corpus' own scorer says, run as a user would run it."""
    command = [sys.executable, "score.py", "dev", str(told), "--json", str(answer), "--quiet"]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=120)
    result: dict[str, Any] = json.loads(answer.read_text())
    return result


@pytest.mark.corpus
def test_the_score_stays_above_its_floor_and_healthy_runs_are_quiet(tmp_path: Path) -> None:
    """Composite score, and no alarm on any healthy run."""
    told = [detection for run_id in run_ids() for detection in detections_of(run_id)]
    (tmp_path / "told.jsonl").write_text("".join(json.dumps(d) + "\n" for d in told))
    result = _score(tmp_path / "told.jsonl", tmp_path / "score.json")
    assert result["composite"] > FLOOR
    assert result["healthy_runs_without_alert"] == 1.0
