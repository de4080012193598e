"""Scores predictions against labelled runs; `README.md` defines every figure.

Depends on numpy alone, and reads any folder in the zoo's layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SAME_TROUBLE: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(others.split())
    for kind, others in {
        "loss_spike": "gradient_spike bad_batch",
        "gradient_spike": "loss_spike explosion bad_batch",
        "bad_batch": "loss_spike gradient_spike",
        "explosion": "divergence gradient_spike",
        "divergence": "explosion loss_spike",
        "update_too_large": "loss_spike gradient_spike explosion divergence",
        "weight_corruption": "update_too_large loss_spike gradient_spike explosion",
        "non_finite": "precision_overflow explosion",
        "precision_overflow": "non_finite explosion",
        "precision_underflow": "vanishing_gradient update_too_small",
        "vanishing_gradient": "precision_underflow update_too_small",
        "update_too_small": "plateau precision_underflow",
        "plateau": "update_too_small",
        "dead_units": "representation_collapse saturation",
        "saturation": "dead_units",
        "representation_collapse": "dead_units",
        "attention_logit_growth": "saturation",
    }.items()
}
"""Which other kinds describe a labelled kind well enough to send the reader to the right place."""
FREE_REPEATS: Final = 4
"""Alerts on a fault after its first that cost nothing; more are spam."""
NUM_RESAMPLES: Final = 500
_PARAMETERS: Final = frozenset(
    ("weight", "bias", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "pos", "cls")
)
_KIND_PREFIXES: Final = ("activation_grad", "activation", "gradient", "weight", "update")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """What scoring needs of a recording: its steps and its label."""

    id: str
    steps: npt.NDArray[np.int64]
    events: tuple[Mapping[str, Any], ...]
    split: str = ""

    @property
    def tolerance(self) -> int:
        """5 % of the run's steps, at least 20."""
        return max(20, round(0.05 * (int(self.steps.max() - self.steps.min()) + 1)))


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one labelled fault."""

    event: Mapping[str, Any]
    first: int
    deadline: int
    last: int
    hits: list[Mapping[str, Any]] = field(default_factory=list)
    span: int = 1

    def covers(self, step: int) -> bool:
        """Whether an alert at `step` belongs to the fault."""
        return self.first <= step <= self.last

    @property
    def timely(self) -> list[Mapping[str, Any]]:
        """Alerts up to the deadline."""
        return [hit for hit in self.hits if hit["step"] <= self.deadline]

    @property
    def exact(self) -> bool:
        """A timely alert of the labelled kind."""
        return any(likeness(self.event, hit["kind"]) == 2 for hit in self.timely)

    @property
    def credit(self) -> float:
        """1 for a timely alert of a fitting kind, a half for one of another kind."""
        timely = self.timely
        if not timely:
            return 0.0
        return 1.0 if any(likeness(self.event, hit["kind"]) for hit in timely) else 0.5

    @property
    def delay(self) -> int | None:
        """Steps from the onset to the first timely alert."""
        timely = self.timely
        return int(timely[0]["step"]) - int(self.event["onset_step"]) if timely else None

    @property
    def timeliness(self) -> float:
        """1 at the onset or before it, falling to 0 at the deadline."""
        delay = self.delay
        return 0.0 if delay is None else 1.0 - min(1.0, max(0, delay) / self.span)

    def lead(self, key: str) -> int | None:
        """Steps from the first timely alert to the event's `key`, None where either is missing."""
        moved = self.event.get(key)
        return (
            int(moved) - int(self.timely[0]["step"]) if self.timely and moved is not None else None
        )

    def named(self, num: int) -> bool:
        """Whether the first timely alert that names series has a true one among its first `num`."""
        series: Sequence[str] = next(
            (hit["series"] for hit in self.timely if hit.get("series")), []
        )
        return any(names_layer(name, self.event["layers"]) for name in series[:num])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One run's share of the score; a sum over runs is the whole."""

    run: str
    healthy_steps: int
    outcomes: tuple[Outcome, ...]
    false: tuple[Mapping[str, Any], ...]
    num_spam: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures over all runs, their runs, and the composite's interval over resampled runs."""

    figures: Mapping[str, float]
    runs: tuple[Scored, ...]
    interval: tuple[float, float]
    num_unknown: int

    def summary(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = {k: None if math.isnan(v) else v for k, v in self.figures.items()}
        return {**plain, "composite_interval": list(self.interval), "by_kind": by_kind(self.runs)}


def load_runs(folder: Path) -> dict[str, Run]:
    """Every labelled run of a folder, by id."""
    runs = {}
    for path in sorted(folder.glob("*.json")):
        about = json.loads(path.read_text())
        if "label" not in about:
            continue
        with np.load(path.with_suffix("").with_name(f"{path.stem}.npz")) as arrays:
            steps = arrays["step"]
        events = tuple(about["label"]["events"])
        runs[about["id"]] = Run(
            id=about["id"], steps=steps, events=events, split=about.get("split", "")
        )
    return runs


def load_predictions(path: Path) -> list[dict[str, Any]]:
    """One alert a line; raises ValueError where a line lacks `run`, `step` or `kind`."""
    alerts = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        alert = json.loads(line)
        missing = [name for name in ("run", "step", "kind") if name not in alert]
        if missing:
            raise ValueError(f"{path}:{number}: {', '.join(missing)} is missing")
        alerts.append(alert)
    return alerts


def likeness(event: Mapping[str, Any], kind: str) -> int:
    """2 for the labelled kind, 1 for one that describes the same trouble, else 0."""
    if kind == event["kind"]:
        return 2
    same = SAME_TROUBLE.get(event["kind"], frozenset())
    return int(kind in same or kind in event.get("accept_kinds", ()))


def names_layer(name: str, layers: Sequence[str]) -> bool:
    """Whether a named series is a true one, of the same module, or inside its module."""
    for kind in _KIND_PREFIXES:
        if name.startswith((f"{kind}:", f"{kind}/")):
            name = name[len(kind) + 1 :]
            break
    module = _module(name)
    return any(f"{module}.".startswith(f"{_module(layer)}.") for layer in layers)


def _module(name: str) -> str:
    head, _, tail = name.rpartition(".")
    return head if head and tail in _PARAMETERS else name


def outcomes_of(run: Run) -> list[Outcome]:
    """A run's faults with their windows, nothing matched yet."""
    last = int(run.steps.max())
    found = []
    for event in run.events:
        onset, seen = int(event["onset_step"]), event.get("visible_step")
        soon = onset + run.tolerance
        fast = event.get("pace", "fast") == "fast"
        deadline = soon if fast else last if seen is None else max(int(seen), soon)
        end = event.get("end_step")
        end = last if end is None else int(end)
        found.append(
            Outcome(
                event=event,
                first=int(event.get("valid_from", onset)),
                deadline=deadline,
                last=max(end, min(deadline, last)),
                span=run.tolerance if fast else max(1, deadline - onset),
            )
        )
    return found


def score_run(run: Run, alerts: Sequence[Mapping[str, Any]]) -> Scored:
    """Match one run's alerts to its faults.

    Where several faults are under way an alert goes to one that has none yet and whose kind it
    tells, then to one whose kind it tells, then to one without alerts; among equals, the latest.
    """
    outcomes, false, num_spam = outcomes_of(run), [], 0
    for alert in sorted(alerts, key=lambda a: int(a["step"])):
        open_ones = [o for o in outcomes if o.covers(int(alert["step"]))]
        if not open_ones:
            false.append(alert)
            continue

        def preference(o: Outcome, kind: str = str(alert["kind"])) -> tuple[int, int]:
            like, fresh = likeness(o.event, kind), not o.hits
            order = {(2, True): 0, (1, True): 1, (2, False): 2, (1, False): 3, (0, True): 4}
            return order.get((like, fresh), 5), -int(o.event["onset_step"])

        chosen = min(open_ones, key=preference)
        chosen.hits.append(alert)
        num_spam += len(chosen.hits) > 1 + FREE_REPEATS
    covered = np.zeros(len(run.steps), bool)
    for o in outcomes:
        covered |= (run.steps >= o.first) & (run.steps <= o.last)
    return Scored(
        run=run.id,
        healthy_steps=int((~covered).sum()),
        outcomes=tuple(outcomes),
        false=tuple(false),
        num_spam=num_spam,
    )


def score(runs: Mapping[str, Run], alerts: Sequence[Mapping[str, Any]], *, seed: int = 0) -> Result:
    """Score alerts over all runs. The interval holds the middle 95 % of the composite over sets of
    runs drawn with replacement; it says how far the choice of runs could have moved it."""
    of_run: dict[str, list[Mapping[str, Any]]] = {name: [] for name in runs}
    num_unknown = 0
    for alert in alerts:
        if alert["run"] in of_run:
            of_run[alert["run"]].append(alert)
        else:
            num_unknown += 1
    scored = tuple(score_run(run, of_run[name]) for name, run in runs.items())
    draw = np.random.default_rng(seed)
    composites = [
        figures([scored[i] for i in draw.integers(len(scored), size=len(scored))])["composite"]
        for _ in range(NUM_RESAMPLES if scored else 0)
    ]
    low, high = np.quantile(composites, (0.025, 0.975)) if composites else (math.nan, math.nan)
    return Result(
        figures=figures(scored, num_unknown=num_unknown),
        runs=scored,
        interval=(float(low), float(high)),
        num_unknown=num_unknown,
    )


def figures(scored: Sequence[Scored], *, num_unknown: int = 0) -> dict[str, float]:
    """Every figure of the README over these runs."""
    events = [o for s in scored for o in s.outcomes]
    kinds = {str(o.event["kind"]) for o in events}
    false = [a for s in scored for a in s.false]
    num_critical = sum(a.get("severity") == "critical" for a in false)
    num_spam = sum(s.num_spam for s in scored)
    steps = sum(s.healthy_steps for s in scored)
    quiet = [not s.false for s in scored if not s.outcomes]
    with_layers = [o for o in events if o.event["layers"]]
    by_kind_credit = [_mean([o.credit for o in events if o.event["kind"] == k]) for k in kinds]
    matched = sum(bool(o.hits) for o in events)
    alarms = matched + len(false) + num_spam + num_unknown
    per_1000 = 1000.0 / steps if steps else 0.0
    critical = num_critical * per_1000
    warning = (len(false) - num_critical) * per_1000

    recall = 0.5 * (_mean([o.credit for o in events]) + _mean(by_kind_credit)) if events else 0.0
    timeliness = _mean([o.timeliness * o.credit for o in events]) if events else 0.0
    top1, top3 = (_mean([o.named(num) for o in with_layers]) for num in (1, 3))
    layer = 0.6 * top1 + 0.4 * top3 if with_layers else float(recall > 0)
    exact = _mean([o.exact for o in events]) if events else 0.0
    precision = matched / alarms if alarms else 0.0
    silence = 1.0 / (1.0 + critical + 0.5 * warning)
    clean = _mean(quiet) if quiet else silence
    quality = 0.45 * recall + 0.25 * timeliness + 0.20 * layer + 0.10 * exact
    trust = 0.4 * precision + 0.3 * silence + 0.3 * clean
    both = quality > 0 and trust > 0
    return {
        "num_events": len(events),
        "num_healthy_runs": len(quiet),
        "detected": _mean([bool(o.timely) for o in events]),
        "recall": recall,
        "timeliness": timeliness,
        "layer_top1": top1,
        "layer_top3": top3,
        "kind_exact": exact,
        "precision": precision,
        "false_critical_per_1000": critical,
        "false_warning_per_1000": warning,
        "healthy_runs_without_alert": clean,
        "spam": num_spam,
        "median_delay": _median([o.delay for o in events]),
        "median_lead": _median([o.lead("visible_step") for o in events]),
        "median_lead_twin": _median([o.lead("loss_moved_step") for o in events]),
        "quality": quality,
        "trust": trust,
        "composite": 2 * quality * trust / (quality + trust) if both else 0.0,
    }


def by_kind(scored: Sequence[Scored]) -> dict[str, dict[str, float]]:
    """The figures of each kind's events alone."""
    events = [o for s in scored for o in s.outcomes]
    table = {}
    for kind in sorted({str(o.event["kind"]) for o in events}):
        mine = [o for o in events if o.event["kind"] == kind]
        table[kind] = {
            "num": len(mine),
            "detected": _mean([bool(o.timely) for o in mine]),
            "credit": _mean([o.credit for o in mine]),
            "timeliness": _mean([o.timeliness for o in mine]),
        }
    return table


def report(result: Result, *, per_run: bool = False) -> Iterator[str]:
    """The figures as lines for a terminal."""
    for kind, row in by_kind(result.runs).items():
        detected, credit, timeliness = row["detected"], row["credit"], row["timeliness"]
        yield (
            f"{kind:26s} {row['num']:3.0f}  detected {detected:.2f}  credit {credit:.2f}  "
            f"timeliness {timeliness:.2f}"
        )
    for name, value in result.figures.items():
        yield f"{name:28s} {value:.3f}"
    yield f"{'composite, 95 % interval':28s} {result.interval[0]:.3f} to {result.interval[1]:.3f}"
    if result.num_unknown:
        yield f"{result.num_unknown} alerts name a run that is not in the folder: counted as false"
    if per_run:
        for scored in result.runs:
            yield _line(scored)


def _line(scored: Scored) -> str:
    parts = [
        f"{o.event['kind']}@{o.event['onset_step']} "
        + (f"+{o.delay} as {o.timely[0]['kind']}" if o.timely else "missed")
        for o in scored.outcomes
    ]
    parts += [f"false {a['kind']}@{a['step']}" for a in scored.false[:5]]
    return f"{scored.run}: {'; '.join(parts) or 'quiet'}"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _median(values: Sequence[int | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else math.nan
