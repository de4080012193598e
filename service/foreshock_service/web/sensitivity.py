"""The sensitivity of a run's detection on its page: what is in force, and who set it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.thresholds import Sensitivity
from foreshock_service.domain.detection_rules import DetectionRule, RuleScope, in_force
from foreshock_service.domain.runs import Run
from foreshock_service.errors import BadRequest
from foreshock_service.web.words import ago

LEVELS: Final = tuple(str(level) for level in Sensitivity)
UNSET: Final = "unset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One button: the level that it sets, and whether that is what is set there."""

    value: str
    text: str
    pressed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The buttons for the run, or for its project; no `choices` where the reader may not set it."""

    path: str
    title: str
    choices: Sequence[Choice]
    level: str
    set_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivityNote:
    """What the page tells, and offers to change."""

    level: str
    origin: str
    more: str
    settings: Sequence[Setting]


def sensitivity_note(
    run: Run,
    of_project: DetectionRule | None,
    of_run: DetectionRule | None,
    *,
    is_admin: bool,
    now: float,
) -> SensitivityNote:
    """The level in force, where it comes from, and the two places where it can be set."""
    document = in_force(of_project, of_run)
    project = _setting(RuleScope.PROJECT, f"Project {run.project}", "default", of_project, now=now)
    origin = "by default"
    for rule, where in ((of_run, "for this run"), (of_project, "for the project")):
        if rule is not None and "sensitivity" in rule.document:
            origin = where
            break
    return SensitivityNote(
        level=str(document.get("sensitivity", Sensitivity.NORMAL)),
        origin=origin,
        more=_more(document),
        settings=[
            _setting(RuleScope.RUN, "This run", "as project", of_run, now=now),
            project if is_admin else replace(project, choices=()),
        ],
    )


def chosen(form: Mapping[str, str]) -> str | None:
    """The level that a button of the form sets; None takes back what is set.

    Raises:
        BadRequest: it is none of the buttons.
    """
    level = form.get("sensitivity")
    if level not in (*LEVELS, UNSET):
        raise BadRequest("choose a sensitivity that the page offers")
    return None if level == UNSET else level


def _setting(
    scope: RuleScope, title: str, unset: str, rule: DetectionRule | None, *, now: float
) -> Setting:
    there = None if rule is None else rule.document.get("sensitivity")
    choices = [Choice(value=UNSET, text=unset, pressed=there is None)]
    choices += [Choice(value=level, text=level, pressed=there == level) for level in LEVELS]
    return Setting(
        path="sensitivity" if scope is RuleScope.RUN else "sensitivity/project",
        title=title,
        choices=choices,
        level=unset if there is None else str(there),
        set_by="" if rule is None else f"set by {rule.set_by} {ago(now - rule.set_at)}",
    )


def _more(document: Mapping[str, Any]) -> str:
    """What is set besides, which only the API changes."""
    try:
        config = EngineConfig.from_document(document)
    except ValueError as error:
        return f"Read by the defaults: {error}"
    parts = []
    if config.disabled:
        parts.append(f"Left out: {', '.join(sorted(config.disabled))}.")
    names = [f"{detector}.{name}" for detector, v in config.thresholds.items() for name in v]
    if names:
        parts.append(f"Set by hand: {', '.join(sorted(names))}.")
    return " ".join(parts)
