"""The Runs page as values: which runs need attention, and what each row says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from foreshock_service.domain.incidents import Incident, State
from foreshock_service.domain.runs import Attempt, Run, RunHead
from foreshock_service.web.health import Group, Health, foremost, health_of
from foreshock_service.web.pictures import Spark
from foreshock_service.web.words import ago, headline, measure, pace, steps, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A sentence with the layer's name apart, so that it can stand out."""

    before: str
    name: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is read from the store for one row; `incidents` come with their sentences."""

    run: Run
    head: RunHead | None
    attempts: Sequence[Attempt]
    incidents: Sequence[tuple[Incident, str]]
    spark: Spark | None
    has_series: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run as its row tells it."""

    health: Health
    name: str
    link: str
    place: str
    sign: Sign
    spark: Spark | None
    thumbnail: str | None
    thumbnail_label: str
    step: str
    pace: str
    loss: str
    heard: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGroup:
    """Rows under one title."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunListPage:
    """What the template shows."""

    headline: str
    groups: Sequence[RunGroup]
    num_reporting: int
    reporting: str
    silences: str


def run_list_page(facts: Sequence[RunFacts], *, num_silences: int, now: float) -> RunListPage:
    """Group the rows; inside a group, critical comes first, then the last heard of."""
    rows = [_row(item, now=now) for item in facts]
    order = {"critical": 0, "warning": 1}
    groups = []
    for group in Group:
        chosen = [row for row in rows if row.health.group is group]
        chosen.sort(key=lambda row: order.get(row.health.tone, 2))
        if chosen:
            groups.append(RunGroup(title=group.value, rows=chosen))
    num_attention = sum(row.health.group is Group.ATTENTION for row in rows)
    alive = [row for row in rows if row.health.group is not Group.FINISHED]
    num_reporting = sum(row.health.word != "Silent" for row in alive)
    noun = "run" if num_reporting == 1 else "runs"
    return RunListPage(
        headline=headline(num_attention, len(rows)),
        groups=groups,
        num_reporting=num_reporting,
        reporting=f"{num_reporting} {noun} reporting" if num_reporting else "no run is reporting",
        silences={0: "Silences", 1: "1 silence"}.get(num_silences, f"{num_silences} silences"),
    )


def place_of(run: Run, head: RunHead | None) -> str:
    """Where a run runs: how many ranks, on what."""
    world = run.info.get("world")
    device = (head.device if head is not None else "") or (head.host if head is not None else "")
    if isinstance(world, int) and world > 1:
        return f"{world} \N{MULTIPLICATION SIGN} {device}" if device else f"{world} ranks"
    return device


def seconds_per_step(head: RunHead | None, attempts: Sequence[Attempt]) -> float | None:
    """The pace of the newest attempt since it began; None before its second step, and for an
    imported run whose log has no times."""
    if head is None or head.step is None or head.wall_time is None or not attempts:
        return None
    newest = max(attempts, key=lambda attempt: attempt.attempt)
    done = head.step - (newest.first_step if newest.first_step is not None else head.step)
    elapsed = head.wall_time - newest.started_at
    return elapsed / done if done > 0 and elapsed > 0 else None


def _row(facts: RunFacts, *, now: float) -> Row:
    run, head = facts.run, facts.head
    health = health_of(run, [incident for incident, _ in facts.incidents], now=now)
    link = f"/runs/{quote(run.run_id)}"
    tags = run.info.get("tags")
    host = head.host if head is not None else ""
    words = (run.name, run.run_id, run.project, host, place_of(run, head), *_tags(tags))
    return Row(
        health=health,
        name=run.name,
        link=link,
        place=place_of(run, head),
        sign=_sign(facts),
        spark=facts.spark,
        thumbnail=f"{link}/thumbnail.png" if facts.has_series else None,
        thumbnail_label="Layers over steps: colour is the deviation from each layer's baseline",
        step=whole(head.step) if head is not None and head.step is not None else "\N{EN DASH}",
        pace=pace(seconds_per_step(head, facts.attempts)) if health.group.is_alive else "",
        loss=measure(head.scalars.get("loss") if head is not None else None),
        heard=ago(now - run.heard_at),
        words=" ".join(words).lower(),
    )


def _tags(tags: Any) -> Sequence[str]:
    if isinstance(tags, Mapping):
        return [f"{name}={value}" for name, value in tags.items()]
    return [str(tag) for tag in tags] if isinstance(tags, list) else []


def _sign(facts: RunFacts) -> Sign:
    told = {incident.number: sentence for incident, sentence in facts.incidents}
    chosen = foremost([incident for incident, _ in facts.incidents])
    if chosen is None:
        step = facts.head.step if facts.head is not None else None
        return Sign(before="None" if step is None else f"None in {steps(step)}")
    sentence = told[chosen.number]
    before, found, after = sentence.partition(chosen.group) if chosen.group else (sentence, "", "")
    if chosen.state is State.OPEN and found:
        return Sign(before=before, name=found, after=after)
    return Sign(before=sentence)
