"""Foreshock as a user attaches it, on its real way: hooks, reducer, spool on disk, HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import foreshock
import torch
from foreshock.settings import ClientSettings, SettingArguments, load_settings
from foreshock.wire import KINDS
from torch import nn

from benchmarks.overhead.sink import captured_at
from benchmarks.overhead.variants import Surroundings, Variant


class Watched:
    """A training with `foreshock.watch`, sending to the sink."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        around: Surroundings,
        settings: SettingArguments,
    ) -> None:
        self._url = around.sink_url
        known: SettingArguments = {
            **settings,
            "spool_dir": around.folder,
            # The clock runs during the others' turns: without this a batch would have fewer frames
            # than in a training that has the process for itself.
            "batch_seconds": around.num_turns * ClientSettings().batch_seconds,
            # It would take the others' turns for training, and hide what a cadence costs.
            "overhead_budget": 0.0,
        }
        self.watch = foreshock.watch(model, optimizer, run="overhead", url=around.sink_url, **known)
        self._run_id = self.watch.run_id

    def step(self, index: int, loss: torch.Tensor) -> None:
        """End the step with its loss."""
        self.watch.step(loss=loss)

    def close(self) -> None:
        """Send what is left."""
        self.watch.close()

    def captured(self) -> Mapping[str, int]:
        """Frames, and measured series-steps of each kind, decoded by the sink."""
        return captured_at(self._url).get(str(self._run_id), {})


def watched(name: str, **settings: Unpack[SettingArguments]) -> Variant:
    """Foreshock at a fixed cadence: the defaults, but for `settings` and the budget."""
    known = load_settings(settings, {})
    every = {kind: int(getattr(known, f"{kind}_every")) for kind in KINDS}
    return Variant(
        name=name,
        attach=lambda model, optimizer, around: Watched(model, optimizer, around, settings),
        expects={"frames": 1, **{kind: steps for kind, steps in every.items() if steps}},
    )
