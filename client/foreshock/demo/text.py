"""The demo's data: bytes of the Python interpreter's own library, read from the disk.

No download, no licence question, and enough structure for a small language model to learn within a
few hundred steps.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch

from foreshock.errors import ForeshockError

VOCABULARY = 256
"""One token a byte."""
WANTED_BYTES = 2_000_000
"""Far more than 360 steps of 16 x 64 bytes read, so that the model cannot learn it by heart."""


class NoTextError(ForeshockError, OSError):
    """The interpreter's library has too little source text to train on."""


def library_text(folder: Path | None = None, *, wanted_bytes: int = WANTED_BYTES) -> torch.Tensor:
    """Source bytes of the standard library as uint8 [bytes], the same for the same interpreter.

    Reads `folder` (None: the interpreter's own library) in the order of file names until
    `wanted_bytes` are collected. Raises `NoTextError` if less than a hundredth of that is there, as
    in an interpreter that ships compiled files only.
    """
    root = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
    text = bytearray()
    for source in sorted(root.glob("*.py")):
        text += source.read_bytes()
        if len(text) >= wanted_bytes:
            break
    if len(text) * 100 < wanted_bytes:
        raise NoTextError(
            f"found only {len(text)} bytes of .py files in {root}; run the demo with a Python "
            "whose library has its sources"
        )
    return torch.frombuffer(text, dtype=torch.uint8)[:wanted_bytes]


def batches(
    text_B: torch.Tensor, *, seed: int, batch_size: int, context: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (inputs, targets), both int64 [batch_size, context], drawn with `seed`."""
    generator = torch.Generator().manual_seed(seed)
    offsets_C = torch.arange(context + 1)
    while True:
        starts_N = torch.randint(len(text_B) - context - 1, (batch_size,), generator=generator)
        window_NC = text_B[starts_N[:, None] + offsets_C].long()
        yield window_NC[:, :-1], window_NC[:, 1:]
