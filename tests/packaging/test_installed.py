"""The wheels work where there is no checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.packaging.wheels import run


def test_packages_come_from_the_installation(python: Path, tmp_path: Path) -> None:
    """What is imported lies in the new environment, so the other tests here mean something."""
    program = (
        "import foreshock, foreshock_gpu, foreshock_service;"
        "print(foreshock.__file__, foreshock_gpu.__file__, foreshock_service.__file__, sep='\\n')"
    )
    files = run([str(python), "-c", program], cwd=tmp_path).split()
    assert [Path(file).is_relative_to(python.parents[1]) for file in files] == [True] * 3


def test_importing_the_client_loads_only_the_standard_library(python: Path, tmp_path: Path) -> None:
    """`import foreshock` costs a trainer nothing: neither numpy nor torch, nor anything else that
    was installed, is loaded by it, and none of its own modules besides."""
    program = """
import sys
before = set(sys.modules)
import foreshock
loaded = {name for name in set(sys.modules) - before}
print(sorted(n for n in loaded if n.partition(".")[0] not in sys.stdlib_module_names))
"""
    assert run([str(python), "-c", program], cwd=tmp_path) == "['foreshock']\n"


def test_the_command_knows_the_service(python: Path, tmp_path: Path) -> None:
    """Entry points of both distributions are found once each."""
    text = run([str(python), "-m", "foreshock", "--help"], cwd=tmp_path)
    for name in ("demo", "doctor", "flush", "migrate", "scan", "serve", "token"):
        assert f"\n    {name}" in text
    assert "not usable" not in text


def test_the_installed_service_makes_its_database(python: Path, tmp_path: Path) -> None:
    """Migrations are found in the wheel: a token can be made in an empty folder."""
    command = [str(python), "-m", "foreshock"]
    run([*command, "migrate"], cwd=tmp_path)
    secret = run([*command, "token", "create", "--scope", "read", "--name", "me"], cwd=tmp_path)
    assert secret.strip()
    assert (tmp_path / "foreshock-data" / "foreshock.db").is_file()


def test_the_installed_client_measures_a_model(python: Path, tmp_path: Path) -> None:
    """A training attached to a service that is not there runs to its end."""
    program = """
import torch, foreshock
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with foreshock.watch(model, optimizer, url="http://127.0.0.1:9", spool_dir="spool",
                     close_timeout_seconds=0.1) as watch:
    for _ in range(3):
        loss = model(torch.ones(2, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.step(loss=loss)
print("trained")
"""
    done = subprocess.run(
        [str(python), "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "trained\n", done.stderr
