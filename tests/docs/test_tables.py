"""Settings, dependencies, routes and detectors are documented, and nothing that is gone is."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from foreshock.settings import ClientSettings
from foreshock_service.app import build_app
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.settings import ServiceSettings

from tests.docs import thresholds
from tests.docs.markdown import ROOT, anchors, rows, section

DOCS = ROOT / "docs"


def name_of(requirement: str) -> str:
    """The distribution that a requirement asks for, as written."""
    return re.split(r"[<>=!~\[; ]", requirement)[0]


@pytest.mark.parametrize(
    ("heading", "settings"),
    [
        ("Client", {field.name for field in fields(ClientSettings)}),
        ("Service", set(ServiceSettings.model_fields)),
    ],
)
def test_settings_have_a_row_each(heading: str, settings: set[str]) -> None:
    """docs/configuration.md has exactly the settings that exist, each once."""
    documented = rows(section(DOCS / "configuration.md", heading))
    assert sorted(documented) == sorted(settings)


@pytest.mark.parametrize(
    ("heading", "project"),
    [
        ("foreshock (training nodes)", "client"),
        ("foreshock-gpu (training nodes with a GPU)", "gpu"),
        ("foreshock-service (the server)", "service"),
    ],
)
def test_dependencies_have_a_reason_each(heading: str, project: str) -> None:
    """docs/dependencies.md has exactly what the distribution's pyproject.toml asks for."""
    document = tomllib.loads((ROOT / project / "pyproject.toml").read_text())["project"]
    extras = document.get("optional-dependencies", {}).values()
    wanted = {name_of(text) for text in document["dependencies"]}
    wanted |= {name_of(text) for extra in extras for text in extra}
    assert set(rows(section(DOCS / "dependencies.md", heading))) == wanted


def test_tools_have_a_reason_each() -> None:
    """What requirements-dev.txt adds to the distributions is explained under Development."""
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    tools = {name_of(line) for line in lines if line and not line.startswith(("#", "-"))}
    documented = set(rows((DOCS / "dependencies.md").read_text()))
    assert tools - documented == set()
    assert set(rows(section(DOCS / "dependencies.md", "Development"))) - tools == set()


def test_pins_are_exact_and_of_public_versions() -> None:
    """constraints.txt has one `name==version` a line, none local to one machine or index."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.\-]+==[\w.]+", line)] == []
    assert "torch==2.13.0" in pins
    names = [name_of(line).lower().replace("_", "-") for line in pins]
    assert len(set(names)) == len(names)


def test_every_dependency_is_pinned() -> None:
    """Whatever a pyproject.toml or requirements-dev.txt names has its exact version, but for what
    no single machine installs: the other CUDA."""
    pinned = {name_of(line).lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    named = {name.lower() for name in rows((DOCS / "dependencies.md").read_text())}
    pinned = {name.replace("_", "-") for name in pinned}
    assert named - pinned == {"foreshock", "foreshock-service", "cupy-cuda12x"}


def test_every_route_is_in_the_architecture(tmp_path: Path) -> None:
    """Each path of the service's own description stands in docs/architecture.md."""
    paths = build_app(ServiceSettings(data_dir=tmp_path)).openapi()["paths"]
    text = re.sub(r"\?[^`]*`", "`", section(DOCS / "architecture.md", "HTTP"))
    missing = [
        path
        for path in paths
        if path.startswith(("/api/", "/metrics", "/healthz", "/readyz"))
        and path.removeprefix("/api/v1") not in text
        and f"`/{path.rpartition('/')[2]}`" not in text
    ]
    assert missing == []


def test_every_detector_has_a_heading() -> None:
    """docs/detection.md has a heading for each name in the registry."""
    headings = anchors(DOCS / "detection.md")
    assert [name for name in DETECTORS if name not in headings] == []


def test_every_threshold_is_listed_with_its_default() -> None:
    """docs/thresholds.md is what the code says; `python -m tests.docs.thresholds` writes it."""
    assert thresholds.PAGE.read_text() == thresholds.page()
