"""Faults that build up over some sixty rows, and those that all tensors behind a layer show."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
from foreshock_service.detectors.layout import layout_of

from benchmarks.detection.recordings import Recording
from benchmarks.detection.splicing import (
    COLUMN,
    Splice,
    Spliced,
    measured_row,
    middle_of,
    only,
    progress_of,
    with_statistics,
)
from benchmarks.detection.transforms import SIZES, of_kind

CLIMB_ROWS: Final = 60
_SIZES: Final = [COLUMN[name] for name in (*SIZES, "batch_std")]


def _tensors(
    kind: str, fault: str, *, octaves: float, rows: int, whose: str = "one", backward: bool = False
) -> Splice:
    """Tensors of a kind that grow, or shrink, by so many octaves within so many rows: the middle
    one, all of them, or the middle one and those that follow it in the flow of a step."""

    def apply(run: Recording, first: int) -> Spliced | None:
        first = measured_row(run, kind, first)
        index = middle_of(run, kind, first)
        if index is None:
            return None
        which, depth = of_kind(run, kind), layout_of(run.schema).depth
        root = which & (depth == depth[index])
        if whose == "one":
            which = root = only(run, index)
        elif whose == "following":
            which &= (depth <= depth[index]) if backward else (depth >= depth[index])
        passed = np.clip((np.arange(run.num_rows) - first + 1) / rows, 0.0, 1.0)
        stats = _by_row(run, which, np.exp2(octaves * passed))
        names = [run.schema.series[i].name for i in np.flatnonzero(root)]
        return Spliced(
            recording=with_statistics(run, stats),
            kind=fault,
            onset_step=int(run.steps[first]),
            layers=() if whose == "all" else tuple(names),
            pace="fast" if rows == 1 else "slow",
        )

    return apply


def _by_row(
    run: Recording, which: npt.NDArray[np.bool_], factor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """The statistics with the sizes of some series multiplied, each row [T] by its factor."""
    stats = run.stats.copy()
    for index in np.flatnonzero(which):
        stats[:, index, _SIZES] *= factor[:, None].astype(np.float32)
    return stats


def _loss_climbs(run: Recording, first: int) -> Spliced | None:
    """The loss goes up for sixty rows, to twice as far above its level as it began."""
    progress = progress_of(run, first)
    if progress is None:
        return None
    passed = np.clip((np.arange(run.num_rows) - first + 1) / CLIMB_ROWS, 0.0, 1.0)
    loss = run.scalars["loss"] + 2.0 * progress * passed
    return Spliced(
        recording=replace(run, scalars={**run.scalars, "loss": loss}),
        kind="divergence",
        onset_step=int(run.steps[first]),
        layers=(),
        pace="slow",
    )


RAMPS: Final[dict[str, Splice]] = {
    "an activation grows x 1024": _tensors("activation", "explosion", octaves=10, rows=80),
    "a gradient grows x 256": _tensors("gradient", "explosion", octaves=8, rows=64),
    "a gradient fades to 1/4096": _tensors("gradient", "vanishing_gradient", octaves=-12, rows=60),
    "an update grows x 64": _tensors("update", "update_too_large", octaves=6, rows=60),
    "activations from a layer on grow x 64": _tensors(
        "activation", "explosion", octaves=6, rows=60, whose="following"
    ),
    "activations from a layer on fade to 1/64": _tensors(
        "activation", "representation_collapse", octaves=-6, rows=60, whose="following"
    ),
    "gradients from a layer on x 64": _tensors(
        "gradient", "gradient_spike", octaves=6, rows=1, whose="following", backward=True
    ),
    "gradients from a layer on fade to 1/4096": _tensors(
        "gradient", "vanishing_gradient", octaves=-12, rows=36, whose="following", backward=True
    ),
    "all gradients grow x 256": _tensors("gradient", "explosion", octaves=8, rows=64, whose="all"),
    "all updates grow x 32": _tensors(
        "update", "update_too_large", octaves=5, rows=80, whose="all"
    ),
    "the loss climbs": _loss_climbs,
}
