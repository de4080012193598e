"""One build and one installation for every packaging test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.wheels import Built, build_all, copy_sources, fresh_environment, run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Wheels and source distributions of a copy of the sources."""
    checkout = tmp_path_factory.mktemp("checkout")
    copy_sources(checkout)
    return build_all(checkout, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter far from the checkout with the three wheels installed."""
    interpreter = fresh_environment(tmp_path_factory.mktemp("installed") / "venv")
    wheels = [str(wheel) for wheel in sorted(built.folder.glob("*.whl"))]
    pip = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed"]
    run([str(interpreter), *pip, *wheels], cwd=built.folder)
    return interpreter
