"""Fixtures for every test: one thread for numerical libraries, and real, migrated databases."""

from __future__ import annotations

import os

# Before numpy and torch load: several test runs share few cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

pytest_plugins = [
    "tests.fixtures.corpus",
    "tests.fixtures.databases",
    "tests.fixtures.recordings",
    "tests.fixtures.server",
]
