"""`python -m benchmarks.overhead`: the cost of a watched training over a bare one.

Exits with 1 where the figures cannot be believed: a variant captured nothing, changed the training,
or used CPU time that was charged to nobody.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.overhead import report
from benchmarks.overhead.interleave import interleave
from benchmarks.overhead.sink import sink
from benchmarks.overhead.tensorboard import tensorboard_written
from benchmarks.overhead.threads import ThreadLedger
from benchmarks.overhead.variants import Variant, bare
from benchmarks.overhead.verdict import complaints
from benchmarks.overhead.watched import watched
from benchmarks.overhead.weights_and_biases import wandb_watched
from benchmarks.overhead.workloads import workloads

WARM_UP_STEPS: Final = 20
QUICK_STEPS: Final = 20


def foreshock_variants() -> tuple[Variant, ...]:
    """The two ways in which Foreshock is measured."""
    return (
        watched("Foreshock, defaults"),
        watched("Foreshock, everything", activation_every=1, activation_grad_every=1),
    )


def variants() -> tuple[Variant, ...]:
    """The rows of the table, after the bare loop; the first two are controls."""
    return (
        bare("bare"),
        bare("bare again"),
        *foreshock_variants(),
        wandb_watched(),
        tensorboard_written(),
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, and complain."""
    names = [workload.name for workload in workloads()]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--workload", choices=names, action="append", help="only this one")
    parser.add_argument("--steps", type=int, help="steps measured of each, a multiple of 20")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps of each")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in [n for n in os.environ if n.startswith(("FORESHOCK_", "WANDB_"))]:
        del os.environ[name]  # the caller's settings would be measured
    ledger = ThreadLedger()
    documents: list[dict[str, Any]] = []
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder, sink() as url:
        for workload in workloads():
            if given.workload and workload.name not in given.workload:
                continue
            session = interleave(
                workload,
                variants(),
                num_steps=given.steps or (QUICK_STEPS if given.quick else workload.num_steps),
                num_warm_up=WARM_UP_STEPS,
                folder=Path(folder),
                sink_url=url,
                ledger=ledger,
            )
            print("\n".join(report.lines(session)), flush=True)
            documents.append(report.document(session))
            wrong += complaints(session)
    if given.json:
        text = json.dumps({"machine": report.machine(), "workloads": documents}, indent=1)
        given.json.write_text(text + "\n")
    print(*(f"NOT TO BE BELIEVED: {complaint}" for complaint in wrong), sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
