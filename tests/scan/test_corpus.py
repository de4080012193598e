"""The labelled runs, where the checkout has them: a floor under what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.corpus import FOLDER
from tests.scan.running import scan

FLOOR = 0.92
"""Measured 0.95. The limits were set with these runs in view, so this guards against a step back
and says nothing of new runs."""
MAX_FALSE = {"false_critical_per_1000": 0.05, "false_warning_per_1000": 0.2}
"""Alerts per 1000 healthy steps; measured 0.00 and 0.10."""


@pytest.mark.corpus
@pytest.mark.timeout(900)
def test_the_score_stays_above_its_floor_and_healthy_runs_are_quiet(tmp_path: Path) -> None:
    """The corpus' own scorer takes the lines as they are; no healthy run has one."""
    told, answer = tmp_path / "told.jsonl", tmp_path / "score.json"
    done = scan(FOLDER / "dev", "--jsonl", told)
    command = [sys.executable, "score.py", "dev", str(told), "--json", str(answer), "--quiet"]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=120)

    result = json.loads(answer.read_text())
    assert (done.status, done.errors) == (1, [])
    assert result["unknown_run"] == 0
    assert result["composite"] > FLOOR
    assert all(result[name] <= most for name, most in MAX_FALSE.items())
    assert result["healthy_runs_without_alert"] == 1.0
