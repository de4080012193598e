"""The spool: batches on disk until the service has acknowledged them.

One folder a process, one file a batch:

    <spool>/<run>.<attempt>.<rank>/
        lock                        held (flock) while the process lives; free means an orphan
        000000000012-16.batch       sequence number 12, 16 frames, the binary message
        schema-<hash>.json          the schemas that the batches refer to
        rejected/                   what the service will never take, the latest few

A file appears by an atomic rename, so that whatever is seen is whole. Without `fsync` it survives
the death of the process, not of the machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foreshock.errors import SpoolError

_MAX_REJECTED: Final = 32


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """A batch in the spool: its place, its number of frames and its size."""

    path: Path
    seq: int
    num_frames: int
    num_bytes: int


class Spool:
    """The folder of one process, bounded by `max_bytes`; used by a writer and a sender at once."""

    def __init__(self, folder: Path, *, max_bytes: int, fsync: bool = False) -> None:
        """Open `folder`, making it if missing.

        Raises:
            SpoolError: it cannot be written, or another living process uses it.
        """
        self.folder = folder
        self._max_bytes = max_bytes
        self._fsync = fsync
        self._guard = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(
                f"spool folder {folder}: {error.strerror}; make it writable, or set "
                "FORESHOCK_SPOOL_DIR to a folder that is"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(
                f"spool folder {folder} is in use by another process: give each process its own "
                "rank (FORESHOCK_RANK) or run id (FORESHOCK_RUN_ID)"
            ) from error
        self._batches = {b.path.name: b for b in self._scan()}
        self._num_bytes = sum(b.num_bytes for b in self._batches.values())

    def _scan(self) -> Iterator[SpooledBatch]:
        for path in sorted(self.folder.glob("*.batch")):
            seq, _, frames = path.stem.partition("-")
            if seq.isdigit() and frames.isdigit():
                yield SpooledBatch(path, int(seq), int(frames), path.stat().st_size)

    def next_seq(self) -> int:
        """A sequence number above all that are in the spool."""
        with self._guard:
            return max((b.seq for b in self._batches.values()), default=-1) + 1

    def put(self, seq: int, num_frames: int, message: bytes) -> int:
        """Store a batch; returns how many frames were dropped to make room, the oldest first.

        Raises:
            OSError: the disk refuses.
        """
        name = f"{seq:012d}-{num_frames}.batch"
        dropped = 0
        with self._guard:
            if len(message) > self._max_bytes:
                return num_frames
            while self._batches and self._num_bytes + len(message) > self._max_bytes:
                oldest = self._batches[min(self._batches)]
                dropped += oldest.num_frames
                self._forget(oldest)
        self._write(self.folder / name, message)
        with self._guard:
            self._batches[name] = SpooledBatch(self.folder / name, seq, num_frames, len(message))
            self._num_bytes += len(message)
        return dropped

    def put_schema(self, schema_hash: str, document: bytes) -> None:
        """Keep a schema for the batches that refer to it."""
        self._write(self.folder / f"schema-{schema_hash}.json", document)

    def schema(self, schema_hash: str) -> bytes | None:
        """A schema's JSON document, or None if it is not in this spool."""
        try:
            return (self.folder / f"schema-{schema_hash}.json").read_bytes()
        except OSError:
            return None

    def oldest(self) -> SpooledBatch | None:
        """The batch to send next."""
        with self._guard:
            return self._batches[min(self._batches)] if self._batches else None

    def remove(self, batch: SpooledBatch) -> None:
        """Forget an acknowledged batch."""
        with self._guard:
            self._forget(batch)

    def reject(self, batch: SpooledBatch) -> None:
        """Put a batch aside for people to look at; only the latest few are kept."""
        rejected = self.folder / "rejected"
        with self._guard:
            rejected.mkdir(exist_ok=True)
            try:
                batch.path.replace(rejected / batch.path.name)
            finally:
                self._forget(batch)
            for path in sorted(rejected.iterdir())[:-_MAX_REJECTED]:
                path.unlink(missing_ok=True)

    def __len__(self) -> int:
        with self._guard:
            return len(self._batches)

    def close(self) -> None:
        """Release the folder, and remove it when nothing in it is worth keeping."""
        if self._lock < 0:
            return
        if not len(self) and not (self.folder / "rejected").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def abandon(self) -> None:
        """In a forked child: let go of the file, while the parent keeps its lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _forget(self, batch: SpooledBatch) -> None:
        if self._batches.pop(batch.path.name, None) is not None:
            self._num_bytes -= batch.num_bytes
            batch.path.unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(content)
            if self._fsync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
        if self._fsync:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def folder_name(run: str, attempt: int, rank: int) -> str:
    """Name of the folder of one process."""
    return f"{run}.{attempt}.{rank}"


def open_orphan(root: Path, *, max_bytes: int) -> Spool | None:
    """Open a folder below `root` that a dead process left batches in; None where there is none."""
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if not (folder / "lock").exists() or not any(folder.glob("*.batch")):
            continue
        try:
            orphan = Spool(folder, max_bytes=max_bytes)
        except SpoolError:
            continue
        if len(orphan):
            return orphan
        orphan.close()
    return None
