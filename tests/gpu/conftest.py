"""A CupyReducer whose kernels run on the CPU, compiled once for the session."""

from __future__ import annotations

import ctypes

import pytest
from foreshock_gpu.reducer import CupyReducer

from tests.gpu.emulated import SANITISE, EmulatedLauncher, build_shim

ROWS = 8


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels behind the shim, stopped by the undefined-behaviour sanitiser."""
    return build_shim(tmp_path_factory.mktemp("shim"), *SANITISE)


@pytest.fixture
def launcher(shim: ctypes.CDLL) -> EmulatedLauncher:
    """A launcher that counts its launches."""
    return EmulatedLauncher(shim)


@pytest.fixture
def reducer(launcher: EmulatedLauncher) -> CupyReducer:
    """A reducer with ROWS rows."""
    made = CupyReducer(launcher)
    made.resize(ROWS)
    return made
