"""The shipped Prometheus configuration and rules are accepted and tested by promtool itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_is_valid_and_finds_its_rules() -> None:
    """promtool accepts prometheus.yml together with every rule file that it names."""
    promtool("check", "config", "prometheus.yml")


def test_the_rules_pass_the_linter() -> None:
    """promtool's linter has nothing to say, duplicate rules included."""
    promtool("check", "rules", "--lint-fatal", "rules/foreshock.yml")


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    """The rules' own unit tests pass: incidents, silent runs, slow commits."""
    promtool("test", "rules", "rules/foreshock.test.yaml")
