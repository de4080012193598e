"""The formats that are read, one line each; the first that knows a file has it."""

from __future__ import annotations

from typing import Final

from foreshock_service.importers.comma_separated import CommaSeparated
from foreshock_service.importers.protocol import Importer
from foreshock_service.importers.traces import Traces

IMPORTERS: Final[tuple[Importer, ...]] = (
    Traces(),
    CommaSeparated(),
)
