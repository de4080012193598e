"""TensorBoard's event files; those of one folder are one run, in the order of their time."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from foreshock_service.errors import Unreadable
from foreshock_service.importers.names import ALIASES, Binding
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.rows import LoggedRow, frames_from

_EVENTS: Final = re.compile(r"\.tfevents\.(\d+)")
_FRAMING_BYTES: Final = 16
"""Length and two checksums around each record, by the TFRecord format:
https://www.tensorflow.org/tutorials/load_data/tfrecord"""


class TensorBoard:
    """Scalars by their tags; a folder is a run, and has its name."""

    format = "TensorBoard events"

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """All event files of the folder: a resumed training writes one more."""
        if not _EVENTS.search(path.name):
            return ()
        return tuple(sorted((p for p in path.parent.iterdir() if _EVENTS.search(p.name)), key=_age))

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run.

        Raises:
            Unreadable: the library that reads the files is not installed.
        """
        _library("tensorboard.backend.event_processing.event_file_loader")
        return ImportedRun(
            name=files[0].resolve().parent.name,
            files=files,
            frames=lambda: frames_from(_rows(files)),
        )


def _age(path: Path) -> tuple[int, str]:
    """When a file was begun, which its name says."""
    found = _EVENTS.search(path.name)
    return (int(found[1][:18]) if found else 0, path.name)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unreadable(
            "event files are read by the library tensorboard; run: "
            "pip install 'foreshock-service[tensorboard]'"
        ) from error


def _rows(files: tuple[Path, ...]) -> Iterator[LoggedRow]:
    """One row a value: `rows` puts together what belongs to a step.

    Only tags that have a name of ours begin a row. Others may count epochs or samples where the
    loss counts steps, and therefore only complete the row of their step.

    Raises:
        Unreadable: at the end, if a file could not be read to its own.
    """
    binding = Binding()
    damaged: list[str] = []
    for path in files:
        try:
            for event in _events(path):
                yield from _values(event, binding)
        except Unreadable as error:
            damaged.append(f"{path.name}: {error}")
    if damaged:
        raise Unreadable("; ".join(damaged))


def _values(event: Any, binding: Binding) -> Iterator[LoggedRow]:
    if not event.HasField("summary") or event.step < 0:
        return
    for value in event.summary.value:
        scalar = _scalar(value)
        if scalar is None:
            continue
        binding.bind([value.tag])
        name = binding.name(value.tag)
        if name is not None:
            yield LoggedRow(
                step=event.step,
                values={name: scalar},
                wall_time=event.wall_time,
                joins=name not in ALIASES,
            )


def _scalar(value: Any) -> float | None:
    """The number of a summary in its first or second form; None for pictures, texts and such."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if not value.HasField("tensor"):
        return None
    tensor = value.tensor
    if any(dimension.size != 1 for dimension in tensor.tensor_shape.dim):
        return None
    numbers = [*tensor.float_val, *tensor.double_val]
    if numbers:
        return float(numbers[0]) if len(numbers) == 1 else None
    if not tensor.tensor_content or len(tensor.tensor_content) > 8:
        return None
    array = _library("tensorboard.util.tensor_util").make_ndarray(tensor)
    return float(array.item()) if array.dtype.kind == "f" and array.size == 1 else None


def _events(path: Path) -> Iterator[Any]:
    loader = _library("tensorboard.backend.event_processing.event_file_loader")
    event = _library("tensorboard.compat.proto.event_pb2").Event
    damage = _library("google.protobuf.message").DecodeError
    num_bytes = 0
    try:
        size = path.stat().st_size
        if not size:
            raise Unreadable("the file is empty")
        for record in loader.RawEventFileLoader(str(path)).Load():
            num_bytes += len(record) + _FRAMING_BYTES
            yield event.FromString(record)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except (damage, MemoryError, OverflowError, ValueError) as error:
        raise Unreadable(f"damaged near byte {num_bytes}: {str(error)[:80]}") from error
    # The loader ends without a word at a record that is cut off or whose checksum is wrong.
    if num_bytes < size:
        raise Unreadable(f"cut off or damaged at byte {num_bytes} of {size}")
