"""What the service says about a run while it trains: a thread that asks and tells.

The demo talks to the documented HTTP interface like any other program, and prints the service's own
sentences; it knows nothing that a user could not read.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from foreshock.errors import ForeshockError

POLL_SECONDS = 0.5
ANSWER_TIMEOUT_SECONDS = 10.0


class UnreadError(ForeshockError, TimeoutError):
    """Detection did not get to the end of a run in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenIncident:
    """The part of `GET /api/v1/runs/{run}/incidents` that the demo tells and judges by."""

    number: int
    kind: str
    opened_step: int
    onset_step: int
    loss_step: int | None
    sentence: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> SeenIncident:
        """From one object of the answer; raises KeyError if it is not an incident."""
        return cls(
            number=int(answer["number"]),
            kind=str(answer["kind"]),
            opened_step=int(answer["opened_step"]),
            onset_step=int(answer["onset_step"]),
            loss_step=None if answer["loss_step"] is None else int(answer["loss_step"]),
            sentence=str(answer["sentence"]),
        )


def fetch_json(url: str) -> Any:
    """The service's answer; `{}` where it knows nothing of that address yet, as of a run before its
    first batch is stored."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return {}
        raise


@dataclass(slots=True)
class IncidentTeller:
    """Tells every incident of `run` when it opens and again when the loss has moved."""

    url: str
    run: str
    tell: Callable[[str], None]
    incidents: dict[int, SeenIncident] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> IncidentTeller:
        self._thread = threading.Thread(target=self._poll, name="demo-incidents", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ANSWER_TIMEOUT_SECONDS + POLL_SECONDS)

    def wait_until_read(self, *, num_frames: int, timeout_seconds: float = 60.0) -> None:
        """Return once detection has read `num_frames` frames of the run, and tell what it found.

        Raises `UnreadError` if that takes longer than `timeout_seconds`: a verdict on half a run
        would be worth nothing.
        """
        deadline = time.monotonic() + timeout_seconds
        while (num_read := int(self._fetch("").get("detected_ord", 0))) < num_frames:
            if time.monotonic() > deadline:
                raise UnreadError(
                    f"detection had read {num_read} of {num_frames} frames of {self.run} after "
                    f"{timeout_seconds:.0f} s; see the service's log"
                )
            time.sleep(0.2)
        self.ask()

    def ask(self) -> None:
        """Fetch the incidents once and tell what is new in them."""
        for answer in self._fetch("/incidents").get("incidents", []):
            incident = SeenIncident.of(answer)
            before = self.incidents.get(incident.number)
            self.incidents[incident.number] = incident
            if before is None:
                self.tell(f"step {incident.opened_step}: {incident.sentence}")
            elif before.loss_step is None and incident.loss_step is not None:
                self.tell(f"step {incident.loss_step}, the loss moved: {incident.sentence}")

    def _fetch(self, path: str) -> Any:
        run = urllib.parse.quote(self.run, safe="")
        return fetch_json(f"{self.url}/api/v1/runs/{run}{path}")

    def _poll(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.ask()
