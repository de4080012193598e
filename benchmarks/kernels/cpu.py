"""CPU time of the CPU reducer beside a memcpy of the same bytes, and beside torch operations.

`python -m benchmarks.kernels.cpu` prints two tables. All contenders of a line run in one process in
turn, and each ratio is the median over the rounds of the ratio within a round, so that a busy
machine slows both sides of it. Time is that of the thread, which is what a training loses.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.protocol import Reducer, UnitView
from foreshock.reducers.torch_ops import TorchReducer

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SIZES = (1 << 12, 1 << 16, 1 << 19, 1 << 23)
"""Elements: 16 KB to 32 MB as float32, from the first-level cache to main memory."""

WIDTH = 512
"""Units of a view: the widest layer of the model in benchmarks/overhead."""

MIN_SECONDS = 0.004
"""A timing repeats its work for at least this long: the clock ticks in microseconds."""

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Contender:
    """Something to time; `run` does it once."""

    name: str
    run: Work


def repeats(run: Work) -> int:
    """How often to run for a timing of MIN_SECONDS."""
    count = 1
    while (taken := timed(run, count)) < MIN_SECONDS:
        count = max(2 * count, int(count * MIN_SECONDS / max(taken, 1e-6)))
    return count


def timed(run: Work, count: int) -> float:
    """Seconds of CPU time that `count` runs take."""
    start = time.thread_time()
    for _ in range(count):
        run()
    return time.thread_time() - start


def compare(contenders: Sequence[Contender], rounds: int) -> tuple[list[float], list[float]]:
    """Median seconds of each, and the median of its time over the first one's in the same round."""
    counts = [repeats(contender.run) for contender in contenders]
    times = [
        [timed(each.run, count) / count for each, count in zip(contenders, counts, strict=True)]
        for _ in range(rounds)
    ]
    columns = list(zip(*times, strict=True))
    ratios = [statistics.median(row[k] / row[0] for row in times) for k in range(len(columns))]
    return [statistics.median(column) for column in columns], ratios


def by_hand(tensor: torch.Tensor) -> Work:
    """What a training script writes for itself: five of the thirteen statistics."""

    def run() -> None:
        wide = tensor.float()
        wide.aminmax()
        for statistic in (wide.mean, wide.std, wide.norm):
            statistic()

    return run


def copying(tensor: torch.Tensor) -> Work:
    """A memcpy of the tensor's bytes."""
    target = torch.empty_like(tensor)
    size = tensor.numel() * tensor.element_size()

    def run() -> None:
        ctypes.memmove(target.data_ptr(), tensor.data_ptr(), size)

    return run


def reading(reducer: Reducer, tensor: torch.Tensor, view: UnitView | None = None) -> Work:
    """One measurement of one tensor."""
    rows, tensors, units = [0], [tensor], None if view is None else [view]
    return lambda: reducer.measure(rows, tensors, units=units)


def updating(reducer: Reducer, tensor: torch.Tensor) -> Work:
    """One fused reading of a weight and its update, with the copy."""
    previous = tensor.clone()
    return lambda: reducer.measure_update([0], [1], [tensor], [previous])


def ready(reducer: Reducer, rows: int) -> Reducer:
    """A reducer with room."""
    reducer.resize(rows)
    return reducer


def large(rounds: int, slow: bool) -> None:
    """One tensor a call: speed as a multiple of memcpy's."""
    names = ["measure", "units", "update", "torch ops", "by hand"][: 5 if slow else 3]
    print(f"{'dtype':>9} {'elements':>9} {'memcpy':>9}", *(f"{name:>16}" for name in names))
    print(f"{'':>9} {'':>9} {'GB/s':>9}", *(f"{'ns/el':>8} {'x cpy':>7}" for _ in names))
    kernel, fallback = ready(CpuReducer(), 2), ready(TorchReducer(), 2)
    for dtype in DTYPES:
        for size in SIZES:
            tensor = torch.randn(size).to(dtype)
            view = UnitView(size // WIDTH, WIDTH, 1)
            contenders = [
                Contender("memcpy", copying(tensor)),
                Contender("measure", reading(kernel, tensor)),
                Contender("units", reading(kernel, tensor, view)),
                Contender("update", updating(kernel, tensor)),
            ]
            if slow:
                contenders += [
                    Contender("torch ops", reading(fallback, tensor)),
                    Contender("by hand", by_hand(tensor)),
                ]
            seconds, ratios = compare(contenders, rounds)
            rate = tensor.nbytes / seconds[0] / 1e9
            cells = [
                f"{1e9 * taken / size:8.3f} {1 / ratio:6.2f}x"
                for taken, ratio in zip(seconds[1:], ratios[1:], strict=True)
            ]
            print(f"{str(dtype)[6:]:>9} {size:>9} {rate:>9.1f}", *cells, flush=True)


def small(rounds: int) -> None:
    """Many small tensors: nanoseconds a tensor, which is mostly fixed cost."""
    number, size = 100, 128
    tensors = [torch.randn(size) for _ in range(number)]
    previous = [tensor.clone() for tensor in tensors]
    rows, others = list(range(number)), list(range(number, 2 * number))
    views = [UnitView(1, size, 1)] * number
    reducer = CpuReducer()
    reducer.resize(2 * number)

    def one_by_one() -> None:
        for row, tensor in enumerate(tensors):
            reducer.measure([row], [tensor])

    def with_units() -> None:
        for row, tensor in enumerate(tensors):
            reducer.measure([row], [tensor], units=[views[row]])

    contenders = [
        Contender("torch.add of each", lambda: [tensor + 1.0 for tensor in tensors]),
        Contender("measure, one call", lambda: reducer.measure(rows, tensors)),
        Contender("measure, a call each", one_by_one),
        Contender("units, a call each", with_units),
        Contender(
            "measure_update", lambda: reducer.measure_update(others, rows, tensors, previous)
        ),
        Contender("finish, a row", lambda: [reducer.finish(), reducer.finish()]),
    ]
    seconds, _ = compare(contenders, rounds)
    print(f"\n{number} tensors of {size} float32: nanoseconds a tensor")
    for contender, taken in zip(contenders, seconds, strict=True):
        shares = number * 4 if contender.name.startswith("finish") else number
        print(f"{contender.name:>24} {1e9 * taken / shares:8.0f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="CPU time of the CPU reducer, beside memcpy's")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default 9)")
    parser.add_argument("--only-kernels", action="store_true", help="leave torch operations out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"instruction set: {CpuReducer().instruction_set}")
    large(arguments.rounds, slow=not arguments.only_kernels)
    small(arguments.rounds)


if __name__ == "__main__":
    main()
