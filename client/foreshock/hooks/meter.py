"""The meter: what is due on this step, and the reducer's table that it goes into."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from foreshock.hooks.series import SeriesTable
from foreshock.reducers.protocol import Pending, Reducer, UnitView


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a distributed tensor; never a gather."""
    to_local = getattr(tensor, "to_local", None)
    result: torch.Tensor = (tensor if to_local is None else to_local()).detach()
    return result


def measurable(tensor: torch.Tensor) -> bool:
    """Whether a tensor has real floating-point elements in memory; inside `vmap` and the other
    transforms of `torch.func` it has none."""
    return (
        tensor.is_floating_point()
        and tensor.layout is torch.strided
        and not tensor.is_meta
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


class Meter:
    """One step's measurements. `epoch` counts steps, so that a late hook can tell that its step is
    over; `measured` holds the kinds of which anything was measured.

    What a forward hook asks is an attribute that is worked out once a step: every module asks it
    in every forward."""

    def __init__(self, reducer: Reducer, series: SeriesTable) -> None:
        self.reducer, self.series = reducer, series
        self.due: frozenset[str] = frozenset()
        self.measured: set[str] = set()
        self.epoch = 0
        self.activation_due = self.gradient_due = False
        self.listening = True
        """Whether somebody waits to hear of the next training forward."""
        self.forward_due = True
        """Whether a forward hook has anything to do."""

    def begin(self, due: frozenset[str], *, room_for: int = 0) -> None:
        """Start a step, with room for the series that came up in the last one."""
        self.due = due
        self.measured = set()
        self.epoch += 1
        self.activation_due = "activation" in due
        self.gradient_due = "activation_grad" in due
        self.listen(self.listening)
        if self.series.grow(room_for):
            self.reducer.resize(self.series.capacity)

    def listen(self, wanted: bool) -> None:
        """Say whether the next training forward must be told."""
        self.listening = wanted
        self.forward_due = wanted or self.activation_due or self.gradient_due

    def measure(
        self,
        kind: str,
        rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        *,
        units: Sequence[UnitView | None] | None = None,
        scale: float | torch.Tensor = 1.0,
    ) -> None:
        """Merge tensors of one kind into their rows; row -1 is left out."""
        chosen = [i for i, row in enumerate(rows) if row >= 0]
        if not chosen:
            return
        self.reducer.measure(
            [rows[i] for i in chosen],
            [tensors[i] for i in chosen],
            units=None if units is None else [units[i] for i in chosen],
            scale=scale,
        )
        self.measured.add(kind)

    def measure_one(self, kind: str, row: int, tensor: torch.Tensor, unit: UnitView | None) -> None:
        """Merge one tensor into its row."""
        self.reducer.measure((row,), (tensor,), units=(unit,))
        self.measured.add(kind)

    def finish(self) -> Pending:
        """End the step: its statistics, on their way."""
        return self.reducer.finish()
