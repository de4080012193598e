"""One thing that was looked at, and what it means for a training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How much a check's outcome matters."""

    OK = "ok"
    WARNING = "warning"
    """Frames arrive, but slower, later or with a wrong time."""
    PROBLEM = "problem"
    """Frames would not be made, kept or taken: data is lost sooner or later."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found under `name`, in words, and what to do about it (empty where nothing)."""

    name: str
    status: Status
    found: str
    advice: str = ""
