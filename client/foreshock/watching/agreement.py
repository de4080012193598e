"""How the processes of a distributed run agree on its id without being told one."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Final

import torch.distributed as dist

from foreshock.logs import logger

_WAIT: Final = timedelta(seconds=30)
_calls: Final = itertools.count()


def agree(run_id: str, attempt: int, *, rank: int, world: int) -> tuple[str, int]:
    """Rank 0's run id and attempt, on every rank.

    They go through the key-value store of the process group, not through a collective: a loop that
    is watched on rank 0 alone must not hang. The others wait 30 s for rank 0, then go on alone.
    """
    if world == 1:
        return run_id, attempt
    if not (dist.is_available() and dist.is_initialized()):
        logger.warning(
            "rank %d has its own run %s: call watch() after init_process_group(), or give all "
            "processes one FORESHOCK_RUN_ID and FORESHOCK_ATTEMPT",
            rank,
            run_id,
        )
        return run_id, attempt
    key = f"foreshock/origin/{next(_calls)}"
    try:
        store = dist.distributed_c10d._get_default_store()
        if rank == 0:
            store.set(key, json.dumps([run_id, attempt]))
            return run_id, attempt
        store.wait([key], _WAIT)
        agreed_id, agreed_attempt = json.loads(store.get(key))
    except (RuntimeError, ValueError) as error:
        logger.warning("rank %d could not learn the run's id from rank 0: %s", rank, error)
        return run_id, attempt
    return str(agreed_id), int(agreed_attempt)
