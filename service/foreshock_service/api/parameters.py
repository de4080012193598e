"""Path and query parameters that several routes share, with their bounds."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Query

BIGGEST_STEP: Final = (1 << 63) - 1
"""Steps and ords are signed 64-bit numbers in the database."""
MAX_COLUMNS: Final = 4096
"""More columns than any screen has pixels; a heatmap of 1000 series is then 8 MB."""

RunId = Annotated[
    str,
    Path(
        alias="run",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
        description="The run's id.",
        examples=["gpt-nano-7"],
    ),
]
Number = Annotated[
    int,
    Path(alias="number", ge=1, le=(1 << 31) - 1, description="The incident's number in its run."),
]
Columns = Annotated[
    int, Query(ge=1, le=MAX_COLUMNS, description="Most columns to answer; frames are pooled.")
]
From = Annotated[
    int | None, Query(alias="from", ge=0, le=BIGGEST_STEP, description="First ord; default 0.")
]
To = Annotated[
    int | None,
    Query(alias="to", ge=0, le=BIGGEST_STEP, description="Ord behind the last; default: the end."),
]
Rank = Annotated[int, Query(ge=0, le=(1 << 31) - 1, description="The rank that measured.")]
