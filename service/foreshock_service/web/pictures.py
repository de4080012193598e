"""Small pictures that need no script: a line of the loss, and a thumbnail of the heatmap."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SPARK_WIDTH: Final = 150
SPARK_HEIGHT: Final = 30
CALM_DECADES: Final = float(np.log10(2.0))
"""Within a factor of two of its baseline a cell is calm; at a thousandfold it has full colour."""
FULL_DECADES: Final = 3.0

_ABOVE: Final = np.array([214, 84, 32], np.float64)
_BELOW: Final = np.array([58, 124, 208], np.float64)
_NONFINITE: Final = np.array([214, 0, 194, 255], np.uint8)

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """An SVG path over 150 x 30 units, where the incident began, and where the value was broken."""

    path: str
    label: str
    mark: float | None = None
    broken: list[float] = field(default_factory=list)


def spark(values: Floats, broken: npt.NDArray[np.bool_], *, mark: float | None) -> Spark | None:
    """A line through `values` [n], on a log scale where all are positive; None without any.

    `broken` [n] marks NaN and Inf that were logged; `mark` is a share of the width.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return None
    shown = np.where(finite, values, np.nan).astype(np.float64)
    if np.nanmin(shown) > 0:
        shown = np.log(shown)
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    x = (np.arange(len(shown)) + 0.5) / len(shown) * SPARK_WIDTH
    # A constant line lies in the middle.
    share = (shown - low) / (high - low) if high > low else np.full_like(shown, 0.5)
    y = SPARK_HEIGHT - 3 - share * (SPARK_HEIGHT - 6)
    parts, drawing = [], False
    for index in range(len(shown)):
        if finite[index]:
            parts.append(f"{'L' if drawing else 'M'}{x[index]:.1f} {y[index]:.1f}")
        drawing = bool(finite[index])
    return Spark(
        path="".join(parts),
        label=f"Loss from {_first(values):.3g} to {_last(values):.3g}",
        mark=None if mark is None else round(mark * SPARK_WIDTH, 1),
        broken=[round(float(place), 1) for place in x[broken]],
    )


def thumbnail(
    decades: Floats, nonfinite: npt.NDArray[np.bool_], *, width: int = 168, height: int = 30
) -> bytes:
    """A PNG of deviations from the baseline, [series, columns], transparent where calm.

    Each pixel shows its farthest cell. Transparency lets one picture serve both themes. `decades`
    is NaN where nothing is known; `nonfinite` marks NaN and Inf.
    """
    size = np.nan_to_num(np.abs(decades.astype(np.float64)), nan=0.0, posinf=FULL_DECADES)
    strength = _pool(size, height, width)
    above = _pool(np.where(np.nan_to_num(decades) > 0, size, 0.0), height, width) >= strength
    opacity = np.clip((strength - CALM_DECADES) / (FULL_DECADES - CALM_DECADES), 0.0, 1.0) ** 0.5
    pixels = np.zeros((*strength.shape, 4), np.uint8)
    pixels[..., :3] = np.where(above[..., None], _ABOVE, _BELOW)
    pixels[..., 3] = np.rint(opacity * 255)
    pixels[_pool(nonfinite.astype(np.float64), height, width) > 0] = _NONFINITE
    return _png(pixels)


def _pool(cells: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    """The largest cell under each of [height, width] pixels; fewer cells are repeated."""
    for axis, target in ((0, height), (1, width)):
        count = cells.shape[axis]
        if count > target:
            starts = (np.arange(target) * count) // target
            cells = np.maximum.reduceat(cells, starts, axis=axis)
        else:
            cells = np.take(cells, (np.arange(target) * count) // target, axis=axis)
    return cells


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An RGBA PNG (W3C PNG specification, 11.2: IHDR, IDAT, IEND; filter 0 on every line)."""
    height, width, _ = pixels.shape
    lines = np.concatenate(
        [np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 4)], axis=1
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _first(values: Floats) -> float:
    return float(values[np.isfinite(values)][0])


def _last(values: Floats) -> float:
    return float(values[np.isfinite(values)][-1])
