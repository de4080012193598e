"""The demo reads the interpreter's own library, and nothing else."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from foreshock.demo.text import NoTextError, batches, library_text


def test_library_text_is_bytes_of_this_interpreters_sources() -> None:
    """The text is real source code, and as much of it as was asked for."""
    text_B = library_text(wanted_bytes=100_000)
    assert text_B.dtype == torch.uint8
    assert len(text_B) == 100_000
    assert b"import " in bytes(text_B.tolist())


def test_library_without_sources_says_what_to_do(tmp_path: Path) -> None:
    """An interpreter that ships compiled files only cannot run the demo, and is told so."""
    (tmp_path / "tiny.py").write_text("x = 1\n")
    with pytest.raises(NoTextError, match="run the demo with a Python whose library has its"):
        library_text(tmp_path)


def test_targets_are_the_inputs_one_byte_later() -> None:
    """Position c of the targets is position c + 1 of the inputs."""
    text_B = torch.arange(200, dtype=torch.uint8)
    inputs_NC, targets_NC = next(batches(text_B, seed=3, batch_size=4, context=8))
    assert inputs_NC.shape == (4, 8)
    assert torch.equal(inputs_NC + 1, targets_NC)


def test_twins_read_the_same_batches() -> None:
    """Two sources with one seed agree, which the demo's verdict relies on; another seed differs."""
    text_B = torch.arange(200, dtype=torch.uint8)

    def first_three(seed: int) -> torch.Tensor:
        source = batches(text_B, seed=seed, batch_size=4, context=8)
        return torch.stack([inputs_NC for inputs_NC, _ in islice(source, 3)])

    assert torch.equal(first_three(7), first_three(7))
    assert not torch.equal(first_three(7), first_three(8))
