"""Labelled runs of the optional corpus as frames; absent in most checkouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from foreshock.wire import STATISTICS, FrameFlag, Series, SeriesSchema
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import IncidentChange, Transition
from foreshock_service.incidents.names import module_of
from foreshock_service.pipeline.session import DetectionSession

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "corpus"


def run_ids() -> list[str]:
    """Ids of the labelled runs."""
    return sorted(path.stem for path in (FOLDER / "dev").glob("*.json"))


def frames_of(run_id: str) -> Iterator[Frame]:
    """The run's rows; `count` is the series' size, since the traces do not record it."""
    base = FOLDER / "dev" / run_id
    about: dict[str, Any] = json.loads(base.with_suffix(".json").read_text())
    with np.load(base.with_suffix(".npz")) as data:
        steps, scalars, stats = data["step"], data["scalars"], np.asarray(data["stats"])
    series = tuple(Series(**item) for item in about["series"])
    schema = SeriesSchema(series)
    sizes = np.array([s.numel for s in series], np.float32)
    names = about["stat_names"]
    ever = np.isfinite(scalars).any(axis=0)
    attempt = 0
    for row in range(len(steps)):
        if row and steps[row] <= steps[row - 1]:
            attempt += 1
        table = np.full((len(series), len(STATISTICS)), np.nan, np.float32)
        for column, name in enumerate(STATISTICS):
            if name in names:
                table[:, column] = stats[row, :, names.index(name)]
        table[:, 0] = np.where(np.isnan(table[:, 1]), np.nan, sizes)
        present = {
            name: float(scalars[row, i])
            for i, name in enumerate(about["scalars"])
            if ever[i] and not (np.isnan(scalars[row, i]) and name != "loss")
        }
        yield Frame(
            ord=row,
            attempt=attempt,
            step=int(steps[row]),
            wall_time=float(row),
            flags=FrameFlag(0),
            scalars=present,
            stats=table,
            schema=schema,
        )


TOLD = (Transition.OPENED, Transition.ESCALATED, Transition.NAMED)


def detections_of(run_id: str) -> Iterator[dict[str, Any]]:
    """What a person would have been told, in the form that the corpus' scorer reads."""
    about = json.loads((FOLDER / "dev" / run_id).with_suffix(".json").read_text())
    session = DetectionSession(facts=RunFacts(optimizer=about["optimizer"]))
    for frame in frames_of(run_id):
        for change in session.push(frame).changes:
            if change.transition in TOLD:
                yield _detection(run_id, change)


def _detection(run_id: str, change: IncidentChange) -> dict[str, Any]:
    incident = change.incident
    names = [incident.root_series] if incident.root_series else []
    names += [d.series for d in incident.departures if d.series not in names]
    modules = list(dict.fromkeys(module_of(name) for name in names))
    escalated = change.transition is Transition.ESCALATED
    return {
        "run": run_id,
        "step": change.step,
        "kind": incident.kinds[-1] if escalated else incident.kind,
        "severity": str(incident.severity),
        "series": modules[:5] if incident.group else [],
        "opened_step": incident.opened_step,
        "sentence": change.sentence,
    }
