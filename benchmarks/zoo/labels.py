"""From a sick run, its twin and a fault's definition: the label, and the proof that it is true."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.registry import Scenario
from benchmarks.zoo.rules import (
    SomethingLeavesTwin,
    outside_band,
    running_median,
    three_of_five,
)
from benchmarks.zoo.traces import Trace


class UntrueLabelError(Exception):
    """A recorded run is not what its label would say; the message says in what."""


def tolerance(trace: Trace) -> int:
    """Steps within which something sudden must be noticed: 5 % of the run, at least 20."""
    length = int(trace.steps.max() - trace.steps.min()) + 1
    return max(20, round(0.05 * length))


def healthy_label(scenario: Scenario, run: Trace) -> dict[str, Any]:
    """The label of a run without a fault; raises `UntrueLabelError` if it looks sick."""
    check_health(run, loss_falls=scenario.loss_falls)
    return {"outcome": "healthy", "events": [], "notes": scenario.summary}


def check_health(run: Trace, *, loss_falls: bool) -> None:
    """A healthy training has finite losses, and at its end lower ones than at its start.

    The first and last twentieth are compared by their medians, each of at least 10 rows.
    """
    losses = run.losses
    if not np.isfinite(losses).all():
        raise UntrueLabelError(
            f"the loss of row {int(np.argmin(np.isfinite(losses)))} is not finite"
        )
    part = max(10, len(losses) // 20)
    first, last = float(np.median(losses[:part])), float(np.median(losses[-part:]))
    if loss_falls and not last < first:
        raise UntrueLabelError(f"the loss does not fall: {first:.4g} at first, {last:.4g} at last")


def faulty_label(scenario: Scenario, fault: Fault, run: Trace, twin: Trace) -> dict[str, Any]:
    """The label of a sick run.

    Raises:
        UntrueLabelError: the twin is not healthy or shows the fault too, the runs differ before
            the fault acts, or the sick run does not show it.
    """
    try:
        check_health(twin, loss_falls=scenario.loss_falls)
    except UntrueLabelError as error:
        raise UntrueLabelError(f"the healthy twin: {error}") from error
    _check_same_before(fault.at, run, twin)
    onset = fault.at
    if fault.onset is not None:
        row = fault.onset.first_row(run, twin)
        if row is None:
            raise UntrueLabelError(f"no onset: {fault.onset}, on no row")
        onset = int(run.steps[row])
        if onset < fault.at:
            raise UntrueLabelError(f"onset {onset} lies before step {fault.at}, the cause's first")
    proof = fault.shows or fault.onset or SomethingLeavesTwin(modules=fault.layers)
    shown = proof.first_row(run, twin)
    if shown is None:
        raise UntrueLabelError(f"the fault does not show: {proof}, on no row")
    if proof.first_row(twin, twin) is not None:
        raise UntrueLabelError(f"the healthy twin shows the fault too: {proof}")
    layers = [name for module in fault.layers for name in run.names_in(module)]
    missing = [module for module in fault.layers if not run.names_in(module)]
    if missing:
        raise UntrueLabelError(f"no series in {', '.join(missing)}")
    sudden = fault.pace == "fast"
    moved = loss_moved(run, twin, since=fault.at, sudden=sudden)
    event = {
        "kind": fault.kind,
        "onset_step": onset,
        "visible_step": visible(run, twin, since=fault.at, sudden=sudden),
        "loss_moved_step": moved,
        "valid_from": fault.at,
        "end_step": _end(fault, run, twin, onset),
        "pace": fault.pace,
        "layers": layers,
        "root": list(fault.layers),
        "severity": fault.severity,
        "last_loss": _last_loss(run),
        "twin_last_loss": _last_loss(twin),
        "accept_kinds": list(fault.accept),
        "cause": scenario.summary,
        "onset_definition": "construction" if fault.onset is None else str(fault.onset),
        "proof": f"{proof}: first at step {int(run.steps[shown])}, never in the twin",
    }
    return {"outcome": "fault", "events": [event], "notes": ""}


def _last_loss(trace: Trace) -> float | None:
    """The median loss of the last 20 rows; None where they are not finite."""
    last = float(np.median(trace.losses[-20:]))
    return last if np.isfinite(last) else None


def _check_same_before(at: int, run: Trace, twin: Trace) -> None:
    """Up to the fault both trainings are the same, to the bit."""
    num = int(np.argmax(run.steps >= at)) if at else 0
    mine, other = run.losses[:num], twin.losses[:num]
    if len(other) < num or not np.array_equal(mine, other):
        raise UntrueLabelError(f"the run and its twin differ before step {at}")


def loss_moved(run: Trace, twin: Trace, *, since: int, sudden: bool) -> int | None:
    """The step at which the loss leaves the healthy twin's band: 3 of 5 rows above it, or for a
    sudden fault one row in its first 20."""
    outside = outside_band(run, twin)
    return _first(run, outside, since, sudden=sudden)


def visible(run: Trace, twin: Trace, *, since: int, sudden: bool) -> int | None:
    """The step at which somebody who has no twin sees it: the loss is outside the twin's band and
    has also risen above the best that this run had reached, by six robust spreads of its own noise
    so far, at least 15 % and a twentieth of all it has fallen. A loss that only fails to fall is
    never visible in this sense.
    """
    trailing = running_median(run.losses, num_before=19, num_after=0)
    noise = np.abs(run.losses - trailing)
    spread = 1.4826 * np.array([np.nanmedian(noise[: i + 1]) for i in range(len(noise))])
    best = np.fmin.accumulate(trailing)
    before, spread = (np.concatenate([v[:1], v[:-1]]) for v in (best, spread))
    fallen = np.fmax.accumulate(trailing) - best
    room = np.fmax(np.fmax(6 * np.nan_to_num(spread), 0.15 * np.abs(before)), 0.05 * fallen)
    with np.errstate(invalid="ignore"):
        risen = ~(run.losses <= before + room)
    return _first(run, outside_band(run, twin) & risen, since, sudden=sudden)


def _first(run: Trace, holds: np.ndarray[Any, Any], since: int, *, sudden: bool) -> int | None:
    rows = np.flatnonzero(run.steps >= since)
    if sudden:
        at_once = [row for row in rows[:20] if holds[row]]
        if at_once:
            return int(run.steps[at_once[0]])
    bad = ~np.isfinite(run.losses)
    row = three_of_five(holds, [int(row) for row in rows])
    ended = [int(r) for r in rows if bad[r] and holds[r]]
    found = [r for r in (row, ended[0] if ended else None) if r is not None]
    return int(run.steps[min(found)]) if found else None


def _end(fault: Fault, run: Trace, twin: Trace, onset: int) -> int:
    """The last step on which an alert belongs to the fault."""
    last = int(run.steps.max())
    if fault.lasting:
        return last
    outside = outside_band(run, twin) & (run.steps >= onset)
    rows = np.flatnonzero(outside)
    # Single rows above the band long after are the noise of six spreads, not the fault.
    over = onset
    for row in rows:
        if run.steps[row] > over + tolerance(run):
            break
        over = int(run.steps[row])
    return min(last, over + tolerance(run))
