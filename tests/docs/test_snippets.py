"""What the pages tell people to type runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreshock.__main__ import main
from foreshock.demo.server import DemoServer

from tests.docs.markdown import PAGES, ROOT, blocks

PYTHON = [
    pytest.param(text, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "python"))
]
SHELL = [text for page in PAGES for text in blocks(page, "sh")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    with DemoServer(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.mark.parametrize("text", PYTHON)
def test_a_python_example_runs(text: str, server: DemoServer, tmp_path: Path) -> None:
    """Copied into a file and run against a service, it ends without an error or a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=tmp_path,
        env={**os.environ, "FORESHOCK_URL": server.url, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_every_make_target_that_is_named_exists() -> None:
    """`make X` on a page is a target of the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for text in SHELL for name in re.findall(r"^make (\w+)", text, re.MULTILINE)}
    assert named
    assert named - targets == set()


def test_every_command_that_is_named_exists() -> None:
    """`foreshock X` on a page is a sub-command, and `foreshock X Y` one of its actions."""
    used = {
        tuple(words)
        for text in SHELL
        for words in re.findall(r"^foreshock (\w+)(?: (\w+))?", text, re.MULTILINE)
    }
    assert used
    for name, action in sorted(used):
        with pytest.raises(SystemExit) as ended:
            main([name, *([action] if action else []), "--help"])
        assert ended.value.code == 0, (name, action)


def test_every_folder_that_is_installed_is_a_project() -> None:
    """`pip install ./x[extra]` on a page names a project and one of its extras."""
    wanted = {found for text in SHELL for found in re.findall(r"\./(\w+)(?:\[(\w+)\])?", text)}
    assert wanted
    for folder, extra in wanted:
        text = (ROOT / folder / "pyproject.toml").read_text()
        assert not extra or re.search(rf"^{extra} = \[", text, re.MULTILINE), (folder, extra)
