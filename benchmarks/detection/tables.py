"""The figures as Markdown: the same text goes to the terminal and into the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from benchmarks.detection.collections import Collection
from benchmarks.detection.scoring import Scores
from benchmarks.zoo.score import Outcome, by_kind

COLUMNS: Final = {
    "Composite (95 %)": "composite",
    "Detected": "detected",
    "Kind": "kind_exact",
    "Precision": "precision",
    "False critical": "false_critical_per_1000",
    "False warning": "false_warning_per_1000",
    "Clean healthy runs": "healthy_runs_without_alert",
    "Delay": "median_delay",
    "Lead": "median_lead",
    "hit@1": "layer_top1",
    "hit@3": "layer_top3",
}
"""Heading and figure, `benchmarks/zoo/README.md` defines them; a log has the first few alone."""
LOG_COLUMNS: Final = (
    "Composite (95 %)",
    "Detected",
    "False critical",
    "False warning",
    "Clean healthy runs",
)
_WHOLE: Final = ("median_delay", "median_lead")


def method_table(collection: Collection, scores: Sequence[Scores]) -> Iterator[str]:
    """A row a method, ours first, then the others by their composite."""
    columns = LOG_COLUMNS if collection.is_logs else tuple(COLUMNS)
    first, *others = scores
    others.sort(key=lambda s: -s.figures["composite"])
    yield from table(
        ("Method", *columns), ([s.method, *_cells(s, columns)] for s in (first, *others))
    )


def _cells(scores: Scores, columns: Iterable[str]) -> list[str]:
    cells = []
    for column in columns:
        name = COLUMNS[column]
        value = scores.figures[name]
        text = "-" if math.isnan(value) else f"{value:.0f}" if name in _WHOLE else f"{value:.2f}"
        if name == "composite":
            text += f" ({scores.interval[0]:.2f} to {scores.interval[1]:.2f})"
        cells.append(text)
    return cells


def kind_table(scores: Mapping[str, Scores]) -> Iterator[str]:
    """Our figures by kind of fault, over the collections given."""
    rows = []
    outcomes = {title: by_kind(s.runs) for title, s in scores.items()}
    for kind in sorted({kind for found in outcomes.values() for kind in found}):
        cells = [f"`{kind}`"]
        for found in outcomes.values():
            row = found.get(kind)
            cells.append(
                f"{round(row['num'] * row['detected'])} of {row['num']}, {row['credit']:.2f}"
                if row
                else ""
            )
        rows.append(cells)
    yield from table(("Kind", *outcomes), rows)


def missed_table(
    collection: Collection, scores: Scores, reasons: Mapping[str, str]
) -> Iterator[str]:
    """Each fault without a timely alert and each false alert, and why, where somebody wrote it."""
    rows = []
    for scored in scores.runs:
        for outcome in scored.outcomes:
            if not outcome.timely:
                rows.append([scored.run, _missed(outcome), reasons.get(scored.run, "")])
        for alert in scored.false[:1]:
            text = f"{alert['severity']} `{alert['kind']}` at step {alert['step']} is false"
            rows.append([scored.run, text, reasons.get(scored.run, "")])
    for log in scores.logs:
        wrong = {
            f"missed, of {log.needed}": log.needed - log.found,
            "false and critical": log.critical,
            "false warnings": log.warning,
        }
        told = ", ".join(f"{name}: {number}" for name, number in wrong.items() if number)
        if told:
            rows.append([log.run, told, reasons.get(log.run, "")])
    if rows:
        yield from table((f"In {collection.title}", "What", "Why"), rows)


def _missed(outcome: Outcome) -> str:
    late = f", told {outcome.hits[0]['step'] - outcome.deadline} steps late" if outcome.hits else ""
    return f"`{outcome.event['kind']}` from step {outcome.event['onset_step']} missed{late}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
