"""Labelled traces: `ID.npz` with the arrays of a run, `ID.json` with what they are.

Of the description only `optimizer`, `scalars`, `stat_names` and `series` are read: the label, and
what gives it away, must not reach detection.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.errors import WireError
from foreshock.wire import STATISTICS, FrameFlag, SeriesSchema, schema_from_json

from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.frames import Frame
from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.names import LOSS
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.rows import NO_TIME

MAX_ARRAY_BYTES: Final = 2 << 30
MAX_DESCRIPTION_BYTES: Final = 64 << 20
_KINDS: Final = {
    "step": "iu", "attempt": "iu", "flags": "iu", "scalars": "f", "logged": "b", "stats": "f",
}  # fmt: skip
_DIMENSIONS: Final = {
    "step": 1, "attempt": 1, "flags": 1, "scalars": 2, "logged": 2, "stats": 3,
}  # fmt: skip
_NEEDED: Final = ("step", "scalars", "stats")
_KNOWN_FLAGS: Final = sum(FrameFlag)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    optimizer: str
    scalars: tuple[str, ...]
    statistics: tuple[str, ...]
    schema: SeriesSchema


class Traces:
    """A pair of files: either of them stands for both."""

    format = "labelled trace"

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """Both, if both are there; a `.npz` alone is of this format, and lacks its description."""
        suffix = path.suffix.lower()
        if suffix not in (".npz", ".json"):
            return ()
        arrays, description = path.with_suffix(".npz"), path.with_suffix(".json")
        return (arrays, description) if suffix == ".npz" or arrays.is_file() else ()

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run; its description is read and held against it at once.

        Raises:
            Unreadable: the description is missing or wrong.
        """
        arrays, path = files
        description = _describe(path)
        return ImportedRun(
            name=arrays.stem,
            files=files,
            facts=RunFacts(optimizer=description.optimizer),
            frames=lambda: _frames(arrays, description),
        )


def _describe(path: Path) -> _Description:
    try:
        if path.stat().st_size > MAX_DESCRIPTION_BYTES:
            raise Unreadable(f"{path.name} has more than {MAX_DESCRIPTION_BYTES >> 20} MiB")
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NoRun(f"{path.name} is missing, which says what the arrays are") from error
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path.name} is no JSON: {str(error)[:80]}") from error
    if not isinstance(document, dict) or "series" not in document:
        raise NoRun(f"{path.name} does not list the `series` of the arrays")
    scalars, statistics = (_names(document, key) for key in ("scalars", "stat_names"))
    optimizer = document.get("optimizer", "")
    try:
        schema = schema_from_json(
            {"statistics": list(STATISTICS), "series": document.get("series")}
        )
    except WireError as error:
        raise Unreadable(f"{path.name}: {error}") from error
    return _Description(
        optimizer=optimizer if isinstance(optimizer, str) else "",
        scalars=scalars,
        statistics=statistics,
        schema=schema,
    )


