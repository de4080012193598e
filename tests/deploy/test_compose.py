"""docker-compose.yml is valid, keeps no secret, and mounts what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from foreshock_service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"


@pytest.fixture
def services() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    services: dict[str, Any] = document["services"]
    return services


def test_the_file_fits_the_compose_specification() -> None:
    """The schema that Docker publishes accepts it."""
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            str(COMPOSE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_mounted_from_the_checkout_is_there(services: dict[str, Any]) -> None:
    """Docker makes an empty folder of a missing source, and the container starts without it."""
    sources = [
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_every_variable_of_the_service_is_one_of_its_settings(services: dict[str, Any]) -> None:
    """An unknown FORESHOCK_* variable would be ignored without a word."""
    known = {f"FORESHOCK_{name.upper()}" for name in ServiceSettings.model_fields}
    assert set(services["foreshock"]["environment"]) <= known


def test_no_password_is_written_down(services: dict[str, Any]) -> None:
    """Passwords come from the environment, and their absence is an error and not an empty one."""
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name:
                assert value.startswith("${"), name
                assert ":?" in value, name


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    """Ports are bound to loopback; whoever opens them does so knowingly."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
