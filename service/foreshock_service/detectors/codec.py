"""State as bytes: a JSON tree with numpy arrays, without pickle, so that a database can't run code.

Layout: u64 length, JSON, then the arrays' little-endian bytes; an array is {"$": [dtype, shape]}.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final

import numpy as np

_PREFIX: Final = struct.Struct("<Q")
_DTYPES: Final = ("<f8", "<f4", "<i8", "|b1")
UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What goes wrong with a state that another version has saved, as it is read or on its next row."""


def encode_state(state: Any) -> bytes:
    """Bytes of a tree of dicts with string keys, lists, JSON scalars and numpy arrays."""
    blobs: list[bytes] = []

    def pack(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            dtype = value.dtype.str
            if dtype not in _DTYPES:
                raise ValueError(f"state holds an array of {dtype}, expected one of {_DTYPES}")
            blobs.append(np.ascontiguousarray(value).tobytes())
            return {"$": [dtype, list(value.shape)]}
        if isinstance(value, dict):
            return {str(key): pack(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [pack(item) for item in value]
        if isinstance(value, np.generic):
            return value.item()
        return value

    text = json.dumps(pack(state), separators=(",", ":")).encode()
    return _PREFIX.pack(len(text)) + text + b"".join(blobs)


def decode_state(data: bytes) -> Any:
    """The tree that `encode_state` was given; tuples come back as lists.

    Raises:
        ValueError: the bytes are cut off or are no state.
    """
    if len(data) < _PREFIX.size:
        raise ValueError("detector state: too short")
    (length,) = _PREFIX.unpack_from(data)
    if len(data) < _PREFIX.size + length:
        raise ValueError("detector state: cut off inside its header")
    offset = _PREFIX.size + length

    def unpack(value: Any) -> Any:
        nonlocal offset
        if isinstance(value, dict):
            if value.keys() == {"$"}:
                dtype, shape = value["$"]
                if dtype not in _DTYPES:
                    raise ValueError(f"detector state: array of {dtype}")
                count = int(np.prod(shape, dtype=np.int64))
                array = np.frombuffer(data, dtype, count, offset).reshape(shape).copy()
                offset += array.nbytes
                return array
            return {key: unpack(item) for key, item in value.items()}
        if isinstance(value, list):
            return [unpack(item) for item in value]
        return value

    return unpack(json.loads(data[_PREFIX.size : _PREFIX.size + length]))
