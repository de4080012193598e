"""A client that measures less often to keep to its budget is no anomaly, and hides none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from foreshock.wire import KINDS, FrameFlag, measured_flag
from foreshock_service.domain.frames import Frame

from tests.detectors.traces import Trace, changes_of, healthy, opened

RAREST = {"activation": 16, "activation_grad": 16, "weight": 16, "update": 16, "gradient": 4}
"""As far as the client thins."""


def _thinned(trace: Trace, first: int = 64, until: int = 10**9) -> Iterator[Frame]:
    """The rows with what a thinned client would not have measured left out."""
    for frame in trace.frames():
        if not first <= frame.ord < until:
            yield frame
            continue
        stats, flags = frame.stats.copy(), FrameFlag.THINNED
        for kind in KINDS:
            if frame.ord % RAREST[kind] == 0:
                flags |= measured_flag(kind)
            else:
                stats[[i for i, s in enumerate(frame.schema.series) if s.kind == kind]] = np.nan
        yield replace(frame, stats=stats, flags=flags)


@pytest.mark.parametrize("until", [10**9, 400])
def test_a_healthy_run_that_is_thinned_stays_quiet(until: int) -> None:
    """Neither the gaps nor the return to every step is told as anything."""
    for seed in range(3):
        assert changes_of(_thinned(healthy(800, seed=seed), until=until)) == []


def test_an_explosion_in_a_thinned_run_is_found() -> None:
    """A layer whose gradient grows without end is told although three rows of four are missing."""
    trace = healthy(400)
    growth = np.exp2(np.clip((np.arange(400) - 200) / 8, 0, 14))
    trace.scale("gradient:blocks.1.mlp.up.weight", growth)
    found = opened(_thinned(trace))
    assert [incident.root_series for incident in found[:1]] == ["gradient:blocks.1.mlp.up.weight"]
