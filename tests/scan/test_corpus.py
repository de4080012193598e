"""The labelled runs through the command itself, where the checkout has them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.detectors.corpus import FOLDER
from tests.detectors.test_corpus import FLOOR
from tests.scan.running import scan


@pytest.mark.corpus
@pytest.mark.timeout(900)
def test_a_scan_of_the_corpus_scores_as_detection_does(tmp_path: Path) -> None:
    """The corpus' own scorer takes the lines as they are; no healthy run has one."""
    told, answer = tmp_path / "told.jsonl", tmp_path / "score.json"
    done = scan(FOLDER / "dev", "--jsonl", told)
    command = [sys.executable, "score.py", "dev", str(told), "--json", str(answer), "--quiet"]
    subprocess.run(command, cwd=FOLDER, check=True, timeout=120)

    result = json.loads(answer.read_text())
    assert (done.status, done.errors) == (1, [])
    assert result["unknown_run"] == 0
    assert result["composite"] > FLOOR
    assert result["healthy_runs_without_alert"] == 1.0
