"""`wandb.watch(log="all", log_freq=10)`, offline, with one log call a step."""

from __future__ import annotations

import json
import struct
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
import wandb
from torch import nn
from wandb.proto.wandb_internal_pb2 import Record

from benchmarks.overhead.variants import Surroundings, Variant

PERIOD: Final = 10
_WAIT_SECONDS: Final = 20.0
_FILE_HEADER: Final = 7
_BLOCK: Final = 32768
_CHUNK: Final = struct.Struct("<IHB")
"""Checksum, length, and whether a record is whole (1) or begins (2), goes on (3) or ends (4)."""


class WandbWatched:
    """A training with `wandb.watch`."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, around: Surroundings
    ) -> None:
        settings = wandb.Settings(console="off", silent=True)
        self._run = wandb.init(mode="offline", dir=str(around.folder), settings=settings)
        self._run.watch(model, log="all", log_freq=PERIOD)
        self._folder = around.folder

    def step(self, index: int, loss: torch.Tensor) -> None:
        """Log the loss, and with it what was watched."""
        self._run.log({"loss": loss.item()})

    def close(self) -> None:
        """End the run, which writes its file."""
        self._run.finish()

    def captured(self) -> Mapping[str, int]:
        """Logged steps and histograms, read back from the run's file."""
        (path,) = self._folder.glob("**/*.wandb")
        counts: Counter[str] = Counter()
        for record in _ended(path):
            if record.HasField("history"):
                counts["steps"] += 1
                counts.update(_watched_kinds(record))
        return counts


def _watched_kinds(record: Record) -> Iterator[str]:
    for item in record.history.item:
        path = list(item.nested_key)
        if path[-1:] == ["_type"] and json.loads(item.value_json) == "histogram":
            yield path[0].partition("/")[0]


def _ended(path: Path) -> list[Record]:
    """The records up to the one of the run's end, which wandb's own process may write some time
    after `finish` has returned; what there is, if it is not there in time."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        records = list(_records(path))
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        time.sleep(0.1)


def _records(path: Path) -> Iterator[Record]:
    """The records of an offline run: blocks of 32 KB, in which a record may be in chunks."""
    content = path.read_bytes()
    offset, whole = _FILE_HEADER, b""
    while offset + _CHUNK.size <= len(content):
        left = _BLOCK - offset % _BLOCK
        if left < _CHUNK.size:
            offset += left
            continue
        _, length, kind = _CHUNK.unpack_from(content, offset)
        offset += _CHUNK.size
        whole += content[offset : offset + length]
        offset += length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def wandb_watched() -> Variant:
    """wandb as its documentation shows it, its period named."""
    expects = {"steps": 1, "gradients": PERIOD, "parameters": PERIOD}
    return Variant(name="wandb.watch, every 10th", attach=WandbWatched, expects=expects)
