"""One scenario of the zoo, trained live against a service, and its incidents beside its label."""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import foreshock
from foreshock.demo.incidents import POLL_SECONDS, UnreadError, fetch_json
from foreshock.demo.server import DemoServer
from foreshock.demo.zoo import LabelledFault, Playable

READ_TIMEOUT_SECONDS = 60.0
_QUEUE_FRAMES = 100_000
"""No frame is lost, however busy the machine is: the label is one of all rows."""


@dataclass(slots=True)
class LiveWatches:
    """A watch factory for a scenario: all that it watches is one run, each rank for itself, and a
    later watch of the same rank is its next attempt."""

    url: str
    run: str
    folder: Path
    every_step: bool
    attempts: Counter[int] = field(default_factory=Counter)

    def __call__(self, model: Any, optimizer: Any = None, **settings: Any) -> foreshock.Watch:
        """As `foreshock.watch`."""
        rank = int(settings.get("rank", 0))
        self.attempts[rank] += 1
        cadence = {"activation_every": 1, "activation_grad_every": 1} if self.every_step else {}
        return foreshock.watch(
            model,
            optimizer,
            **{
                **cadence,
                "run": self.run,
                "run_id": self.run,
                "url": self.url,
                "attempt": self.attempts[rank],
                "spool_dir": self.folder,
                "queue_frames": _QUEUE_FRAMES,
                "overhead_budget": 0.0,
                **settings,
            },
        )


def compared(incident: Mapping[str, Any], fault: LabelledFault | None) -> str:
    """What the label says of an incident: that it is false, or how well it fits the fault."""
    if fault is None:
        return "false alarm: the training is healthy"
    late = int(incident["opened_step"]) - fault.at
    if late < 0:
        return f"false alarm: the fault acts from step {fault.at} on"
    score = importlib.import_module("benchmarks.zoo.score")
    event = {"kind": fault.kind, "accept_kinds": fault.accept}
    fits = ("another kind", "a kind that fits", "the labelled kind")
    said = [fits[score.likeness(event, incident["kind"])], f"{late} steps after the cause"]
    rank = f"rank{incident['rank']}/"
    layers = [layer.removeprefix(rank) for layer in fault.layers]
    if not layers:
        said.insert(1, "the label names no layer")
    elif not incident["root_series"]:
        said.insert(1, "no layer named")
    elif score.names_layer(incident["root_series"], layers):
        said.insert(1, "a true layer")
    else:
        said.insert(1, f"another layer than {', '.join(fault.layers)}")
    return ", ".join(said)


@dataclass(slots=True)
class LabelTeller:
    """Tells every incident of a run as it opens, and what the label says of it."""

    url: str
    run: str
    fault: LabelledFault | None
    tell: Callable[[str], None]
    seen: dict[tuple[int, int], Mapping[str, Any]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self) -> None:
        """Fetch the incidents once and tell the new ones, the first one first."""
        answer = fetch_json(f"{self.url}/api/v1/runs/{self.run}/incidents")
        with self._lock:
            for incident in reversed(answer.get("incidents", [])):
                key = int(incident["rank"]), int(incident["number"])
                if key not in self.seen:
                    self.seen[key] = incident
                    self.tell(f"step {incident['opened_step']}: {incident['sentence']}")
                    self.tell(f"    {incident['kind']}: {compared(incident, self.fault)}")

    def poll(self) -> None:
        """Ask again and again until `end`; a thread's work."""
        while not self._stop.wait(POLL_SECONDS):
            self.ask()

    def end(self, *, num_rows: int) -> None:
        """Wait until detection has read the run, and tell what is left. Raises `UnreadError`."""
        self._stop.set()
        deadline = time.monotonic() + READ_TIMEOUT_SECONDS
        url = f"{self.url}/api/v1/runs/{self.run}"
        while (num_read := int(fetch_json(url).get("detected_ord", 0))) < num_rows:
            if time.monotonic() > deadline:
                raise UnreadError(
                    f"detection had read {num_read} of {num_rows} rows of {self.run} after "
                    f"{READ_TIMEOUT_SECONDS:.0f} s; see the service's log"
                )
            time.sleep(0.2)
        # The other ranks are read within the same second, and say nothing of how far.
        num_before = -1
        while len(self.seen) != num_before:
            num_before = len(self.seen)
            time.sleep(2 * POLL_SECONDS)
            self.ask()


def play_live(
    scenario: Playable,
    server: DemoServer,
    *,
    say: Callable[[str], None] = tqdm.write,
    seed: int | None = None,
) -> int:
    """Train a scenario against `server` and tell its incidents; 0 if what was found is what the
    label says: nothing of a healthy training, an incident of a sick one and no false one."""
    torch.set_num_threads(1)
    fault = scenario.fault
    say(f"{scenario.name}: {scenario.arch}, {scenario.optimizer}")
    say(f"    {scenario.summary}")
    if fault is None:
        say("    label: healthy, every incident is a false alarm")
    else:
        where = f" in {', '.join(fault.layers)}" if fault.layers else ""
        say(f"    label: {fault.kind}{where}, its cause acts from step {fault.at} on")
    watches = LiveWatches(
        url=server.url,
        run=scenario.name,
        folder=server.data_dir / "spool",
        every_step=scenario.every_step,
    )
    teller = LabelTeller(server.url, scenario.name, fault, say)
    thread = threading.Thread(target=teller.poll, name="demo-incidents", daemon=True)
    thread.start()
    num_rows = 0
    with tqdm(desc=scenario.name, unit="row", leave=True) as bar:
        for loss in scenario.play(watches, seed=seed):
            num_rows += 1
            bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            bar.update()
    server.check()
    teller.end(num_rows=num_rows)
    thread.join()
    return _verdict(teller, say)


def _verdict(teller: LabelTeller, say: Callable[[str], None]) -> int:
    """Say what became of the label, and whether it was met."""
    told = [compared(incident, teller.fault) for incident in teller.seen.values()]
    num_false = sum(text.startswith("false alarm") for text in told)
    num_true = len(told) - num_false
    if teller.fault is None:
        say(_false(num_false) if told else "as labelled: a healthy run, and no incident")
        return int(bool(told))
    found = f"found: {num_true} of the fault" if num_true else "missed: no incident of the fault"
    say(found + (f", {_false(num_false)}" if num_false else ""))
    return int(not num_true or bool(num_false))


def _false(num: int) -> str:
    return f"{num} false alarm{'' if num == 1 else 's'}"
