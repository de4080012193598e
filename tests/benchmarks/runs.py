"""Runs for the tests of the benchmark of detection: made from a few numbers, or trained at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from foreshock.wire import STATISTICS, Series, SeriesSchema
from foreshock_service.domain.facts import RunFacts

from benchmarks.detection.recordings import Recording
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.labels import faulty_label, healthy_label
from benchmarks.zoo.record import train
from benchmarks.zoo.registry import Scenario
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.traces import write_trace

COLUMN = {name: i for i, name in enumerate(STATISTICS)}


def recording_from(
    *,
    series: Sequence[tuple[str, str]] = (),
    module_type: str = "Linear",
    num_rows: int = 0,
    **scalars: Sequence[float],
) -> Recording:
    """A run of these scalars. Its series, `(kind, name)`, have a spread of 1 on every row."""
    num_rows = num_rows or max(len(values) for values in scalars.values())
    schema = SeriesSchema(
        tuple(
            Series(
                name=name,
                kind=kind,
                module_type=module_type,
                depth=depth,
                numel=4,
                dtype="float32",
            )
            for depth, (kind, name) in enumerate(series)
        )
    )
    stats = np.zeros((num_rows, len(series), len(STATISTICS)), np.float32)
    stats[:, :, COLUMN["count"]] = 4
    stats[:, :, COLUMN["std"]] = 1
    stats[:, :, COLUMN["inactive_unit_frac"]] = np.nan
    return Recording(
        id="run",
        schema=schema,
        facts=RunFacts(),
        steps=np.arange(num_rows),
        attempts=np.zeros(num_rows, np.int64),
        flags=np.zeros(num_rows, np.int64),
        scalars={name: np.array(values, np.float64) for name, values in scalars.items()},
        logged={name: np.ones(num_rows, np.bool_) for name in scalars},
        stats=stats,
    )


def tiny(stage: Stage) -> Iterator[float]:
    """A linear model whose weights are made ten times as large before step 60."""
    layer = torch.nn.Linear(4, 1)
    model = torch.nn.Sequential(layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    rng = stage.generator()
    with stage.watch(model, optimizer) as watch:
        for step in range(100):
            if stage.sick and step == 60:
                with torch.no_grad():
                    layer.weight.mul_(10)
            x = torch.randn(16, 4, generator=rng)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            watch.step(loss)
            yield float(loss.detach())


FAULT = Fault(kind="weight_corruption", at=60, pace="fast", layers=("0",))


def _named(split: str, fault: Fault | None) -> Scenario:
    """A scenario with a name that a hash puts into this part of the zoo."""
    made = (
        Scenario(
            name=f"tiny-{'sick' if fault else 'healthy'}-{number}",
            arch="linear",
            optimizer="SGD",
            train=tiny,
            summary="As told.",
            fault=fault,
        )
        for number in itertools.count()
    )
    return next(scenario for scenario in made if scenario.split == split)


def record_two(folder: Path, *, split: str = "look") -> None:
    """Train a healthy and a sick model, over in an instant, and record them as the zoo does."""
    for fault in (None, FAULT):
        scenario = _named(split, fault)
        run = train(scenario, sick=fault is not None)
        if fault is None:
            label = healthy_label(scenario, run)
        else:
            label = faulty_label(scenario, fault, run, train(scenario, sick=False))
        about = {
            "id": scenario.name,
            "arch": scenario.arch,
            "optimizer": scenario.optimizer,
            "split": split,
            "label": label,
        }
        write_trace(run, about, folder)
