"""What a run says of itself that rules may use, and that no frame repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """`optimizer` is the class of the first optimizer, empty where nobody said."""

    optimizer: str = ""


def facts_of(info: Mapping[str, Any]) -> RunFacts:
    """From the data of the run's `started` event, which a client may fill as it likes."""
    optimizers = info.get("optimizers")
    first = optimizers[0] if isinstance(optimizers, list) and optimizers else None
    name = first.get("class") if isinstance(first, Mapping) else None
    return RunFacts(optimizer=name if isinstance(name, str) else "")
