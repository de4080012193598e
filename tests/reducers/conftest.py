"""Every reducer that runs on a CPU: each copy of the kernels, and the fallback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.library import instruction_sets, load_library
from foreshock.reducers.protocol import Reducer
from foreshock.reducers.torch_ops import TorchReducer

ROWS = 8
COPIES = instruction_sets(load_library())
"""The copies of the kernels that this machine can run."""


@pytest.fixture(params=[*COPIES, "torch"])
def reducer(request: pytest.FixtureRequest) -> Iterator[Reducer]:
    """A reducer with ROWS rows."""
    library = load_library()
    if request.param in COPIES:
        library.foreshock_use(COPIES.index(request.param))
    made: Reducer = TorchReducer() if request.param == "torch" else CpuReducer()
    made.resize(ROWS)
    yield made
    library.foreshock_use(0)
