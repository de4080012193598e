"""The wheels and source distributions hold what runs, and the licence."""

from __future__ import annotations

import tarfile
import zipfile

import pytest

from tests.packaging.wheels import ROOT, Built

LINKED = {"migrations": "/migrations", "docs/incidents": "/incidents/kinds"}
"""Folders of the root that are carried in the service's wheel, and where they are there."""
DISTRIBUTIONS = ("foreshock", "foreshock_gpu", "foreshock_service")


def wheel_names(built: Built, distribution: str) -> set[str]:
    with zipfile.ZipFile(built.only(f"{distribution}-*.whl")) as wheel:
        return set(wheel.namelist())


def test_there_is_one_wheel_and_one_source_distribution_each(built: Built) -> None:
    """Six files: nothing is forgotten and nothing is built twice."""
    assert len(list(built.folder.glob("*.whl"))) == 3
    assert len(list(built.folder.glob("*.tar.gz"))) == 3


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