def _names(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = document.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unreadable(f"`{key}` of the description must be a list of names")
    if len(set(names)) != len(names):
        raise Unreadable(f"`{key}` of the description lists a name twice")
    return tuple(names)


def _frames(path: Path, about: _Description) -> Iterator[Frame]:
    """The rows. The traces do not record `count`: it is the series' size where it was measured."""
    arrays = _load(path)
    steps, scalars, stats = arrays["step"], arrays["scalars"], arrays["stats"]
    _check_shapes(arrays, about)
    schema = about.schema
    sizes = np.array([series.numel for series in schema.series], np.float32)
    kept = [
        (column, about.statistics.index(name))
        for column, name in enumerate(STATISTICS)
        if name in about.statistics
    ]
    into, taken = [column for column, _ in kept], [index for _, index in kept]
    ever = np.isfinite(scalars).any(axis=0)
    is_loss = np.array([name == LOSS for name in about.scalars], np.bool_)
    attempts, flags, logged = arrays.get("attempt"), arrays.get("flags"), arrays.get("logged")
    attempt = 0
    for row in range(len(steps)):
        if attempts is not None:
            attempt = int(attempts[row])
        elif row and steps[row] <= steps[row - 1]:
            attempt += 1
        table = np.full((len(schema.series), len(STATISTICS)), np.nan, np.float32)
        table[:, into] = stats[row][:, taken]
        table[:, 0] = np.where(np.isnan(table[:, 1]), np.nan, sizes)
        if logged is not None:
            there = logged[row]
        else:
            there = ever & ~np.isnan(scalars[row])
            there |= _is_lost(about, scalars[row], table) & is_loss
        present = {name: float(scalars[row, i]) for i, name in enumerate(about.scalars) if there[i]}
        yield Frame(
            ord=row,
            attempt=attempt,
            step=int(steps[row]),
            wall_time=NO_TIME,
            flags=FrameFlag(0 if flags is None else int(flags[row]) & _KNOWN_FLAGS),
            scalars=present,
            stats=table,
            schema=schema,
        )


def _is_lost(about: _Description, scalars: npt.NDArray[Any], table: npt.NDArray[Any]) -> bool:
    """Whether a loss that is NaN on this row was NaN, or was not logged: the format has one mark
    for both. A loss that is no number leaves its trace in the gradients, so that a row on which
    every tensor is finite did not log it."""
    if not about.schema.series:
        return True
    counts = table[:, [STATISTICS.index("nan_count"), STATISTICS.index("inf_count")]]
    norms = [scalars[i] for i, name in enumerate(about.scalars) if name == "grad_norm"]
    return bool((counts > 0).any()) or any(np.isinf(norm) for norm in norms)


def _check_shapes(arrays: Mapping[str, npt.NDArray[Any]], about: _Description) -> None:
    num_rows = len(arrays["step"])
    expected = {
        "attempt": (num_rows,),
        "flags": (num_rows,),
        "scalars": (num_rows, len(about.scalars)),
        "logged": (num_rows, len(about.scalars)),
        "stats": (num_rows, len(about.schema.series), len(about.statistics)),
    }
    for name, shape in expected.items():
        if name in arrays and arrays[name].shape != shape:
            raise Unreadable(
                f"`{name}` has shape {arrays[name].shape}, its description says {shape}"
            )
    if not num_rows:
        raise Unreadable("there are no rows")
    if "loss" not in about.scalars:
        raise Unreadable("no scalar is called loss")
    if min(int(array.min()) for name, array in arrays.items() if _KINDS[name] == "iu") < 0:
        raise Unreadable("`step`, `attempt` and `flags` must be whole numbers from 0 up")


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays that we know, each only after its header said that it is what it should be: no
    objects, which would run code, and no more bytes than a machine holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            missing = [name for name in _NEEDED if name not in members]
            if missing:
                raise Unreadable(f"the array {missing[0]!r} is missing")
            return {
                name: _array(archive, members[name], name) for name in _KINDS if name in members
            }
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError) as error:
        raise Unreadable(f"it is no npz file, or a damaged one: {str(error)[:80]}") from error
    except (NotImplementedError, RuntimeError, MemoryError) as error:
        raise Unreadable(f"its arrays cannot be unpacked: {str(error)[:80]}") from error


def _array(archive: zipfile.ZipFile, member: str, name: str) -> npt.NDArray[Any]:
    with archive.open(member) as file:
        shape, dtype = _header(file)
    if dtype.kind not in _KINDS[name] or len(shape) != _DIMENSIONS[name]:
        raise Unreadable(f"`{name}` holds {dtype} {shape}, which is not what a trace has there")
    num_bytes = prod(shape) * dtype.itemsize
    if num_bytes > MAX_ARRAY_BYTES or num_bytes > archive.getinfo(member).file_size:
        raise Unreadable(
            f"`{name}` claims {num_bytes} bytes; the file has "
            f"{archive.getinfo(member).file_size}, and at most {MAX_ARRAY_BYTES} are read"
        )
    with archive.open(member) as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
