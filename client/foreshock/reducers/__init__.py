"""Which reducer measures the tensors of a device.

Importing this package imports no torch: the reducers, which need it, are imported when one is
selected.
"""

from __future__ import annotations

import functools
import logging
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from foreshock.errors import ReducerError
from foreshock.reducers.protocol import Reducer

if TYPE_CHECKING:
    import torch

ENTRY_POINTS = "foreshock.reducers"
"""Group in which a distribution offers a reducer for CUDA devices: a class without arguments."""

_log = logging.getLogger(__name__)


def select_reducer(device: torch.device) -> Reducer:
    """The fastest reducer that works for tensors of `device`.

    Raises ReducerError for devices other than CPU and CUDA (which includes ROCm). A fallback to
    torch operations is said once in the log.
    """
    reducer, why = choose_reducer(device)
    if why:
        _warn_once(
            f"measuring {device.type} tensors with torch operations, which is slower ({why})"
        )
    return reducer


def choose_reducer(device: torch.device) -> tuple[Reducer, str]:
    """As `select_reducer`, with the reason for a fallback instead of a word in the log; the reason
    is empty where the fastest one works."""
    if device.type == "cpu":
        try:
            return cast(Reducer, import_module("foreshock.reducers.cpu").CpuReducer()), ""
        except ReducerError as error:
            return _fallback(device), str(error)
    if device.type == "cuda":
        offers = sorted(entry_points(group=ENTRY_POINTS), key=lambda offer: offer.name)
        reasons = []
        for offer in offers:
            try:
                return cast(Reducer, offer.load()()), ""
            except (ReducerError, ImportError) as error:
                reasons.append(f"{offer.name}: {error}")
        return _fallback(device), (
            "; ".join(reasons)
            or "foreshock-gpu is not installed: pip install foreshock-gpu[cuda12]"
        )
    raise ReducerError(
        f"tensors on {device.type!r} cannot be measured: only CPU and CUDA devices have reducers"
    )


def _fallback(device: torch.device) -> Reducer:
    return cast(Reducer, import_module("foreshock.reducers.torch_ops").TorchReducer(device))


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning(message)
