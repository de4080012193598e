"""A frame: everything that was measured at one step of one rank, as detectors read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import FrameFlag, SeriesSchema

# Plain integers: a dozen rules ask on each row, and a flag answers in ten times as long.
_ANNOUNCED: Final = int(FrameFlag.ANNOUNCED)
_SKIPPED: Final = int(FrameFlag.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One row of a run.

    `ord` counts the frames of a run and rank in order of arrival from 0 and never goes back, while
    `step` does when an attempt resumes from a checkpoint. `stats` is float32 [series, statistics]
    in the column order of `schema.statistics`; a row of NaN was not measured or did not exist
    (`flags` tells which). A scalar that was not logged is not in `scalars`; NaN is a value.
    """

    ord: int
    attempt: int
    step: int
    wall_time: float
    flags: FrameFlag
    scalars: Mapping[str, float]
    stats: npt.NDArray[np.float32]
    schema: SeriesSchema
    batch_id: str | None = None
    histograms: Mapping[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Exponent histogram [64] by series index, on the frames that carry one."""

    @property
    def announced(self) -> bool:
        """Whether the client said that from this frame on something is other on purpose."""
        return bool(int(self.flags) & _ANNOUNCED)

    @property
    def skipped(self) -> bool:
        """Whether loss scaling skipped the step, so that its gradients moved nothing."""
        return bool(int(self.flags) & _SKIPPED)
