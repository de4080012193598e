"""The formats that are read, one line each; the first that knows a file has it."""

from __future__ import annotations

from typing import Final

from foreshock_service.importers.comma_separated import CommaSeparated
from foreshock_service.importers.json_lines import JsonLines
from foreshock_service.importers.protocol import Importer
from foreshock_service.importers.tensorboard import TensorBoard
from foreshock_service.importers.traces import Traces
from foreshock_service.importers.trainer_state import TrainerState
from foreshock_service.importers.weights_and_biases import WeightsAndBiases

IMPORTERS: Final[tuple[Importer, ...]] = (
    Traces(),
    TrainerState(),
    CommaSeparated(),
    JsonLines(),
    TensorBoard(),
    WeightsAndBiases(),
)
