"""What a run says of itself when it starts, as plain JSON."""

from __future__ import annotations

import math
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

from foreshock.settings import ClientSettings
from foreshock.watching.agreement import agree
from foreshock.wire import RUN_ID, Origin

_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 512
_MAX_TEXT: Final = 2000


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as JSON can carry it, cut to bounds: what JSON has no word for becomes text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)}" if value.numel() != 1 else plain(value.item())
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            items = list(value.items())[:_MAX_ITEMS]
            return {str(key)[:_MAX_TEXT]: plain(item, depth + 1) for key, item in items}
        if isinstance(value, Sequence | set | frozenset):
            return [plain(item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return str(value)[:_MAX_TEXT]


def origin_of(settings: ClientSettings, device: torch.device) -> Origin:
    """Who sends: the ids given, or an id made of the run's name and eight random digits,
    which rank 0 draws for all."""
    run_id = settings.run_id
    if run_id is None:
        kept = "".join(c if RUN_ID.fullmatch("a" + c) else "-" for c in settings.run or "run")
        run_id = f"{kept.strip('._-')[:100] or 'run'}-{secrets.token_hex(4)}"
    attempt = settings.attempt if settings.attempt is not None else time.time_ns() // 1_000_000
    if settings.run_id is None or settings.attempt is None:
        run_id, attempt = agree(run_id, attempt, rank=settings.rank, world=settings.world)
    return Origin(
        run=run_id,
        attempt=attempt,
        rank=settings.rank,
        world=settings.world,
        host=socket.gethostname(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    )


def started(
    settings: ClientSettings,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    tags: Sequence[str],
    config: Mapping[str, Any],
    reducer: str,
) -> dict[str, Any]:
    """The data of the `started` event."""
    return {
        "name": settings.run or settings.run_id or "run",
        "project": settings.project,
        "tags": plain(tags),
        "config": plain(config),
        "optimizers": [
            {"class": type(o).__name__, "settings": plain(o.defaults)} for o in optimizers
        ],
        "model": type(model).__name__,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "world": settings.world,
        "reducer": reducer,
    }
