"""Scalars of a step: numbers now, device tensors a step later."""

from __future__ import annotations

from typing import Any, Final

import torch

from foreshock.hooks.meter import local

MAX_NAME_LENGTH: Final = 128


class Scalars:
    """Named numbers of one step. A tensor on a device is kept as a detached clone, copied to the
    host when the step ends, and read a step later, so that nobody waits for the device."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._on_device: dict[str, torch.Tensor] = {}
        self._host: torch.Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def put(self, name: Any, value: Any) -> None:
        """Keep `value`, a number or a tensor of one element; the last one of a name stays.

        Raises:
            TypeError: it is neither.
        """
        if not isinstance(name, str) or not name or len(name) > MAX_NAME_LENGTH:
            raise TypeError(f"a scalar's name must be a text of 1 to {MAX_NAME_LENGTH} characters")
        if isinstance(value, torch.Tensor):
            value = local(value)
            if value.numel() != 1 or value.is_complex() or value.is_meta:
                raise TypeError(f"scalar {name!r}: a tensor of shape {tuple(value.shape)}")
            if value.device.type == "cpu":
                self._values[name] = float(value.item())
                self._on_device.pop(name, None)
            else:
                self._on_device[name] = value.to(torch.float32, copy=True).reshape(())
                self._values.pop(name, None)
            return
        try:
            self._values[name] = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"scalar {name!r}: {type(value).__name__} is not a number; use note() for text"
            ) from error

    def add_missing(self, others: Scalars) -> None:
        """Take over the scalars of which there are none here; may wait for a device."""
        for name, value in others.read().items():
            if name not in self._on_device:
                self._values.setdefault(name, value)

    def start_copy(self) -> None:
        """Begin the copy of device tensors to the host, without waiting for it."""
        tensors = list(self._on_device.values())
        if not tensors:
            return
        if len({tensor.device for tensor in tensors}) > 1 or not tensors[0].is_cuda:
            return
        stacked = torch.stack(tensors)
        self._host = torch.empty(len(tensors), dtype=torch.float32, pin_memory=True)
        self._host.copy_(stacked, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record()

    def read(self) -> dict[str, float]:
        """All of them; called a step after `start_copy`."""
        if self._host is not None and self._copied is not None:
            self._copied.synchronize()
            self._values.update(zip(self._on_device, self._host.tolist(), strict=True))
        else:
            self._values.update({n: float(t.item()) for n, t in self._on_device.items()})
        self._on_device.clear()
        return self._values
