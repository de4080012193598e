"""Which tensors can be measured, and how each lies in memory.

The kernels see flat memory: a contiguous tensor, or a dense one whose dimensions are permuted, is
read where it is; any other is copied first.
"""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor

from foreshock.errors import ReducerError
from foreshock.reducers.protocol import UnitView

DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
"""The codes of `Dtype` in stats.h."""

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})

MAX_UNITS = 1 << 24
"""Units of one view: 16 million take 600 MB of sums, and no layer is near it."""


def refusal(tensor: object, device_type: str) -> ReducerError:
    """The error for a tensor that cannot be measured, or not by a reducer of `device_type`."""
    if not isinstance(tensor, torch.Tensor):
        return ReducerError(
            f"cannot measure a {type(tensor).__name__}: pass a torch.Tensor of a float dtype"
        )
    if tensor.is_quantized:
        why = "it is quantised: pass tensor.dequantize()"
    elif tensor.layout is not torch.strided:
        why = (
            f"its layout is {tensor.layout}: pass tensor.coalesce().values(), or tensor.to_dense()"
        )
    elif tensor.device.type == "meta":
        why = "it is on the meta device and has no values: measure after it is materialised"
    elif tensor.dtype not in DTYPE_CODES:
        why = (
            f"its dtype is {tensor.dtype}: only float32, bfloat16, float16 and float64 have"
            " statistics (for a complex tensor pass torch.view_as_real(tensor))"
        )
    elif tensor.device.type != device_type:
        why = (
            f"it is on {tensor.device} and this reducer measures {device_type}: use select_reducer"
        )
    else:
        why = (
            "it has no memory of its own (a FakeTensor, a DTensor, or one inside vmap): pass its"
            " local values, such as tensor.to_local()"
        )
    return ReducerError(f"cannot measure this tensor of shape {tuple(tensor.shape)}: {why}")


def dtype_code(tensor: torch.Tensor, device_type: str) -> int:
    """The dtype's code; raises ReducerError for what is not a plain float tensor of the device."""
    try:
        code = DTYPE_CODES[tensor.dtype]
        fits = tensor.device.type == device_type and tensor.layout is torch.strided
    except (AttributeError, KeyError, TypeError):
        raise refusal(tensor, device_type) from None
    if not fits:
        raise refusal(tensor, device_type)
    return code


def address(tensor: torch.Tensor, device_type: str) -> int:
    """Where the first element is; raises ReducerError where the tensor has no memory of its own."""
    try:
        # Not called on a FakeTensor, which answers with a warning instead of an error.
        fake = type(tensor) not in _PLAIN and isinstance(tensor, FakeTensor)
        found = 0 if fake else tensor.data_ptr()
    except RuntimeError:  # a functorch wrapper
        raise refusal(tensor, device_type) from None
    if found == 0 and tensor.numel():
        raise refusal(tensor, device_type)
    return found


def flat_code(tensor: torch.Tensor) -> int | None:
    """The dtype's code of a plain contiguous CPU tensor, which nearly every tensor is: it can be
    read as it stands. None for any other, which may still be measurable on a closer look."""
    if type(tensor) not in _PLAIN:
        return None
    if tensor.is_cpu and tensor.layout is torch.strided and tensor.is_contiguous():
        return DTYPE_CODES.get(tensor.dtype)
    return None


def is_dense(tensor: torch.Tensor) -> bool:
    """True where the elements fill one stretch of memory without gap or overlap, in any order."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def flatten(tensor: torch.Tensor, view: UnitView | None) -> tuple[torch.Tensor, UnitView | None]:
    """A tensor whose memory can be read flat, and the unit view of that memory.

    Without a view the order of the elements does not matter, so any dense tensor is read as it is.
    With one, a channels-last image is read in its own order: its channels are its last dimension.
    """
    if tensor.is_contiguous():
        return tensor, view
    if view is None:
        return (tensor if is_dense(tensor) else tensor.contiguous()), None
    if tensor.dim() == 4 and tensor.stride(1) == 1 and is_dense(tensor):
        batch, channels, height, width = tensor.shape
        as_image = (batch, channels, height * width)
        by_rows = (width * channels, channels)
        if (view.outer, view.units, view.inner) == as_image and tensor.stride()[2:] == by_rows:
            return tensor, UnitView(batch * height * width, channels, 1)
    return tensor.contiguous(), view


def check_view(tensor: torch.Tensor, view: UnitView) -> None:
    """Raise ReducerError where the view does not cover the tensor exactly."""
    fits = min(view.outer, view.inner) >= 0 and 1 <= view.units <= MAX_UNITS
    if not fits or view.outer * view.units * view.inner != tensor.numel():
        raise ReducerError(
            f"a unit view of [{view.outer}, {view.units}, {view.inner}] does not fit a tensor of"
            f" shape {tuple(tensor.shape)}: the product of the three must be its number of"
            f" elements, with 1 to {MAX_UNITS} units"
        )


def _same_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    return address(a, a.device.type) == address(b, b.device.type)


def check_previous(tensor: torch.Tensor, before: torch.Tensor) -> None:
    """Raise ReducerError where `before` cannot hold the previous values of `tensor`."""
    if before.dtype != tensor.dtype or before.shape != tensor.shape:
        raise ReducerError(
            f"the previous values have dtype {before.dtype} and shape {tuple(before.shape)}, the"
            f" tensor {tensor.dtype} and {tuple(tensor.shape)}: keep them as"
            " torch.empty_like(tensor)"
        )
    if tensor.numel() and _same_memory(tensor, before):
        raise ReducerError(
            "the previous values share the tensor's memory, so the update would always be 0: keep"
            " them as tensor.detach().clone()"
        )
