"""The Run page as values: what stands around the plots, which scripts fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from foreshock_service.web.health import Health, health_of
from foreshock_service.web.read import RunRead
from foreshock_service.web.run_list import place_of
from foreshock_service.web.sensitivity import SensitivityNote, sensitivity_note
from foreshock_service.web.verdict import Verdict, verdict_of_calm, verdict_of_incident
from foreshock_service.web.words import ago, whole

MODULES: Final = (
    "clock.js",
    "codes.js",
    "controls.js",
    "data.js",
    "fetching.js",
    "heatmap.js",
    "lane.js",
    "live.js",
    "monitor.js",
    "news.js",
    "numbers.js",
    "palette.js",
    "pool.js",
    "profile.js",
    "readout.js",
    "screen.js",
    "sheet.js",
    "state.js",
    "tracks.js",
    "turns.js",
    "view.js",
    "words.js",
)
"""What run.js imports, named early: without this a browser finds them one round trip at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """What the template shows."""

    run_id: str
    name: str
    place: str
    step: str
    heard: str
    health: Health
    verdict: Verdict
    link: str
    sensitivity: SensitivityNote
    has_layers: bool
    modules: tuple[str, ...] = MODULES


def run_page(told: RunRead, *, is_admin: bool, now: float) -> RunPage:
    """The page of a run, headed by the incident that was chosen, as an administrator or a reader
    sees it."""
    health = health_of(told.run, [stored.incident for stored in told.incidents], now=now)
    link = f"/runs/{quote(told.run.run_id)}"
    step = told.head.step if told.head is not None else None
    if told.chosen is None:
        verdict = verdict_of_calm(health, num_series=told.num_series, newest_step=step)
    else:
        verdict = verdict_of_incident(
            told.chosen.incident,
            told.chosen.sentence,
            link=f"{link}/incidents/{told.chosen.number}",
            events=told.events,
            newest_step=step or 0,
        )
    return RunPage(
        run_id=told.run.run_id,
        name=told.run.name,
        place=place_of(told.run, told.head),
        step="\N{EN DASH}" if step is None else whole(step),
        heard=ago(now - told.run.heard_at),
        health=health,
        verdict=verdict,
        link=link,
        has_layers=told.num_series > 0,
        sensitivity=sensitivity_note(
            told.run, told.of_project, told.of_run, is_admin=is_admin, now=now
        ),
    )
