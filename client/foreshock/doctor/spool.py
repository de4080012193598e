"""The checks of the spool: whether batches can wait on this disk, and which do."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from foreshock.doctor.check import Check, Status
from foreshock.settings import ClientSettings


def check_spool(settings: ClientSettings) -> list[Check]:
    """Whether the folder can be written and has room, and what processes have left in it."""
    root = settings.spool_folder()
    try:
        _try_to_write(root)
        free = shutil.disk_usage(_nearest(root)).free
    except OSError as error:
        return [
            Check(
                "spool",
                Status.PROBLEM,
                f"{root} cannot be written: {error.strerror or error}",
                "make it writable, or set FORESHOCK_SPOOL_DIR to a folder that is",
            )
        ]
    bound = settings.spool_max_bytes
    found = f"{root} can be written; {_size(free)} free, a process takes at most {_size(bound)}"
    room = Check("spool", Status.OK, found)
    if free < bound:
        room = Check(
            "spool",
            Status.WARNING,
            found,
            "free some disk, or lower FORESHOCK_SPOOL_MAX_BYTES: on a full disk frames are dropped",
        )
    return [room, *_waiting(root, bound)]


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _try_to_write(root: Path) -> None:
    """Write a file as a run would; in the folder above where the spool's does not exist yet, so
    that looking leaves nothing behind."""
    with tempfile.TemporaryFile(dir=_nearest(root)) as file:
        file.write(b"foreshock doctor")
        file.flush()


def _waiting(root: Path, bound: int) -> list[Check]:
    """What lies in the spool: batches of living processes, orphans, and refused ones."""
    living = orphans = orphan_batches = batches = rejected = fullest = 0
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        sizes = [size for path in folder.glob("*.batch") if (size := _size_of(path)) >= 0]
        rejected += len(list(folder.glob("rejected/*.batch")))
        if not (folder / "lock").exists():
            continue
        if _is_held(folder / "lock"):
            living, batches = living + 1, batches + len(sizes)
            fullest = max(fullest, sum(sizes))
        elif sizes:
            orphans, orphan_batches = orphans + 1, orphan_batches + len(sizes)
    checks = [
        Check(
            "waiting",
            Status.WARNING if fullest > 0.9 * bound else Status.OK,
            f"{batches} batches of {living} running processes",
            "the oldest are dropped soon: mend the service, or raise FORESHOCK_SPOOL_MAX_BYTES"
            if fullest > 0.9 * bound
            else "",
        )
    ]
    if orphans:
        found = f"{orphan_batches} batches of {orphans} processes that have ended"
        checks.append(
            Check("orphans", Status.WARNING, found, "run `foreshock flush`, or start a training")
        )
    if rejected:
        found = f"{rejected} batches that the service refused for good lie in {root}/*/rejected"
        advice = "the log of their run says why; delete them when that is mended"
        checks.append(Check("rejected", Status.WARNING, found, advice))
    return checks


def _is_held(lock: Path) -> bool:
    """Whether a living process holds a spool folder."""
    try:
        file = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True  # another user's
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # sent meanwhile


def _size(num_bytes: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes} {unit}"
        num_bytes //= 1024
    return f"{num_bytes} TiB"
