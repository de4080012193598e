"""Spools that dead processes left behind, so that a living one sends what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foreshock.errors import SpoolBusyError, SpoolError
from foreshock.spool import Spool


def open_orphan(
    root: Path,
    *,
    max_bytes: int,
    leave_out: frozenset[Path] = frozenset(),
    on_refusal: Callable[[SpoolError], object] | None = None,
) -> Spool | None:
    """Open a folder below `root` that a dead process left batches in; None where there is none.

    A folder that cannot be opened is told to `on_refusal` and passed over.
    """
    for folder in _folders(root, on_refusal):
        if folder in leave_out:
            continue
        try:
            if not (folder / "lock").exists() or not any(folder.glob("*.batch")):
                continue
            orphan = Spool(folder, max_bytes=max_bytes)
        except SpoolBusyError:
            continue
        except OSError as error:
            _tell(error, folder, on_refusal)
            continue
        if len(orphan):
            return orphan
        orphan.close()
    return None


def _folders(root: Path, on_refusal: Callable[[SpoolError], object] | None) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _tell(error, root, on_refusal)
        return []


def _tell(error: OSError, folder: Path, on_refusal: Callable[[SpoolError], object] | None) -> None:
    if on_refusal is not None:
        told = SpoolError(f"spool folder {folder} cannot be read: {error.strerror}")
        on_refusal(error if isinstance(error, SpoolError) else told)
