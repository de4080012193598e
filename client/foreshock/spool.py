"""The spool: batches on disk until the service has acknowledged them.

One folder a process, one file a batch:

    <spool>/<run>.<attempt>.<rank>/
        lock                        held (flock) while the process lives; free means an orphan
        000000000012-16.batch       sequence number 12, 16 frames, the binary message
        schema-<hash>.json          the schemas that the batches refer to
        rejected/                   what the service will never take, the latest few

A file appears by an atomic rename, so that whatever is seen is whole. Without `fsync` it survives
the death of the process, not of the machine. What a full or failing disk refuses is kept in memory
instead, up to `MEMORY_BYTES`: it may still be sent, but it does not survive the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from foreshock.errors import SpoolBusyError, SpoolError

MEMORY_BYTES: Final = 16 << 20
"""Batches that wait in memory because the disk refuses them, at most."""
_BLOCK_BYTES: Final = 4096
"""A file takes whole blocks of a disk, and so it is counted; it also bounds the number of files."""
_MAX_REJECTED: Final = 32


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """A batch in the spool. `schema` is the hash of its series schema where that is known, and
    `in_memory` the message where the disk refused it."""

    seq: int
    num_frames: int
    num_bytes: int
    schema: str | None = None
    in_memory: bytes | None = None

    @property
    def name(self) -> str:
        """Name of its file."""
        return f"{self.seq:012d}-{self.num_frames}.batch"


class Spool:
    """The folder of one process, bounded by `max_bytes`; used by a writer and a sender at once.

    The lock guards the index and is never held during a call to the disk: a disk that hangs must
    not hold up those who only ask. `disk_error` is the last refusal of the disk, None once it takes
    batches again.
    """

    def __init__(self, folder: Path, *, max_bytes: int, fsync: bool = False) -> None:
        """Open `folder`, making it if missing.

        Raises:
            SpoolBusyError: another living process uses it.
            SpoolError: it cannot be written.
        """
        self._prepare(folder, max_bytes=max_bytes, fsync=fsync)
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
        except BlockingIOError as error:
            os.close(self._lock)
            raise SpoolBusyError(
                f"spool folder {folder} is in use by another process: give each process its own "
                "rank (FORESHOCK_RANK) or run id (FORESHOCK_RUN_ID)"
            ) from error
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(
                f"spool folder {folder} cannot be locked ({error.strerror}): set "
                "FORESHOCK_SPOOL_DIR to a folder on a local disk"
            ) from error
        try:
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._scan()
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(f"spool folder {folder} cannot be used: {error.strerror}") from error

    @classmethod
    def in_memory(cls, folder: Path, *, max_bytes: int, error: OSError) -> Spool:
        """A spool for want of `folder`: nothing in it survives the process."""
        spool = cls.__new__(cls)
        spool._prepare(folder, max_bytes=max_bytes, fsync=False)
        spool.disk_error = error
        return spool

    def _prepare(self, folder: Path, *, max_bytes: int, fsync: bool) -> None:
        self.folder = folder
        self.disk_error: OSError | None = None
        self._max_bytes, self._fsync = max_bytes, fsync
        self._lock = -1
        self._guard = threading.Lock()
        self._batches: OrderedDict[int, SpooledBatch] = OrderedDict()
        self._schemas: dict[str, int | bytes] = {}
        self._bytes_on_disk = self._bytes_in_memory = 0
        self._newest_schema: str | None = None
        self._sending: int | None = None

    def _scan(self) -> None:
        for partial in self.folder.glob("*.partial"):
            partial.unlink()
        for path in self.folder.glob("schema-*.json"):
            self._schemas[path.stem.removeprefix("schema-")] = path.stat().st_size
            self._bytes_on_disk += _on_disk(path.stat().st_size)
        for batch in sorted(self._files(), key=lambda batch: batch.seq):
            self._batches[batch.seq] = batch
            self._bytes_on_disk += _on_disk(batch.num_bytes)

    def _files(self) -> Iterator[SpooledBatch]:
        for path in self.folder.glob("*.batch"):
            seq, _, frames = path.stem.partition("-")
            if seq.isdigit() and frames.isdigit():
                yield SpooledBatch(int(seq), int(frames), path.stat().st_size)

    def next_seq(self) -> int:
        """A sequence number above all that are in the spool."""
        with self._guard:
            return max(self._batches, default=-1) + 1

    def make_room(self, num_bytes: int) -> list[SpooledBatch]:
        """Drop the oldest batches until a message of `num_bytes` fits; those dropped.

        The batch that is being sent stays: nobody could tell whether it has arrived.
        """
        dropped: list[SpooledBatch] = []
        while (batch := self._take_oldest_unless_fits(num_bytes)) is not None:
            self._delete(batch)
            dropped.append(batch)
        return dropped

    def _take_oldest_unless_fits(self, num_bytes: int) -> SpooledBatch | None:
        with self._guard:
            in_memory_only = self._fits_bound(num_bytes)
            if self._fits(num_bytes) or _on_disk(num_bytes) > self._max_bytes:
                return None
            for batch in self._batches.values():
                if batch.seq != self._sending and (batch.in_memory or not in_memory_only):
                    return self._forget(batch)
        return None

    def put(self, seq: int, num_frames: int, message: bytes, *, schema: str | None = None) -> bool:
        """Store a batch, in memory where the disk refuses it; False if there is no room for it."""
        batch = SpooledBatch(seq, num_frames, len(message), schema)
        stored = self._write(self.folder / batch.name, message)
        if not stored:
            batch = SpooledBatch(seq, num_frames, len(message), schema, message)
        with self._guard:
            fits = self._fits(len(message))
            if fits:
                self._batches[seq] = batch
                self._count(batch, 1)
        if stored and not fits:
            _unlink(self.folder / batch.name)
        if stored and self._bytes_in_memory:
            self._move_to_disk()
        return fits

    def _move_to_disk(self) -> None:
        """The disk takes batches again: those in memory must not wait for the next trouble."""
        with self._guard:
            waiting = [batch for batch in self._batches.values() if batch.in_memory is not None]
        for batch in waiting:
            if not self._write(self.folder / batch.name, batch.in_memory or b""):
                return
            with self._guard:
                waits = batch.seq in self._batches
                if waits:
                    self._count(batch, -1)
                    self._batches[batch.seq] = replace(batch, in_memory=None)
                    self._count(self._batches[batch.seq], 1)
            if not waits:  # sent meanwhile
                _unlink(self.folder / batch.name)

    def has_schema(self, schema_hash: str) -> bool:
        """Whether a schema is kept here."""
        with self._guard:
            return schema_hash in self._schemas

    def put_schema(self, schema_hash: str, document: bytes) -> None:
        """Keep a schema for the batches that refer to it, and for those to come."""
        stored = self._write(self._schema_path(schema_hash), document)
        with self._guard:
            self._schemas[schema_hash] = len(document) if stored else document
            self._newest_schema = schema_hash
            self._count_schema(self._schemas[schema_hash], 1)

    def schema(self, schema_hash: str) -> bytes | None:
        """A schema's JSON document, or None if it is not in this spool."""
        with self._guard:
            kept = self._schemas.get(schema_hash)
        if isinstance(kept, bytes):
            return kept
        try:
            return self._schema_path(schema_hash).read_bytes()
        except OSError:
            return None

    def oldest(self) -> SpooledBatch | None:
        """The batch to send next; it is not dropped until another is asked for."""
        with self._guard:
            batch = next(iter(self._batches.values()), None)
            self._sending = batch.seq if batch is not None else None
            return batch

    def read(self, batch: SpooledBatch) -> bytes:
        """The message of a batch.

        Raises:
            OSError: the disk refuses; FileNotFoundError if somebody has deleted it.
        """
        if batch.in_memory is not None:
            return batch.in_memory
        return (self.folder / batch.name).read_bytes()

    def remove(self, batch: SpooledBatch) -> None:
        """Forget an acknowledged batch."""
        with self._guard:
            kept = self._forget(batch)
        if kept is not None:
            self._delete(kept)

    def reject(self, batch: SpooledBatch) -> None:
        """Put a batch aside for people to look at; only the latest few are kept.

        Raises:
            OSError: it cannot be put aside, and is forgotten.
        """
        rejected = self.folder / "rejected"
        with self._guard:
            batch = self._forget(batch) or batch
        try:
            rejected.mkdir(exist_ok=True)
            if batch.in_memory is not None:
                (rejected / batch.name).write_bytes(batch.in_memory)
            else:
                (self.folder / batch.name).replace(rejected / batch.name)
            for path in sorted(rejected.iterdir())[:-_MAX_REJECTED]:
                path.unlink(missing_ok=True)
        finally:
            self._delete(batch)

    def __len__(self) -> int:
        # Without the lock, so that nobody waits here: a dictionary's length is one read.
        return len(self._batches)

    @property
    def num_bytes(self) -> int:
        """What the batches and schemas take of the disk, in whole blocks."""
        return self._bytes_on_disk

    def close(self) -> int:
        """Release the folder, and remove it when nothing in it is worth keeping. Batches in memory
        get a last chance of the disk; the number of frames that are lost all the same."""
        for schema_hash, document in self._schemas.items():
            if isinstance(document, bytes):
                self._write(self._schema_path(schema_hash), document)
        num_kept = lost = 0
        for batch in self._batches.values():
            message = batch.in_memory
            if message is None or self._write(self.folder / batch.name, message):
                num_kept += 1
            else:
                lost += batch.num_frames
        if self._lock >= 0:
            if not num_kept and not (self.folder / "rejected").exists():
                shutil.rmtree(self.folder, ignore_errors=True)
            # Said in words, because a child that was forked meanwhile may hold the file as well.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = -1
        return lost

    def abandon(self) -> None:
        """In a forked child: let go of the file, while the parent keeps its lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _fits_bound(self, num_bytes: int) -> bool:
        taken = self._bytes_on_disk + self._bytes_in_memory
        return taken + _on_disk(num_bytes) <= self._max_bytes

    def _fits(self, num_bytes: int) -> bool:
        in_memory = self._bytes_in_memory + _on_disk(num_bytes)
        return self._fits_bound(num_bytes) and (
            self.disk_error is None or in_memory <= MEMORY_BYTES
        )

    def _count(self, batch: SpooledBatch, sign: int) -> None:
        if batch.in_memory is not None:
            self._bytes_in_memory += sign * _on_disk(batch.num_bytes)
        else:
            self._bytes_on_disk += sign * _on_disk(batch.num_bytes)

    def _count_schema(self, kept: int | bytes, sign: int) -> None:
        if isinstance(kept, bytes):
            self._bytes_in_memory += sign * len(kept)
        else:
            self._bytes_on_disk += sign * _on_disk(kept)

    def _forget(self, batch: SpooledBatch) -> SpooledBatch | None:
        """Take a batch out of the index; as it was there, for it may have moved to the disk."""
        kept = self._batches.pop(batch.seq, None)
        if kept is not None:
            self._count(kept, -1)
        return kept

    def _delete(self, batch: SpooledBatch) -> None:
        if batch.in_memory is None:
            _unlink(self.folder / batch.name)
        self._drop_schema(batch.schema)

    def _drop_schema(self, schema_hash: str | None) -> None:
        """Schemas only move on, so that one is not needed any more once the next batch has another;
        the newest stays for the batches to come."""
        with self._guard:
            following = next(iter(self._batches.values()), None)
            needed = {self._newest_schema, following.schema if following else None}
            unknown = following is not None and following.schema is None
            if schema_hash is None or schema_hash in needed or unknown:
                return
            kept = self._schemas.pop(schema_hash, None)
            if kept is not None:
                self._count_schema(kept, -1)
        if isinstance(kept, int):
            _unlink(self._schema_path(schema_hash))

    def _schema_path(self, schema_hash: str) -> Path:
        return self.folder / f"schema-{schema_hash}.json"

    def _write(self, path: Path, content: bytes) -> bool:
        """Write a file whole or not at all; False, with the reason in `disk_error`, if the disk
        refuses."""
        if self._lock < 0:
            return False
        partial = path.with_suffix(".partial")
        try:
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
        except OSError as error:
            self.disk_error = error
            _unlink(partial)
            return False
        self.disk_error = None
        return True


def _on_disk(num_bytes: int) -> int:
    return -(-num_bytes // _BLOCK_BYTES) * _BLOCK_BYTES


def _unlink(path: Path) -> None:
    """Delete a file; what a disk does not let go of is sent again by a later process, and stored
    once all the same."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def folder_name(run: str, attempt: int, rank: int) -> str:
    """Name of the folder of one process."""
    return f"{run}.{attempt}.{rank}"
