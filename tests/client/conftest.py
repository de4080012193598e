"""A spool of its own for every test, and a watch that ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import foreshock
import pytest
from foreshock.testing import RecordingTransport
from foreshock.watching import Watch
from torch import nn

Attach = Callable[..., tuple[Watch, RecordingTransport]]


@pytest.fixture(autouse=True)
def spool_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spool of this test, and none of the caller's settings."""
    for name in ("RUN_ID", "URL", "TOKEN", "ATTEMPT", "ENABLED"):
        monkeypatch.delenv(f"FORESHOCK_{name}", raising=False)
    folder = tmp_path / "spool"
    monkeypatch.setenv("FORESHOCK_SPOOL_DIR", str(folder))
    return folder


@pytest.fixture
def attach() -> Iterator[Attach]:
    """Watch a model into memory, measuring everything on every step unless told otherwise."""
    with ExitStack() as stack:

        def start(model: nn.Module, optimizer: Any = None, **settings: Any) -> Any:
            transport = settings.pop("transport", None) or RecordingTransport()
            everything = {
                "activation_every": 1,
                "activation_grad_every": 1,
                "histogram_every": 1,
                "overhead_budget": 0,
            }
            watch = foreshock.watch(
                model,
                optimizer,
                transport=transport,
                **{**everything, "batch_seconds": 0.05, **settings},
            )
            stack.callback(watch.close)
            return watch, transport

        yield start
