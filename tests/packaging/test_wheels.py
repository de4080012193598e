"""The wheels and source distributions hold what runs, and work where there is no checkout."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from foreshock.reducers.cpu import CpuReducer

from tests.packaging.wheels import ROOT, Built, build_all, copy_sources, fresh_environment, run

LINKED = {"migrations": "/migrations", "docs/incidents": "/incidents/kinds"}
"""Folders of the root that are carried in the service's wheel, and where they are there."""
DISTRIBUTIONS = ("foreshock", "foreshock_gpu", "foreshock_service")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Wheels and source distributions of a copy of the sources."""
    checkout = tmp_path_factory.mktemp("checkout")
    copy_sources(checkout)
    return build_all(checkout, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter far from the checkout with the three wheels installed."""
    interpreter = fresh_environment(tmp_path_factory.mktemp("installed") / "venv")
    wheels = [str(wheel) for wheel in sorted(built.folder.glob("*.whl"))]
    pip = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed"]
    run([str(interpreter), *pip, *wheels], cwd=built.folder)
    return interpreter


def wheel_names(built: Built, distribution: str) -> set[str]:
    with zipfile.ZipFile(built.only(f"{distribution}-*.whl")) as wheel:
        return set(wheel.namelist())


def test_there_is_one_wheel_and_one_source_distribution_each(built: Built) -> None:
    """Six files: nothing is forgotten and nothing is built twice."""
    assert len(list(built.folder.glob("*.whl"))) == 3
    assert len(list(built.folder.glob("*.tar.gz"))) == 3


def test_the_wheel_of_the_client_carries_the_library(built: Built, tmp_path: Path) -> None:
    """It is tagged for the platform, for any Python 3, and loads."""
    path = built.only("foreshock-*.whl")
    assert "-py3-none-" in path.name
    assert not path.name.endswith("-any.whl")
    with zipfile.ZipFile(path) as wheel:
        library = wheel.extract("foreshock/reducers/libforeshock_cpu.so", tmp_path)
    assert CpuReducer(Path(library)).name == "cpu"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_types_and_licence_travel(built: Built, distribution: str) -> None:
    """Each wheel is typed for its users and carries its licence."""
    with zipfile.ZipFile(built.only(f"{distribution}-*.whl")) as wheel:
        licence = wheel.read(f"{distribution}-0.1.0.dist-info/licenses/LICENSE")
        assert f"{distribution}/py.typed" in wheel.namelist()
    assert licence == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_no_wheel_holds_tests_or_caches(built: Built, distribution: str) -> None:
    """What is installed is the package and its metadata."""
    tops = {name.split("/")[0] for name in wheel_names(built, distribution)}
    assert tops == {distribution, f"{distribution}-0.1.0.dist-info"}


@pytest.mark.parametrize(
    ("distribution", "folder", "pattern"),
    [
        ("foreshock", "client/foreshock", "**/*.h"),
        ("foreshock_gpu", "gpu/foreshock_gpu", "**/*.cu"),
        ("foreshock_service", "service/foreshock_service", "web/templates/**/*.html"),
        ("foreshock_service", "service/foreshock_service", "web/static/**/*.*"),
        ("foreshock_service", "migrations", "versions/*.py"),
        ("foreshock_service", "docs/incidents", "*.md"),
    ],
)
def test_files_that_are_no_modules_travel(
    built: Built, distribution: str, folder: str, pattern: str
) -> None:
    """Headers, kernels, templates, scripts, styles, migrations, explanations: all in the wheel."""
    prefix = f"{distribution}{LINKED.get(folder, '')}"
    wanted = {
        f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}"
        for path in (ROOT / folder).glob(pattern)
    }
    assert wanted
    assert wanted - wheel_names(built, distribution) == set()


def test_the_source_distribution_of_the_service_has_its_migrations(built: Built) -> None:
    """The link to the root's migrations becomes files, so the archive builds anywhere."""
    with tarfile.open(built.only("foreshock_service-*.tar.gz")) as archive:
        members = {member.name: member for member in archive.getmembers()}
    env = members["foreshock_service-0.1.0/foreshock_service/migrations/env.py"]
    assert env.isfile()


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
