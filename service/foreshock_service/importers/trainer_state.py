"""`trainer_state.json` of the Hugging Face Trainer: its `log_history`, one object a log call.

https://huggingface.co/docs/transformers/main_classes/callback#transformers.TrainerState
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.records import Records
from foreshock_service.importers.rows import LoggedRow, frames_from

MAX_BYTES: Final = 256 << 20
NAME: Final = "trainer_state.json"
SNIFFED_BYTES: Final = 64 << 10
AT_THE_END: Final = "train_loss"
"""The average over the whole training, written with the last step: it is nobody's loss."""


class TrainerState:
    """The file under its own name, or under another and with a `log_history`."""

    format = "Hugging Face trainer_state.json"

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """The file alone."""
        if path.suffix.lower() != ".json":
            return ()
        if path.name == NAME:
            return (path,)
        with path.open("rb") as file:
            return (path,) if b'"log_history"' in file.read(SNIFFED_BYTES) else ()

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run.

        Raises:
            NoRun: nothing was logged.
            Unreadable: it is not what the Trainer writes.
        """
        (path,) = files
        history = _history(path)
        return ImportedRun(name=path.stem, files=files, frames=lambda: frames_from(_rows(history)))


def _history(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Unreadable(f"it has more than {MAX_BYTES >> 20} MiB")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON, or cut off: {str(error)[:80]}") from error
    history = document.get("log_history") if isinstance(document, dict) else None
    if not isinstance(history, list) or not all(isinstance(item, dict) for item in history):
        raise Unreadable("`log_history` must be a list of objects")
    if not any("loss" in item for item in history):
        raise NoRun("`log_history` has no loss: was `logging_strategy` off?")
    return history


def _rows(history: list[dict[str, Any]]) -> Iterator[LoggedRow]:
    records = Records()
    for index, item in enumerate(history):
        logged = {name: value for name, value in item.items() if name != AT_THE_END}
        row = records.row(logged, f"log_history[{index}]")
        if row is not None:
            yield row
