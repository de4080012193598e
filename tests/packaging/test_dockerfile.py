"""The Dockerfile's COPY and pip steps, replayed without Docker.

What is not replayed: the base image, the user, and the entry point inside a container.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.packaging.wheels import NOT_SOURCES, ROOT, fresh_environment, run

TEXT = (ROOT / "Dockerfile").read_text()


def instructions(stage: int) -> list[tuple[str, str]]:
    """(instruction, argument) of one stage, with continued lines joined."""
    joined = TEXT.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    starts = [index for index, line in enumerate(lines) if line.startswith("FROM ")]
    ends = [*starts[1:], len(lines)]
    pairs = (line.split(maxsplit=1) for line in lines[starts[stage] : ends[stage]])
    return [(word, argument) for word, argument in pairs]


def replay_pip(stage: int, *, python: Path, cwd: Path, wheels: Path) -> None:
    """Run the stage's pip commands word for word, but with `/wheels` elsewhere, and with what is
    installed here in place of what the network would bring."""
    shims = cwd / "shims"
    shims.mkdir(exist_ok=True)
    (shims / "pip").write_text(f'#!/bin/sh\nexec "{python}" -m pip "$@"\n')
    (shims / "pip").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{shims}:{os.environ['PATH']}",
        "PIP_NO_DEPS": "1",
        "PIP_IGNORE_INSTALLED": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        # The image has no compiler either.
        "CXX": "none",
    }
    commands = [text for word, text in instructions(stage) if word == "RUN" and "pip " in text]
    assert commands
    for command in commands:
        run(["sh", "-ec", re.sub(r"/wheels\b", str(wheels), command)], cwd=cwd, env=environment)


def copy_context(target: Path) -> None:
    """The COPY instructions of the first stage, from the checkout."""
    for word, argument in instructions(0):
        if word != "COPY":
            continue
        *sources, destination = argument.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(
                    ROOT / source, target / destination, symlinks=True, ignore=NOT_SOURCES
                )
            else:
                shutil.copy2(ROOT / source, target / destination)


@pytest.mark.timeout(300)
def test_both_stages_end_in_a_service_that_migrates(tmp_path: Path) -> None:
    """Wheels built from what is copied, installed in an empty environment, make a database."""
    context, work = tmp_path / "build", tmp_path / "data"
    context.mkdir()
    work.mkdir()
    wheels = tmp_path / "wheels"
    copy_context(context)
    builder = fresh_environment(tmp_path / "builder")
    replay_pip(0, python=builder, cwd=context, wheels=wheels)
    assert len(list(wheels.glob("*.whl"))) == 2

    python = fresh_environment(tmp_path / "image")
    replay_pip(1, python=python, cwd=context, wheels=wheels)
    assert not wheels.exists()
    shutil.rmtree(context)
    assert "migrated" in run([str(python), "-m", "foreshock", "migrate"], cwd=work)


def test_the_service_does_not_run_as_root() -> None:
    """A user is set after the last step that needs root."""
    words = [word for word, _ in instructions(1)]
    assert ("USER", "foreshock") in instructions(1)
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")


def test_the_health_check_asks_the_port_that_is_set() -> None:
    """Port, exposed port and the health check's address agree."""
    arguments = dict(instructions(1))
    assert "FORESHOCK_PORT=8712" in arguments["ENV"]
    assert arguments["EXPOSE"] == "8712"
    assert "127.0.0.1:8712/readyz" in arguments["HEALTHCHECK"]


def test_the_build_context_leaves_out_everything_else() -> None:
    """`.dockerignore` lets in what is copied, and no database, environment or history."""
    lines = (ROOT / ".dockerignore").read_text().split()
    copied = {
        source
        for word, argument in instructions(0)
        if word == "COPY"
        for source in argument.split()[:-1]
    }
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
