"""The statistics by their definitions, in numpy's long double, sharing nothing with the kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from foreshock.reducers.protocol import UnitView
from foreshock.wire.names import STATISTICS

Stats = npt.NDArray[np.float32]
Histogram = npt.NDArray[np.uint32]


def values(tensor: torch.Tensor, scale: float = 1.0) -> npt.NDArray[np.float64]:
    """`scale * tensor` as defined: rounded to float32, except for float64."""
    if tensor.dtype == torch.float64:
        return tensor.detach().numpy() * scale
    with np.errstate(all="ignore"):
        single = tensor.detach().float().numpy() * np.float32(scale)
    return single.astype(np.float64)


def expected(x: npt.NDArray[np.float64]) -> dict[str, float]:
    """Every statistic without units, of all elements in any order."""
    finite = x[np.isfinite(x)].astype(np.longdouble)
    result = dict.fromkeys(STATISTICS, float("nan"))
    result["count"] = x.size
    result["nan_count"] = int(np.isnan(x).sum())
    result["inf_count"] = int(np.isinf(x).sum())
    if finite.size == 0:
        return result
    d = finite - finite.mean()
    variance = (d**2).mean()
    nonzero = finite[finite != 0]
    result["mean"] = float(finite.mean())
    result["std"] = float(np.sqrt(variance))
    result["min"], result["max"] = float(finite.min()), float(finite.max())
    result["zero_frac"] = float((finite == 0).mean())
    constant = finite.min() == finite.max()
    result["kurtosis"] = 0.0 if constant else float((d**4).mean() / variance**2 - 3)
    tiny = np.abs(nonzero) < 2.0**-24
    result["underflow_frac"] = float(tiny.mean()) if nonzero.size else 0.0
    result["overflow_frac"] = float((np.abs(finite) >= 2.0**16).mean())
    return result


def expected_units(x: npt.NDArray[np.float64], view: UnitView) -> tuple[float, float]:
    """batch_std and inactive_unit_frac of [outer, units, inner]."""
    cube = x.reshape(view.outer, view.units, view.inner)
    columns = [cube[:, unit, :].ravel().astype(np.longdouble) for unit in range(view.units)]
    variances = [c[np.isfinite(c)].var() for c in columns if np.isfinite(c).any()]
    batch_std = float(np.sqrt(np.mean(variances))) if variances else float("nan")
    return batch_std, float(np.mean([bool((c == 0).all()) for c in columns]))


def expected_histogram(x: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Counts of float32 exponent fields, four a bin, by frexp instead of by bits."""
    fields = np.full(x.shape, 255)
    finite = np.isfinite(x)
    _, exponents = np.frexp(x[finite])
    moved = np.where(x[finite] == 0, 0, np.clip(exponents - 1 + 127, 0, 254))
    fields[finite] = moved
    return np.bincount(fields.ravel() >> 2, minlength=64)


def check(
    found: tuple[Stats, Histogram],
    row: int,
    x: npt.NDArray[np.float64],
    *,
    names: Sequence[str] = STATISTICS[:11],
    rtol: float = 2e-6,
) -> None:
    """Assert that a row holds the statistics of `x`; counts and extremes must be exact."""
    stats, histogram = found
    want = expected(x.ravel())
    spread = want["std"] if np.isfinite(want["std"]) else 0.0
    for name in names:
        got = float(stats[row, STATISTICS.index(name)])
        if name in ("count", "nan_count", "inf_count", "min", "max"):
            # Which sign the least of several zeros has is not defined; + 0.0 makes it plus.
            exact = float(np.float32(want[name])) + 0.0
            np.testing.assert_equal(got + 0.0, exact, err_msg=name)
        else:
            near_zero = {"mean": 1e-6 * spread, "kurtosis": 1e-5}.get(name, 0.0)
            np.testing.assert_allclose(got, want[name], rtol=rtol, atol=near_zero, err_msg=name)
    np.testing.assert_array_equal(histogram[row], expected_histogram(x.ravel()))
