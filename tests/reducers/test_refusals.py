"""What cannot be measured is refused with a reason, and nothing is half measured."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from foreshock.errors import ReducerError
from foreshock.reducers import select_reducer
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.library import load_library
from foreshock.reducers.protocol import Reducer, UnitView
from torch._subclasses.fake_tensor import FakeTensorMode


def fake() -> torch.Tensor:
    """A tensor without memory, as inside torch.compile's tracing."""
    with FakeTensorMode():
        return torch.empty(3)


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "integer": (lambda: torch.ones(3, dtype=torch.int64), "dtype is torch.int64"),
    "bool": (lambda: torch.ones(3, dtype=torch.bool), "dtype is torch.bool"),
    "complex": (lambda: torch.ones(3, dtype=torch.complex64), "view_as_real"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "to_dense"),
    "meta": (lambda: torch.empty(3, device="meta"), "meta device"),
    "fake": (fake, "no memory of its own"),
    "float8": (lambda: torch.ones(3).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    "array": (lambda: np.ones(3), "ndarray"),
    "number": (lambda: 1.0, "pass a torch.Tensor"),
    "none": (lambda: None, "NoneType"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_tensor_without_statistics_is_refused(reducer: Reducer, case: str) -> None:
    """The message says what to pass instead; tensors beside the bad one are not measured."""
    make, why = BAD[case]
    with pytest.raises(ReducerError, match=why):
        reducer.measure([0, 1], [torch.ones(3), make()])  # type: ignore[list-item]
    assert np.isnan(reducer.finish().result()[0]).all()


@pytest.mark.parametrize("row", [-1, 8, 1 << 40])
def test_a_row_outside_the_table_is_refused(reducer: Reducer, row: int) -> None:
    """Memory beyond the table is never touched."""
    with pytest.raises(ReducerError, match="resize"):
        reducer.measure([0, row], [torch.ones(3), torch.ones(3)])
    assert np.isnan(reducer.finish().result()[0]).all()


@pytest.mark.parametrize(
    "view",
    [UnitView(2, 2, 2), UnitView(0, 0, 0), UnitView(-2, -3, 1), UnitView(6, -1, -1)],
    ids=str,
)
def test_a_view_that_does_not_cover_the_tensor_is_refused(reducer: Reducer, view: UnitView) -> None:
    """A wrong view would read memory that is not the tensor's."""
    with pytest.raises(ReducerError, match="does not fit"):
        reducer.measure([0], [torch.ones(6)], units=[view])


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_scale_that_is_no_number_is_refused(reducer: Reducer, scale: float) -> None:
    """It would turn every gradient into NaN and look like a fault of the model."""
    with pytest.raises(ReducerError, match="finite"):
        reducer.measure([0], [torch.ones(6)], scale=scale)


def test_lengths_must_agree(reducer: Reducer) -> None:
    """A row without its tensor is a mistake of the caller."""
    with pytest.raises(ValueError, match="shorter"):
        reducer.measure([0, 1], [torch.ones(6)])


@pytest.mark.parametrize(
    ("previous", "why"),
    [
        (torch.ones(2, 3, dtype=torch.float64), "float64"),
        (torch.ones(3, 2), "shape"),
        (torch.ones(6, dtype=torch.int32), "int32"),
    ],
    ids=["dtype", "shape", "integer"],
)
def test_previous_values_must_match(reducer: Reducer, previous: torch.Tensor, why: str) -> None:
    """A wrong buffer is named, and not written to."""
    before = previous.clone()
    with pytest.raises(ReducerError, match=why):
        reducer.measure_update([0], [1], [torch.zeros(2, 3)], [previous])
    assert torch.equal(previous, before)


def test_previous_values_must_be_a_copy(reducer: Reducer) -> None:
    """The weight itself as its own past would always show an update of 0."""
    weight = torch.ones(4)
    with pytest.raises(ReducerError, match="clone"):
        reducer.measure_update([0], [1], [weight], [weight.detach()])


def test_a_table_does_not_shrink(reducer: Reducer) -> None:
    """Rows are handed out for good."""
    with pytest.raises(ReducerError, match="shrink"):
        reducer.resize(3)


def test_a_missing_library_says_what_to_install(tmp_path: Path) -> None:
    """The reader learns of g++ and of the fallback."""
    with pytest.raises(ReducerError, match=r"install g\+\+"):
        CpuReducer(tmp_path / "libforeshock_cpu.so")


def test_a_broken_library_is_an_error_not_a_crash(tmp_path: Path) -> None:
    """A truncated file is refused by the loader, and said so."""
    path = tmp_path / "libforeshock_cpu.so"
    path.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(ReducerError, match="reinstall"):
        load_library(path)


def test_devices_without_a_reducer_are_refused() -> None:
    """The message names the device."""
    with pytest.raises(ReducerError, match="meta"):
        select_reducer(torch.device("meta"))


def test_importing_the_room_imports_no_torch() -> None:
    """`import foreshock` must stay cheap on machines that only send."""
    code = "import foreshock.reducers, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
