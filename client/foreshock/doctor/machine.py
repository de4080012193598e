"""The checks of this machine: versions, the device, and the reducer that would measure on it."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from typing import Any, Final

from foreshock.doctor.check import Check, Status
from foreshock.errors import ReducerError
from foreshock.reducers import choose_reducer
from foreshock.settings import ClientSettings

_INSTALL_ZSTD: Final = "pip install 'foreshock[zstd]' makes batches smaller"


def check_versions(version: str) -> Check:
    """This package and the Python that runs it."""
    found = f"{version} on Python {platform.python_version()}, {platform.system()}"
    return Check("foreshock", Status.OK, found)


def check_compression(settings: ClientSettings) -> Check:
    """Whether batches travel compressed."""
    if not settings.compress:
        return Check("compression", Status.OK, "switched off")
    if importlib.util.find_spec("zstandard") is None:
        return Check("compression", Status.OK, "none: zstandard is not installed", _INSTALL_ZSTD)
    return Check("compression", Status.OK, "zstd")


def check_measuring() -> list[Check]:
    """Torch, and for each kind of device here the reducer, tried on a tensor."""
    if importlib.util.find_spec("torch") is None:
        return [
            Check(
                "torch",
                Status.WARNING,
                "not installed in this Python: nothing can be trained with it",
                "run the doctor with the Python that trains",
            )
        ]
    torch: Any = importlib.import_module("torch")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
        found = f"{torch.__version__} with {torch.cuda.get_device_name(0)}"
    else:
        found = f"{torch.__version__} without a GPU"
    checks = [Check("torch", Status.OK, found)]
    return checks + [_check_reducer(torch, torch.device(name)) for name in devices]


def _check_reducer(torch: Any, device: Any) -> Check:
    name = f"reducer ({device.type})"
    try:
        reducer, why = choose_reducer(device)
        reducer.resize(1)
        reducer.measure([0], [torch.ones(8, device=device)])
        reducer.finish().result()
    except (ReducerError, RuntimeError, ImportError, OSError) as error:
        return Check(
            name,
            Status.PROBLEM,
            f"tensors on {device.type} cannot be measured: {error}",
            "reinstall foreshock, and on a GPU foreshock-gpu for its CUDA version",
        )
    if why:
        return Check(name, Status.WARNING, f"{reducer.name}, the slower fallback", why)
    instructions = getattr(reducer, "instruction_set", None)
    return Check(name, Status.OK, f"{reducer.name}" + (f", {instructions}" if instructions else ""))
