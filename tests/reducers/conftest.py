"""Every reducer that runs on a CPU: both instruction sets of the kernels, and the fallback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.library import load_library
from foreshock.reducers.protocol import Reducer
from foreshock.reducers.torch_ops import TorchReducer

ROWS = 8


@pytest.fixture(params=["native", "portable", "torch"])
def reducer(request: pytest.FixtureRequest) -> Iterator[Reducer]:
    """A reducer with ROWS rows."""
    library = load_library()
    library.foreshock_use_portable(request.param == "portable")
    made: Reducer = TorchReducer() if request.param == "torch" else CpuReducer()
    made.resize(ROWS)
    yield made
    library.foreshock_use_portable(0)
