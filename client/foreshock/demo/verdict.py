"""Whether the demo kept its promise, judged apart from the service.

The sick run has a healthy twin: same seed, same batches, same model. So the step at which its loss
moved is where the difference between the two becomes lasting, whatever the service thinks of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foreshock.demo.incidents import SeenIncident

MOVED_NATS = 0.1
"""A lasting difference of 0.1 nats a byte: ten times the noise between two healthy twins."""
MOVED_STEPS = 10
"""Steps over which the difference is averaged, so that one batch decides nothing."""


def loss_moved_step(losses: Sequence[float], twin_losses: Sequence[float]) -> int | None:
    """The step at which `losses` left `twin_losses` for good; None if that never happens.

    It is looked for in the first `MOVED_STEPS` steps whose mean excess reaches `MOVED_NATS` or is
    not finite, and is the first of them that itself exceeds the twin by as much.
    """
    num_steps = min(len(losses), len(twin_losses))
    excess_S = np.asarray(losses[:num_steps]) - np.asarray(twin_losses[:num_steps])
    for first in range(num_steps - MOVED_STEPS + 1):
        window = excess_S[first : first + MOVED_STEPS]
        # Written so that NaN, which compares false with everything, counts as moved.
        if not float(window.mean()) < MOVED_NATS:
            return first + int(np.argmax(~(window < MOVED_NATS)))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of both runs; `failures` is empty if the promise was kept."""

    loss_step: int | None
    first_incident: SeenIncident | None
    failures: tuple[str, ...]


def judge(
    *,
    healthy: Sequence[SeenIncident],
    sick: Sequence[SeenIncident],
    loss_step: int | None,
) -> Verdict:
    """The promise: nothing about the healthy run, and the sick run's first incident opens before
    its loss moves at `loss_step`. A run too short for its loss to move is held to the first half
    and to nothing else."""
    failures = [
        f"false alarm in the healthy run at step {incident.opened_step}: {incident.sentence}"
        for incident in healthy
    ]
    first = min(sick, key=lambda incident: incident.opened_step, default=None)
    if loss_step is not None:
        if first is None:
            failures.append(f"the loss moved at step {loss_step} and no incident was raised")
        elif first.opened_step >= loss_step:
            failures.append(
                f"the first incident opened at step {first.opened_step}, not before the loss "
                f"moved at step {loss_step}"
            )
    return Verdict(loss_step=loss_step, first_incident=first, failures=tuple(failures))
