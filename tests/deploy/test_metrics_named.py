"""Rules, dashboard and documentation name the metrics that the service exposes, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.metric_names import exposed, mentioned

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/foreshock.json"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("service")
    return {name for name in exposed(folder) if not name.endswith("_created")}


@pytest.mark.parametrize(
    "path", ["deploy/rules/foreshock.yml", "deploy/grafana/dashboards/foreshock.json"]
)
def test_what_is_shipped_asks_for_metrics_that_exist(names: set[str], path: str) -> None:
    """A renamed metric would silence an alert or empty a panel without an error."""
    assert mentioned((ROOT / path).read_text()) - names == set()


def test_every_metric_is_documented_and_nothing_else(names: set[str]) -> None:
    """docs/prometheus.md has exactly the metrics of `/metrics`."""
    assert mentioned((ROOT / "docs/prometheus.md").read_text()) == names


def test_panels_have_identities_of_their_own_and_do_not_overlap() -> None:
    """Grafana drops one of two panels with the same id and hides overlapping ones."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
