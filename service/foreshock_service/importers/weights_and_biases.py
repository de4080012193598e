"""W&B's run files: the history of a run as it lies on the disk, sent to a server or not.

A `.wandb` file begins with 7 bytes of its own and is then a LevelDB log of protocol buffers:
https://github.com/google/leveldb/blob/main/doc/log_format.md. The library brings the messages; its
reader of the log went from Python into a program of its own, and so is written here.
"""

from __future__ import annotations

import importlib
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from foreshock_service.errors import Unreadable
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.records import Records
from foreshock_service.importers.rows import LoggedRow, frames_from

SUFFIX: Final = ".wandb"
MAX_RECORD_BYTES: Final = 256 << 20
_START: Final = struct.Struct("<4sHB")
_IDENTITY: Final = (b":W&B", 0xBEE1)
_HEADER: Final = struct.Struct("<IHB")
_BLOCK_BYTES: Final = 32 << 10
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_KEPT: Final = ("_step", "_timestamp")
"""What W&B adds to a row itself and is of use here."""


class WeightsAndBiases:
    """A run's `.wandb` file; the run has the name of its folder."""

    format = "W&B run"

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """The file alone."""
        return (path,) if path.suffix == SUFFIX else ()

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run.

        Raises:
            Unreadable: the library that knows the messages is not installed.
        """
        (path,) = files
        _messages()
        return ImportedRun(
            name=path.resolve().parent.name,
            files=files,
            frames=lambda: frames_from(_rows(path)),
        )


def _messages() -> Any:
    try:
        return importlib.import_module("wandb.proto.wandb_internal_pb2")
    except ImportError as error:
        raise Unreadable(
            "W&B runs are read with the library wandb; run: pip install 'foreshock-service[wandb]'"
        ) from error


def _rows(path: Path) -> Iterator[LoggedRow]:
    message = _messages().Record
    damage = importlib.import_module("google.protobuf.message").DecodeError
    records = Records()
    for number, data in enumerate(_log(path), 1):
        where = f"record {number}"
        try:
            record = message.FromString(data)
        except damage as error:
            raise Unreadable(f"{where} is damaged: {str(error)[:80]}") from error
        if record.WhichOneof("record_type") == "history":
            row = records.row(_history(record.history, where), where)
            if row is not None:
                yield row


def _history(history: Any, where: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if history.HasField("step"):
        values["_step"] = history.step.num
    for item in history.item:
        name = "/".join(item.nested_key) or item.key
        if name.startswith("_") and name not in _KEPT:
            continue
        try:
            values[name] = json.loads(item.value_json)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"{where}: {name[:40]!r} is no JSON") from error
    return values


def _log(path: Path) -> Iterator[bytes]:
    """The records of the log.

    Raises:
        Unreadable: the file is another, or is cut off or damaged from here on.
    """
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise Unreadable("the file is empty")
            start = file.read(_START.size)
            if len(start) < _START.size or _START.unpack(start)[:2] != _IDENTITY:
                raise Unreadable("it does not begin as a W&B run does")
            yield from _assembled(file)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def _assembled(file: IO[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    num_bytes = 0
    for kind, data in _pieces(file):
        begins = kind in (_FULL, _FIRST)
        if begins == bool(parts):
            raise Unreadable(f"the log is damaged near byte {file.tell()}")
        num_bytes = len(data) + (0 if begins else num_bytes)
        if num_bytes > MAX_RECORD_BYTES:
            raise Unreadable(f"a record has more than {MAX_RECORD_BYTES >> 20} MiB")
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts = []
    if parts:
        raise Unreadable("the last record is cut off")


def _pieces(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    while True:
        # Blocks are counted from the beginning of the file; too little room for a header is zeros.
        left = _BLOCK_BYTES - file.tell() % _BLOCK_BYTES
        if left < _HEADER.size:
            file.read(left)
        header = file.read(_HEADER.size)
        if not header:
            return
        if len(header) < _HEADER.size:
            raise Unreadable("the last record is cut off")
        checksum, length, kind = _HEADER.unpack(header)
        if not (checksum or length or kind):
            return
        data = file.read(length)
        if len(data) < length:
            raise Unreadable("the last record is cut off")
        if not _FULL <= kind <= _LAST or checksum != zlib.crc32(data, zlib.crc32(bytes([kind]))):
            raise Unreadable(f"the log is damaged near byte {file.tell()}")
        yield kind, data
