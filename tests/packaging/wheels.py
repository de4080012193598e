"""The three distributions, built with the tools of this environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECTS = ("client", "gpu", "service")
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "dist", "build", "*.so", "*.egg-info")


@dataclass(frozen=True, slots=True)
class Built:
    """Where the wheels and the source distributions of one build are."""

    folder: Path

    def only(self, pattern: str) -> Path:
        """The one file that fits `pattern`."""
        (found,) = self.folder.glob(pattern)
        return found


def copy_sources(target: Path) -> None:
    """What a fresh clone has, as far as the distributions need it; links stay links."""
    for name in (*PROJECTS, "migrations", "docs/incidents"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=NOT_SOURCES)


def build_all(checkout: Path, folder: Path) -> Built:
    """`python -m build` for each project: the source distribution, and the wheel made from it."""
    for project in PROJECTS:
        run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)],
            cwd=checkout / project,
        )
    return Built(folder)


def fresh_environment(folder: Path) -> Path:
    """The interpreter of a new virtual environment that sees this one's packages, but none of the
    checkout: a path file adds the folder of packages, and its own path files are not read."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], cwd=folder.parent)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "python"


def run(command: list[str], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
