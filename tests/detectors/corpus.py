"""Labelled runs of the optional corpus, read as `foreshock scan` reads them; absent in most
checkouts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreshock_service.domain.frames import Frame
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.traces import Traces
from foreshock_service.incidents.notification import NOTIFIED, notification
from foreshock_service.pipeline.scan import Scan

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "corpus"


def run_ids() -> list[str]:
    """Ids of the labelled runs."""
    return sorted(path.stem for path in (FOLDER / "dev").glob("*.json"))


def imported(run_id: str) -> ImportedRun:
    """The run as the importer of its format opens it."""
    traces = Traces()
    return traces.open(traces.files_of(FOLDER / "dev" / f"{run_id}.json"))


def frames_of(run_id: str) -> Iterator[Frame]:
    """The run's rows."""
    return imported(run_id).frames()


def detections_of(run_id: str) -> Iterator[dict[str, Any]]:
    """What a person would have been told, in the form that the corpus' scorer reads."""
    run = imported(run_id)
    scan = Scan(run.facts)
    for frame in run.frames():
        for change in scan.push(frame):
            if change.transition in NOTIFIED:
                yield notification(run.name, change)
