"""One process, several copies of one training that take turns step by step.

On every step each copy gets the same batch, in an order drawn anew, so that a busy neighbour or a
warm processor meets all of them alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from benchmarks.overhead.threads import ThreadLedger
from benchmarks.overhead.variants import Attached, Surroundings, Variant
from benchmarks.overhead.workloads import Batch, Workload


class Training:
    """A copy of a training and what is attached to it."""

    def __init__(self, workload: Workload, variant: Variant, around: Surroundings) -> None:
        torch.manual_seed(0)
        self.model = workload.model()
        self.optimizer = workload.optimizer(self.model)
        self.attached: Attached = variant.attach(self.model, self.optimizer, around)

    def step(self, index: int, batch: Batch) -> torch.Tensor:
        """One step of an ordinary loop; its loss."""
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.model(inputs), targets)
        loss.backward()
        self.optimizer.step()
        self.attached.step(index, loss)
        return loss.detach()


@dataclass(slots=True, kw_only=True)
class Measured:
    """One variant's steps. Arrays are by step: [steps].

    `cpu_seconds` is that of the training's thread; `background_cpu_seconds` that of the threads
    which the variant started, over all steps.
    """

    variant: Variant
    cpu_seconds: npt.NDArray[np.float64]
    wall_seconds: npt.NDArray[np.float64]
    losses: list[float] = field(default_factory=list)
    background_cpu_seconds: float = 0.0
    captured: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """All variants of one workload. `unaccounted_cpu_seconds` is what the process used and neither
    the training's thread nor any thread that was charged did."""

    workload: Workload
    num_steps: int
    num_warm_up: int
    measured: Sequence[Measured]
    process_cpu_seconds: float
    unaccounted_cpu_seconds: float


def interleave(
    workload: Workload,
    variants: Sequence[Variant],
    *,
    num_steps: int,
    num_warm_up: int,
    folder: Path,
    sink_url: str,
    ledger: ThreadLedger,
) -> Session:
    """Train every variant for `num_steps` after a warm-up; both must be multiples of all periods.

    Sessions of one process share a `ledger`: a tool may keep its threads from one to the next.

    Raises:
        ValueError: they are not.
    """
    for variant in variants:
        if num_steps % variant.period or num_warm_up % variant.period:
            raise ValueError(f"{variant.name} repeats after {variant.period} steps: measure whole")
    ledger.claim("(nobody)")
    trainings = []
    for number, variant in enumerate(variants):
        place = folder / f"{workload.name}-{number}"
        place.mkdir(parents=True)
        around = Surroundings(folder=place, sink_url=sink_url, num_turns=len(variants))
        trainings.append(Training(workload, variant, around))
        ledger.claim(variant.name)
    table = [
        Measured(variant=v, cpu_seconds=np.zeros(num_steps), wall_seconds=np.zeros(num_steps))
        for v in variants
    ]
    order, turns = random.Random(0), list(range(len(variants)))
    for index in range(-num_warm_up, num_steps):
        if index == 0:
            background = ledger.seconds()
            process, main = time.process_time(), time.thread_time()
        batch = workload.batch(index + num_warm_up)
        order.shuffle(turns)
        for turn in turns:
            cpu, wall = time.thread_time(), time.perf_counter()
            loss = trainings[turn].step(index + num_warm_up, batch)
            cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
            ledger.claim(variants[turn].name)
            table[turn].losses.append(loss.item())
            if index >= 0:
                table[turn].cpu_seconds[index] = cpu
                table[turn].wall_seconds[index] = wall
    process, main = time.process_time() - process, time.thread_time() - main
    threads = {
        name: at_end - background.get(name, 0.0) for name, at_end in ledger.seconds().items()
    }
    for row, training in zip(table, trainings, strict=True):
        training.attached.close()
        row.background_cpu_seconds = threads.get(row.variant.name, 0.0)
        row.captured = training.attached.captured()
    return Session(
        workload=workload,
        num_steps=num_steps,
        num_warm_up=num_warm_up,
        measured=table,
        process_cpu_seconds=process,
        unaccounted_cpu_seconds=process - main - sum(threads.get(v.name, 0.0) for v in variants),
    )
