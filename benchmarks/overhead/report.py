"""The table for people and the document for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.overhead.interleave import Session
from benchmarks.overhead.ratios import Ratio, cpu_ratio, wall_ratio


def machine() -> dict[str, Any]:
    """What the figures depend on, without naming the machine."""
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def lines(session: Session) -> Iterator[str]:
    """One workload as a Markdown table; ratios are over the bare loop, in its own units."""
    bare, workload = session.measured[0], session.workload
    median = 1e3 * float(np.median(bare.cpu_seconds))
    yield f"### {workload.name}: {workload.shape}"
    yield ""
    yield f"Bare: {median:.1f} ms of CPU a step, {session.num_steps} steps measured of each."
    yield ""
    yield "| Variant | CPU time | 95 % | wall time | background | captured |"
    yield "|---|---|---|---|---|---|"
    for measured in session.measured[1:]:
        cpu, wall = cpu_ratio(measured, bare), wall_ratio(measured, bare)
        background = measured.background_cpu_seconds / bare.cpu_seconds.sum()
        captured = ", ".join(f"{count} {what}" for what, count in measured.captured.items())
        yield (
            f"| {measured.variant.name} | {cpu.median:.3f} | {cpu.low:.3f} to {cpu.high:.3f} "
            f"| {wall.median:.3f} | {background:.3f} | {captured or 'nothing'} |"
        )
    yield ""


def document(session: Session) -> dict[str, Any]:
    """One workload with every figure that the table rounds or leaves out."""
    bare = session.measured[0]
    return {
        "workload": session.workload.name,
        "shape": session.workload.shape,
        "steps": session.num_steps,
        "warm_up_steps": session.num_warm_up,
        "process_cpu_seconds": session.process_cpu_seconds,
        "unaccounted_cpu_seconds": session.unaccounted_cpu_seconds,
        "variants": [
            {
                "name": measured.variant.name,
                "cpu_ratio": _plain(cpu_ratio(measured, bare)),
                "wall_ratio": _plain(wall_ratio(measured, bare)),
                "mean_cpu_ratio": float(
                    (measured.cpu_seconds.sum() + measured.background_cpu_seconds)
                    / bare.cpu_seconds.sum()
                ),
                "cpu_seconds": measured.cpu_seconds.tolist(),
                "wall_seconds": measured.wall_seconds.tolist(),
                "background_cpu_seconds": measured.background_cpu_seconds,
                "captured": dict(measured.captured),
            }
            for measured in session.measured
        ],
    }


def _plain(ratio: Ratio) -> dict[str, float]:
    return asdict(ratio)
