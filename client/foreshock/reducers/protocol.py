"""The seam between hooks and kernels: what a reducer takes and gives back.

A reducer owns a table with one record a row. Within a step, measuring into a row again merges
(microbatches, shared modules); `finish` turns the table into statistics and empties it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class UnitView:
    """A dense tensor seen as [outer, units, inner], for the statistics that are per unit."""

    outer: int
    units: int
    inner: int


class Pending(Protocol):
    """The statistics of one step, perhaps still on their way from the device."""

    def result(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        """Statistics [rows, len(STATISTICS)], NaN in rows that were not measured, and exponent
        histograms [rows, 64]. Called a step later; must not wait for more than the copy."""
        ...


class Reducer(Protocol):
    """Measures tensors without changing them, without synchronising, and without keeping them."""

    name: str

    def resize(self, num_rows: int) -> None:
        """Make room for `num_rows` rows; called before the first step and when rows are added."""
        ...

    def measure(
        self,
        rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        *,
        units: Sequence[UnitView | None] | None = None,
        scale: float | torch.Tensor = 1.0,
    ) -> None:
        """Merge `scale * tensor` into each row, on the current stream, before the caller goes on.

        `scale` is a power of two or any float; as a tensor it is read on the device.
        """
        ...

    def measure_update(
        self,
        update_rows: Sequence[int],
        weight_rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        previous: Sequence[torch.Tensor],
    ) -> None:
        """In one read: merge `tensor - previous` into the update row and `tensor` into the weight
        row (-1: not wanted), then copy `tensor` into `previous`."""
        ...

    def finish(self) -> Pending:
        """Finalise the table of this step, start its one copy to the host, and empty it."""
        ...
