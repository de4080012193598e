"""One recording from start to end: train, train the twin, check the label, write the files."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.zoo.labels import UntrueLabelError, faulty_label, healthy_label
from benchmarks.zoo.record import train
from benchmarks.zoo.registry import all_scenarios
from benchmarks.zoo.traces import write_trace


def record_one(name: str, folder: Path, seed: int | None = None) -> str | None:
    """Record one scenario, its label checked; what is wrong with the label, or None."""
    torch.set_num_threads(1)
    scenario = {s.name: s for s in all_scenarios()}[name]
    run = train(scenario, sick=scenario.fault is not None, seed=seed)
    try:
        if scenario.fault is None:
            label = healthy_label(scenario, run)
        else:
            twin = train(scenario, sick=False, seed=seed)
            label = faulty_label(scenario, scenario.fault, run, twin)
    except UntrueLabelError as error:
        return str(error)
    about = {
        "id": name if seed is None else f"{name}-{seed}",
        "arch": scenario.arch,
        "optimizer": scenario.optimizer,
        "hyperparameters": {},
        "seed": scenario.seed if seed is None else seed,
        "split": scenario.split,
        "injected": bool(scenario.fault and scenario.fault.onset is None),
        "every_step": scenario.every_step,
        "label": label,
    }
    write_trace(run, about, folder)
    return None
