"""What a run says of itself when it starts, as plain JSON."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from foreshock.settings import ClientSettings
from foreshock.watching.agreement import agree
from foreshock.watching.plain import plain
from foreshock.wire import RUN_ID, Origin


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
    about: dict[str, Any] = {
        "name": settings.run or settings.run_id or "run",
        "project": settings.project,
        "tags": plain([tags] if isinstance(tags, str) else tags),
        "config": plain(config),
        "optimizers": [
            {"class": type(o).__name__, "settings": plain(o.defaults)} for o in optimizers[:64]
        ],
        "model": type(model).__name__,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "world": settings.world,
        "reducer": reducer,
    }
    about["name"], about["project"] = plain(about["name"]), plain(about["project"])
    return about
