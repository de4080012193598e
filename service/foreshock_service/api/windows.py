"""A range of a run in as many columns as a screen has: heatmap, scalars, one series."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from foreshock.wire import MAX_SERIES

from foreshock_service.api import codes
from foreshock_service.api.access import MayRead
from foreshock_service.api.context import InContext
from foreshock_service.api.envelope import RESPONSES, binary
from foreshock_service.api.parameters import Columns, From, Rank, RunId, To
from foreshock_service.errors import Unprocessable
from foreshock_service.store import runs
from foreshock_service.store.extent import Range
from foreshock_service.store.pooling import Axis
from foreshock_service.store.session import ReadSession
from foreshock_service.store.snapshots import centres
from foreshock_service.store.windows import (
    StatsWindow,
    heatmap_window,
    scalar_window,
    series_window,
)

router = APIRouter(tags=["windows"])

DEFAULT_COLUMNS: Final = 1000
MAX_NAMES: Final = 64
DEVIATING: Final = "rms"
"""The statistic whose normal the baselines know."""

Statistic = Annotated[
    str, Query(max_length=32, description="A statistic of the schema, or `rms`, `l2`, `abs_max`.")
]


@router.get(
    "/runs/{run}/heatmap",
    summary="Layers by steps",
    response_class=Response,
    responses=RESPONSES,
)
def get_heatmap(
    run: RunId,
    context: InContext,
    _actor: MayRead,
    kind: Annotated[str, Query(max_length=32, description="`gradient`, `activation`, ...")],
    statistic: Statistic = DEVIATING,
    mode: Literal["absolute", "deviation"] = "absolute",
    from_ord: From = None,
    to_ord: To = None,
    columns: Columns = DEFAULT_COLUMNS,
    rank: Rank = 0,
) -> Response:
    """A statistic of every series of one kind, as codes that an integer maximum may pool.

    Arrays: `codes` u16 [series, columns]; `series` i32 [series], the index of each row; `ords` i64,
    `steps` i64 and `attempts` i64 [columns], those of a column's first frame. Header: `from`, `to`,
    `width` in frames, `mode`, and `lo`, `hi`, log10 of the values of codes 1 and 65000 (absolute),
    or `scale`, codes a decade (deviation).

    Codes: 0 missing, 65534 infinite, 65535 NaN (or NaN or Inf elements in the tensor). Absolute:
    1 to 65000 linear in log10 |value| from `lo` to `hi`. Deviation, of `rms` only: 1 + 2 * |decades
    off the series' own normal| * `scale`, plus 1 below it.
    """
    if mode == "deviation" and statistic != DEVIATING:
        raise Unprocessable(f"mode deviation knows the normal of {DEVIATING} only: ask for it")
    with context.store.read() as session:
        runs.get(session, run)
        window = heatmap_window(
            session,
            run,
            rank,
            kind=kind,
            statistic=statistic,
            wanted=_range(from_ord, to_ord),
            max_columns=columns,
        )
        centre = _centres(session, run, rank, window) if mode == "deviation" else None
    header: dict[str, Any] = {"mode": mode, "kind": kind, "statistic": statistic}
    if centre is not None:
        coded = _deviation(window, centre)
        header["scale"] = codes.CODES_A_DECADE
    else:
        coded, scale = _absolute(window)
        header.update(lo=scale.lo, hi=scale.hi)
    return _answer(header, window.axis, codes=coded, series=window.series.astype(np.int32))


@router.get("/runs/{run}/scalars", summary="Scalars", response_class=Response, responses=RESPONSES)
def get_scalars(
    run: RunId,
    context: InContext,
    _actor: MayRead,
    names: Annotated[
        str | None,
        Query(max_length=4096, description="Joined by commas; default: those of the newest frame."),
    ] = None,
    from_ord: From = None,
    to_ord: To = None,
    columns: Columns = DEFAULT_COLUMNS,
    rank: Rank = 0,
) -> Response:
    """What was logged at each step: loss, learning rate, norms.

    Arrays: `min`, `mean`, `max` f64 [names, columns] over the finite values, NaN without any;
    `nonfinite` u8, 1 where NaN or Inf was logged; `ords`, `steps`, `attempts` i64 [columns].
    Header: `names`, `from`, `to`, `width`.
    """
    wanted = None if names is None else [name for name in names.split(",") if name]
    if wanted is not None and len(wanted) > MAX_NAMES:
        raise Unprocessable(f"{len(wanted)} names: ask for {MAX_NAMES} at once")
    with context.store.read() as session:
        runs.get(session, run)
        window = scalar_window(
            session,
            run,
            rank,
            names=wanted,
            wanted=_range(from_ord, to_ord),
            max_columns=columns,
        )
    return _answer(
        {"names": list(window.names)},
        window.axis,
        min=window.low,
        mean=window.mean,
        max=window.high,
        nonfinite=window.nonfinite.astype(np.uint8),
    )


@router.get(
    "/runs/{run}/series/{index}",
    summary="One series",
    response_class=Response,
    responses=RESPONSES,
)
def get_line(
    run: RunId,
    index: Annotated[int, Path(ge=0, lt=MAX_SERIES, description="Its place in the table.")],
    context: InContext,
    _actor: MayRead,
    statistic: Statistic = DEVIATING,
    from_ord: From = None,
    to_ord: To = None,
    columns: Columns = DEFAULT_COLUMNS,
    rank: Rank = 0,
) -> Response:
    """One statistic of one series.

    Arrays: `min`, `mean`, `max` f32 [columns] over the finite values; `nonfinite` u8; `baseline`
    f32 [columns], the series' own normal (`rms` only, else NaN); `ords`, `steps`, `attempts` i64
    [columns]. Header: `index`, `statistic`, `from`, `to`, `width`.
    """
    with context.store.read() as session:
        runs.get(session, run)
        window = series_window(
            session,
            run,
            rank,
            index=index,
            statistic=statistic,
            wanted=_range(from_ord, to_ord),
            max_columns=columns,
        )
        baseline = np.full(window.low.shape, np.nan)
        if statistic == DEVIATING:
            baseline = np.exp2(_centres(session, run, rank, window))
    return _answer(
        {"index": index, "statistic": statistic},
        window.axis,
        min=window.low[0],
        mean=window.mean[0],
        max=window.high[0],
        nonfinite=window.nonfinite[0].astype(np.uint8),
        baseline=baseline[0].astype(np.float32),
    )


def _range(from_ord: int | None, to_ord: int | None) -> Range:
    if from_ord is not None and to_ord is not None and to_ord < from_ord:
        raise Unprocessable(f"from {from_ord} to {to_ord}: `to` must not be before `from`")
    return Range(from_ord=from_ord, to_ord=to_ord)


def _centres(
    session: ReadSession, run: str, rank: int, window: StatsWindow
) -> npt.NDArray[np.float64]:
    return centres(
        session,
        run,
        rank,
        schema_hash=window.schema_hash,
        series=window.series,
        ords=window.axis.ord,
    )


def _absolute(window: StatsWindow) -> tuple[codes.Codes, codes.LogRange]:
    values = np.fmax(np.abs(window.low), np.abs(window.high))
    scale = codes.log_range(values)
    hidden = window.nonfinite & ~np.isinf(values)
    return codes.encode_absolute(values, ~np.isnan(values), scale, nan=hidden), scale


def _deviation(window: StatsWindow, centre: npt.NDArray[np.float64]) -> codes.Codes:
    # The farther of the two ends is what a column shows, with its direction.
    both = [
        codes.encode_deviation(
            ends, ~np.isnan(ends), centre, nan=window.nonfinite & ~np.isinf(window.high)
        )
        for ends in (window.low, window.high)
    ]
    farther: codes.Codes = np.maximum(*both)
    return farther


def _answer(header: dict[str, Any], axis: Axis, **arrays: npt.NDArray[Any]) -> Response:
    first = int(axis.ord[0]) if len(axis.ord) else 0
    end = int(axis.ord[-1]) + axis.width if len(axis.ord) else 0
    return binary(
        {**header, "from": first, "to": end, "width": axis.width},
        {**arrays, "ords": axis.ord, "steps": axis.step, "attempts": axis.attempt},
    )
