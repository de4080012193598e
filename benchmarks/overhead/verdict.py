"""Whether a session can be believed: who captured nothing, or trained something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from benchmarks.overhead.interleave import Session

_MOST_UNACCOUNTED: Final = 0.02
"""Share of the process's CPU time that may belong to no known thread."""


def complaints(session: Session) -> Iterator[str]:
    """What makes the figures of this run worthless, a sentence each."""
    name, bare = session.workload.name, session.measured[0]
    for measured in session.measured:
        variant = measured.variant
        for what, every in variant.expects.items():
            found, least = measured.captured.get(what, 0), len(measured.losses) // every
            if found < least:
                yield f"{name}: {variant.name} captured {found} {what}, at least {least} expected"
        if measured.losses != bare.losses:
            yield f"{name}: {variant.name} changed the training: its losses are not the bare loop's"
    share = session.unaccounted_cpu_seconds / session.process_cpu_seconds
    if abs(share) > _MOST_UNACCOUNTED:
        yield f"{name}: {share:.1%} of the CPU time belongs to no known thread"
