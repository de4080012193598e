"""The JSON form of a batch: what a person can write by hand and post with curl.

The same header fields as the binary form, all but `origin.run` with a default, and `arrays`, each
nested lists or base64 of the binary form's bytes. JSON has no NaN, so lists carry the strings
"NaN", "Infinity" and "-Infinity"; `null` in `scalars` says that a scalar was not logged. The
smallest batch is one loss:

    {"origin": {"run": "my-run"}, "scalar_names": ["loss"],
     "arrays": {"steps": [100], "scalars": [[2.5]]}}

Without a `seq` a batch gets one made from its content: the same document posted twice is stored
once, and another document is another batch.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import FORMAT, KINDS, MAX_SERIES, ClientCounters, measured_flag

from foreshock_service.errors import Unprocessable

ARRAYS: Final = {
    "steps": "<i8",
    "wall_times": "<f8",
    "scalars": "<f8",
    "stats": "<f4",
    "flags": "<u4",
    "scalar_present": "u1",
}
"""The arrays and their types, in the order of the binary form."""

MAX_STATISTICS: Final = 256
"""More than any schema lists. Sizes are bounded for empty arrays too: a product may overflow."""

SPELLED: Final = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


def binary_parts(document: Any, *, now: float) -> tuple[dict[str, Any], bytes]:
    """The header and the payload of the binary form; the header is not checked yet.

    Raises:
        Unprocessable: an array has a value or a shape that is not allowed.
    """
    if not isinstance(document, dict):
        raise Unprocessable("a batch must be a JSON object with `origin` and `arrays`")
    header = dict(document)
    given = header.pop("arrays", {})
    if not isinstance(given, dict) or not set(given) <= set(ARRAYS):
        raise Unprocessable(f"`arrays` must be an object with some of {', '.join(ARRAYS)}")
    if header.get("tables"):
        raise Unprocessable("`tables` travel only in the binary form")
    origin = header.get("origin")
    if isinstance(origin, dict):
        header["origin"] = {"attempt": 0, **origin}
    names = header.setdefault("scalar_names", [])
    if not isinstance(names, list):
        raise Unprocessable("`scalar_names` must be a list of names")
    arrays = _read_arrays(given, header, len(names), now)
    payload = b"".join(arrays[name].tobytes() for name in ARRAYS)
    defaults = {
        "format": FORMAT,
        "seq": _content_number(document),
        "stream": "main",
        "schema": None,
        "num_frames": len(arrays["steps"]),
        "num_series": arrays["stats"].shape[1],
        "num_statistics": arrays["stats"].shape[2],
        "batch_ids": [],
        "events": [],
        "counters": asdict(ClientCounters()),
        "tables": [],
        "crc32": zlib.crc32(payload),
    }
    return {**defaults, **header}, payload


def _read_arrays(
    given: dict[str, Any], header: dict[str, Any], num_scalars: int, now: float
) -> dict[str, npt.NDArray[Any]]:
    steps = _array("steps", given.get("steps", []), (None,))
    frames = len(steps)
    series, statistics = header.get("num_series"), header.get("num_statistics")
    for name, size, most in (
        ("num_series", series, MAX_SERIES),
        ("num_statistics", statistics, MAX_STATISTICS),
    ):
        if size is not None and (type(size) is not int or not 0 <= size <= most):
            raise Unprocessable(f"`{name}` must be a whole number from 0 to {most}")
    if "stats" in given:
        stats = _array("stats", given["stats"], (frames, series, statistics))
    else:
        stats = np.zeros((frames, series or 0, 0), "<f4")
    if "scalars" in given:
        scalars = _array("scalars", given["scalars"], (frames, num_scalars))
    elif num_scalars and frames:
        raise Unprocessable("`scalar_names` needs `arrays.scalars`, [frames][names]")
    else:
        scalars = np.zeros((frames, num_scalars), "<f8")
    measured = 0
    for kind in KINDS:
        measured |= int(measured_flag(kind))
    present = _logged(given.get("scalars"), scalars.shape)
    return {
        "steps": steps,
        "wall_times": _array("wall_times", given["wall_times"], (frames,))
        if "wall_times" in given
        else np.full(frames, now, "<f8"),
        "scalars": scalars,
        "stats": stats,
        "flags": _array("flags", given["flags"], (frames,))
        if "flags" in given
        else np.full(frames, measured if stats.size else 0, "<u4"),
        "scalar_present": _array("scalar_present", given["scalar_present"], scalars.shape)
        if "scalar_present" in given
        else present,
    }


def _array(name: str, value: Any, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """The array of a base64 string or of nested lists; None in `shape` is any size."""
    dtype = np.dtype(ARRAYS[name])
    if isinstance(value, str):
        flat, found = _from_base64(name, value, dtype, shape)
    elif isinstance(value, list):
        found = _list_shape(value, len(shape))
        values: list[int | float] = []
        _flatten(name, value, found, values)
        try:
            with np.errstate(over="ignore"):
                flat = np.array(values, dtype)
        except OverflowError as error:
            raise Unprocessable(f"`arrays.{name}`: a number is out of range") from error
    else:
        raise Unprocessable(f"`arrays.{name}` must be nested lists, or a string in base64")
    if any(want is not None and want != have for want, have in zip(shape, found, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise Unprocessable(f"`arrays.{name}` has the shape {list(found)}, expected [{wanted}]")
    return flat.reshape(found)


def _from_base64(
    name: str, value: str, dtype: np.dtype[Any], shape: tuple[int | None, ...]
) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unprocessable(f"`arrays.{name}` is not base64: {error}") from error
    if len(data) % dtype.itemsize:
        raise Unprocessable(f"`arrays.{name}` has {len(data)} bytes, not whole {dtype.name}")
    flat = np.frombuffer(data, dtype)
    if len(shape) == 1:
        return flat, (len(flat),)
    sizes = [size for size in shape if size is not None]
    if len(sizes) != len(shape):
        raise Unprocessable("`arrays.stats` in base64 needs `num_series` and `num_statistics`")
    # In Python's integers, which do not wrap.
    count = 1
    for size in sizes:
        count *= size
    if count != len(flat):
        raise Unprocessable(f"`arrays.{name}` has {len(flat)} values, expected {sizes}")
    return flat, tuple(sizes)


def _list_shape(value: Any, depth: int) -> tuple[int, ...]:
    sizes = []
    for _ in range(depth):
        size = len(value) if isinstance(value, list) else 0
        sizes.append(size)
        value = value[0] if size else None
    return tuple(sizes)


def _flatten(name: str, value: Any, shape: tuple[int, ...], into: list[int | float]) -> None:
    """Append nested lists to a flat one, refusing ragged ones and what is no number.

    The flat list grows with the input, and never to what a shape only promises.
    """
    if shape:
        if not isinstance(value, list) or len(value) != shape[0]:
            raise Unprocessable(f"`arrays.{name}` must be nested lists of equal lengths")
        for item in value:
            _flatten(name, item, shape[1:], into)
        return
    if name == "scalars" and value is None:
        value = np.nan
    whole = np.dtype(ARRAYS[name]).kind in "iu"
    if isinstance(value, str) and not whole:
        value = SPELLED.get(value, value)
    if type(value) is not int and (whole or type(value) is not float):
        raise Unprocessable(
            f"`arrays.{name}`: {repr(value)[:64]} is not a {'whole ' * whole}number"
        )
    into.append(value)


def _logged(scalars: Any, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    present = np.ones(shape, np.uint8)
    if isinstance(scalars, list):
        for row, values in enumerate(scalars):
            for column, value in enumerate(values):
                present[row, column] = value is not None
    return present


def _content_number(document: dict[str, Any]) -> int:
    """A `seq` for a document without one: posted twice, it is the same batch."""
    canonical = json.dumps(document, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(canonical).digest()[:6], "big")
