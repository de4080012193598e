"""What only a GPU can show; run with `pytest -m gpu tests/gpu`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from foreshock.errors import ReducerError
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.protocol import Reducer, UnitView
from foreshock_gpu import bench
from foreshock_gpu.reducer import CupyReducer

from tests.reducers.oracle import Histogram, Stats


@pytest.fixture
def on_gpu() -> CupyReducer:
    """The reducer of the GPU, or a skip that says what is missing."""
    try:
        return CupyReducer()
    except ReducerError as error:
        pytest.skip(str(error))


def step(reducer: Reducer, device: str) -> tuple[Stats, Histogram]:
    """All entry points over all dtypes on one device."""
    reducer.resize(10)
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(300, 1000, generator=generator, dtype=torch.float64)
    wide[3, 5], wide[7, 11], wide[:, 13] = float("nan"), float("inf"), 0.0
    for row, dtype in enumerate((torch.float32, torch.bfloat16, torch.float16, torch.float64)):
        tensor = wide.to(dtype).to(device)
        reducer.measure([row], [tensor], units=[UnitView(300, 1000, 1)], scale=0.5)
        reducer.measure([4 + row], [tensor[1:, ::3]], scale=torch.tensor(0.25, device=device))
    weight = wide.float().to(device)
    reducer.measure_update([8], [9], [weight], [weight * 0.99])
    return reducer.finish().result()


@pytest.mark.gpu
def test_the_gpu_measures_what_the_cpu_measures(on_gpu: CupyReducer) -> None:
    """The same statistics within rounding, and the same histograms exactly."""
    stats, histogram = step(on_gpu, "cuda")
    want, want_histogram = step(CpuReducer(), "cpu")
    np.testing.assert_allclose(stats, want, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(histogram, want_histogram)


@pytest.mark.gpu
def test_work_follows_the_current_stream(on_gpu: CupyReducer) -> None:
    """A tensor that is still being written on a side stream is measured after that."""
    on_gpu.resize(1)
    with torch.cuda.stream(torch.cuda.Stream()):
        tensor = torch.zeros(1 << 24, device="cuda")
        for _ in range(50):
            tensor += 1.0
        on_gpu.measure([0], [tensor])
        stats, _ = on_gpu.finish().result()
    assert stats[0, 1] == 50.0


def test_the_benchmark_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a GPU it ends with a status and a reason instead of a traceback."""
    monkeypatch.setattr("sys.argv", ["bench"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert bench.main() == 1
    assert "install" in capsys.readouterr().err
