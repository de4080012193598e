"""Binary answers: the envelope of the wire, so that a page reads both with one function.

u64             length of the header in bytes, a multiple of 8
JSON header     UTF-8, padded with spaces; `arrays` lists name, dtype and shape in order
arrays          little-endian, one behind the other
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from fastapi.responses import Response

MEDIA_TYPE: Final = "application/vnd.foreshock.arrays"
LAYOUT: Final = (
    "The answer is binary, little-endian: u64 length of the header (a multiple of 8); the header, "
    "JSON padded with spaces, whose `arrays` lists `name`, `dtype` and `shape` in order; then the "
    "arrays, one behind the other."
)
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": LAYOUT,
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}

_PREFIX: Final = struct.Struct("<Q")


def pack(header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of an answer.

    Raises:
        ValueError: the header holds NaN or Inf.
    """
    little = {
        name: np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        for name, array in arrays.items()
    }
    listed = [
        {"name": name, "dtype": array.dtype.str, "shape": list(array.shape)}
        for name, array in little.items()
    ]
    text = json.dumps({**header, "arrays": listed}, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([_PREFIX.pack(len(text)), text, *(a.tobytes() for a in little.values())])


def unpack(body: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """The header and the arrays of an answer, for programs in Python."""
    (length,) = _PREFIX.unpack_from(body)
    header: dict[str, Any] = json.loads(body[_PREFIX.size : _PREFIX.size + length])
    offset, arrays = _PREFIX.size + length, {}
    for item in header["arrays"]:
        dtype = np.dtype(item["dtype"])
        count = int(np.prod(item["shape"], dtype=np.int64))
        arrays[item["name"]] = np.frombuffer(body, dtype, count, offset).reshape(item["shape"])
        offset += count * dtype.itemsize
    return header, arrays


def binary(header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Response:
    """An answer of the API in this envelope."""
    return Response(pack(header, arrays), media_type=MEDIA_TYPE)
