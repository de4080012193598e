"""`foreshock demo` on the command line: what it refuses, and the whole story for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def demo(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foreshock", "demo", *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "10"], "must lie between 60 and 100000, not 10"),
        (["--steps", "many"], "invalid _steps value: 'many'"),
        (["--port", "70000"], "must lie between 0 and 65535, not 70000"),
        (["--seed", "-1"], "must lie between 0 and 4294967295, not -1"),
        (["--keep", "--exit"], "not allowed with argument --keep"),
    ],
)
def test_a_bad_argument_is_refused_with_its_range(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    """Nothing starts, the exit status is 2, and the message names what is allowed."""
    done = demo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert complaint in done.stderr


@pytest.mark.timeout(420)
def test_the_demo_keeps_its_promise(tmp_path: Path) -> None:
    """Two real trainings: the sick one raises an incident before its loss moves, the healthy one
    none, and neither a setting of the caller nor a file in the folder plays a part."""
    done = demo("--exit", cwd=tmp_path, FORESHOCK_PORT="1", FORESHOCK_ENABLED="no")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"the first incident opened at step (\d+), (\d+) steps before", done.stdout)
    assert found is not None, done.stdout
    assert int(found[2]) >= 20
    assert re.search(r"^step \d+: .*qkv", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
