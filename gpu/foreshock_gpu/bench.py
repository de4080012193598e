"""Times the kernels on the GPU that is there: `python -m foreshock_gpu.bench`.

Every figure is a ratio to a device-to-device copy of the same bytes, measured in the same run, so
that figures of different cards can be compared. A copy reads and writes; a statistic only reads:
a ratio of 0.5 is the roofline for `measure`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from foreshock.errors import ReducerError
from foreshock.reducers.torch_ops import TorchReducer

from foreshock_gpu.reducer import CupyReducer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of `work` on the device, by events, after three runs that are not counted."""
    for _ in range(3):
        work()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)))
    return sorted(times)[len(times) // 2]


def measure_all(num_tensors: int, num_bytes: int, dtype: torch.dtype, repeats: int) -> list[str]:
    """One table of figures for `num_tensors` tensors of `num_bytes` together."""
    size = max(1, num_bytes // dtype.itemsize // num_tensors)
    tensors = [torch.randn(size, device="cuda").to(dtype) for _ in range(num_tensors)]
    previous = [tensor.clone() for tensor in tensors]
    rows = list(range(num_tensors))
    updates = [row + num_tensors for row in rows]
    kernels, operations = CupyReducer(), TorchReducer(torch.device("cuda"))
    for reducer in (kernels, operations):
        reducer.resize(2 * num_tensors)
    candidates: dict[str, Callable[[], object]] = {
        "device-to-device copy": lambda: torch._foreach_copy_(previous, tensors),
        "torch._foreach_norm": lambda: torch._foreach_norm(tensors),
        "measure": lambda: kernels.measure(rows, tensors),
        "measure_update": lambda: kernels.measure_update(updates, rows, tensors, previous),
        "finish": kernels.finish,
        "torch operations": lambda: operations.measure(rows[:8], tensors[:8]),
    }
    times = {name: milliseconds(work, repeats) for name, work in candidates.items()}
    times["torch operations"] *= num_tensors / min(8, num_tensors)
    copy = times["device-to-device copy"]
    return [f"  {name:24}{time:10.3f} ms {time / copy:9.2f}" for name, time in times.items()]


def main() -> int:
    """Print the figures; the status is 1 where no GPU can be used."""
    parser = argparse.ArgumentParser(prog="python -m foreshock_gpu.bench", description=__doc__)
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=30)
    asked = parser.parse_args()
    if min(asked.tensors, asked.megabytes, asked.repeats) < 1:
        parser.error("--tensors, --megabytes and --repeats must be at least 1")
    try:
        CupyReducer()
    except ReducerError as error:
        sys.stderr.write(f"foreshock_gpu.bench: {error}\n")
        return 1
    out = sys.stdout
    out.write(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    for name, dtype in DTYPES.items():
        out.write(f"{asked.tensors} tensors of {name}, {asked.megabytes} MiB: time, ratio\n")
        lines = measure_all(asked.tensors, asked.megabytes << 20, dtype, asked.repeats)
        out.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
