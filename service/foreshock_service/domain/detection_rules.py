"""Detection rules: what people set for a project or one run, and what is in force of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RuleScope(StrEnum):
    """What a rule is set for."""

    PROJECT = "project"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionRule:
    """A configuration as `EngineConfig.from_document` takes it, with nothing that was not set."""

    scope: RuleScope
    name: str
    document: Mapping[str, Any]
    set_by: str
    set_at: float


def in_force(project: DetectionRule | None, run: DetectionRule | None) -> dict[str, Any]:
    """What counts for a run: its own rule over that of its project, over the defaults.

    Each key counts by itself, and each threshold, so that a run may be less sensitive and keep what
    its project says of single rules.
    """
    merged: dict[str, Any] = {}
    for rule in (project, run):
        if rule is None:
            continue
        thresholds = {name: dict(values) for name, values in merged.get("thresholds", {}).items()}
        for name, values in rule.document.get("thresholds", {}).items():
            thresholds[name] = {**thresholds.get(name, {}), **values}
        merged = {**merged, **rule.document}
        if thresholds:
            merged["thresholds"] = thresholds
    return merged
