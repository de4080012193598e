"""TensorBoard histograms of every weight and gradient on each tenth step, as its users write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from benchmarks.overhead.variants import Surroundings, Variant

PERIOD: Final = 10


class TensorBoardWritten:
    """A training with a `SummaryWriter`."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, around: Surroundings
    ) -> None:
        self._model, self._folder = model, around.folder
        self._writer = SummaryWriter(str(around.folder))

    def step(self, index: int, loss: torch.Tensor) -> None:
        """Write the loss, and on each tenth step the histograms."""
        self._writer.add_scalar("loss", loss.item(), index)
        if index % PERIOD == 0:
            for name, parameter in self._model.named_parameters():
                self._writer.add_histogram(f"weights/{name}", parameter, index)
                if parameter.grad is not None:
                    self._writer.add_histogram(f"gradients/{name}", parameter.grad, index)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def captured(self) -> Mapping[str, int]:
        """Scalars and histograms, read back from the event file."""
        counts: Counter[str] = Counter()
        for path in self._folder.glob("events.out.*"):
            for event in EventFileLoader(str(path)).Load():
                counts.update(value.tag.partition("/")[0] for value in event.summary.value)
        return counts


def tensorboard_written() -> Variant:
    """TensorBoard with its period named."""
    expects = {"loss": 1, "weights": PERIOD, "gradients": PERIOD}
    return Variant(name="TensorBoard, every 10th", attach=TensorBoardWritten, expects=expects)
