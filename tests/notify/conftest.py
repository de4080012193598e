"""A receiver process, and an outbox with an alert in it."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import (
    Departure,
    Incident,
    IncidentChange,
    State,
    Transition,
)
from foreshock_service.settings import ServiceSettings, Webhook
from foreshock_service.store import runs
from foreshock_service.store.deliveries import enqueue
from foreshock_service.store.session import Store
from pydantic import SecretStr

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NOW = 1_700_000_000.0


@dataclass
class Clock:
    """Time that stands still until a test moves it."""

    now: float = NOW

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


@dataclass
class Receiver:
    """A receiver process and what it wrote down."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int = field(init=False)

    def __post_init__(self) -> None:
        """Wait until it listens."""
        await_file(self.folder / "port")
        self.port = int((self.folder / "port").read_text())

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.port}/hook"

    def received(self) -> list[dict[str, Any]]:
        """Every verified message so far, in order; a message sent twice is here twice."""
        path = self.folder / "received"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


StartReceiver = Callable[..., Receiver]


def await_file(path: Path) -> None:
    """Return once a process has written `path`; the test's own timeout bounds the wait."""
    while not path.exists():
        time.sleep(0.02)


@pytest.fixture
def start_receiver(tmp_path: Path) -> Iterator[StartReceiver]:
    """Start receivers, each in a mode, on a free port or on a given one."""
    started: list[Receiver] = []
    numbers = itertools.count()

    def start(mode: str, port: int = 0) -> Receiver:
        folder = tmp_path / f"receiver-{next(numbers)}"
        folder.mkdir()
        command = [sys.executable, "-m", "tests.notify.receiver", str(folder), SECRET, mode]
        started.append(Receiver(folder, subprocess.Popen([*command, str(port)], cwd=ROOT)))
        return started[-1]

    yield start
    for receiver in started:
        receiver.kill()


def settings_for(url: str, **settings: Any) -> ServiceSettings:
    """Settings with one webhook."""
    return ServiceSettings(webhooks=[Webhook(url=url, secret=SecretStr(SECRET))], **settings)


def make_change(
    number: int = 1,
    transition: Transition = Transition.OPENED,
    num_changes: int = 1,
) -> IncidentChange:
    """An explosion whose ratio is infinite, as one that ended in Inf has it."""
    incident = Incident(
        number=number,
        kind="explosion",
        severity=Severity.CRITICAL,
        state=State.OPEN,
        onset_step=100,
        opened_step=110,
        opened_ord=110,
        updated_step=110,
        group="blocks.3.attn",
        root_series="gradient:blocks.3.attn.weight",
        confidence=0.9,
        departures=(
            Departure(
                series="gradient:blocks.3.attn.weight",
                step=100,
                statistic="rms",
                ratio=float("inf"),
            ),
        ),
        evidence={"value": float("nan")},
        num_changes=num_changes,
    )
    return IncidentChange(
        incident=incident, transition=transition, step=110, sentence="blocks.3.attn exploded."
    )


def put_alert(
    store: Store,
    *,
    number: int = 1,
    channels: tuple[str, ...] = ("webhook",),
    now: float = NOW,
    num_changes: int = 1,
) -> int:
    """Make the run and enqueue one alert a channel; how many were new."""
    with store.write() as session:
        row = {"run_id": "r1", "name": "r1", "created_at": now, "heard_at": now, "info": {}}
        runs.insert_runs(session, [row])
        return enqueue(
            session,
            make_change(number, num_changes=num_changes),
            run=AlertRun(run_id="r1", name="r1"),
            channels=channels,
            now=now,
        )
