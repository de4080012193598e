"""The continuous-integration plugin fails on what was not checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def session(folder: Path, source: str, processes: int = 0) -> subprocess.CompletedProcess[str]:
    """A pytest session over one file, with the plugin, apart from this one."""
    (folder / "test_it.py").write_text(f"import pytest\n{source}")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: needs one\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.no_skips", "--rootdir", str(folder)]
    command += ["-p", "xdist", "-n", str(processes)]
    return subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        # Other plugins take longer to load than the session.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize(
    "source",
    [
        "def test_a(): pytest.skip('no database')",
        "@pytest.mark.skipif(True, reason='no browser')\ndef test_a(): pass",
        "pytest.skip('nothing here', allow_module_level=True)\ndef test_a(): pass",
    ],
)
def test_a_skip_fails_the_session_and_is_named(tmp_path: Path, source: str, processes: int) -> None:
    """However a test is skipped and wherever it ran, the session fails and says once which it
    was."""
    done = session(tmp_path, f"def test_b(): pass\n{source}\n", processes)
    assert done.returncode != 0
    assert done.stdout.count("NOT CHECKED: ") == 1


@pytest.mark.parametrize("processes", [0, 2])
def test_a_gpu_test_may_be_skipped(tmp_path: Path, processes: int) -> None:
    """Most machines have no GPU, and that is said by the marker."""
    source = "@pytest.mark.gpu\ndef test_a(): pytest.skip('no GPU')\ndef test_b(): pass\n"
    done = session(tmp_path, source, processes)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("processes", [0, 2])
def test_the_summary_is_the_last_line(tmp_path: Path, processes: int) -> None:
    """What a person looks for at the end of a log stands there."""
    done = session(tmp_path, "def test_a(): pytest.skip('no')\n\ndef test_b(): pass\n", processes)
    assert "1 passed, 1 skipped" in done.stdout.strip().splitlines()[-1]
