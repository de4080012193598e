"""`python -m benchmarks.zoo list | run | score`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.processes import processes
from benchmarks.zoo.one_run import record_one
from benchmarks.zoo.registry import SPLITS, Scenario, all_scenarios
from benchmarks.zoo.score import load_predictions, load_runs, report, score


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run_command(options: argparse.Namespace) -> int:
    """Record the chosen scenarios; 1 if a label is not true of its run."""
    chosen = _chosen(options)
    if not chosen:
        _say("no scenario has that name in that part; see: python -m benchmarks.zoo list")
        return 2
    # Detection is written while looking at `look` alone: of `held` nothing is told but trouble.
    hidden = [s.name for s in chosen if s.split == "held" and not options.show_held]
    todo = [
        s.name
        for s in chosen
        if options.again
        or not (options.out / f"{s.name}.json").exists()
        or options.seed is not None
    ]
    untrue = 0
    started = time.monotonic()
    with processes(options.jobs) as pool:
        futures = {name: pool.submit(record_one, name, options.out, options.seed) for name in todo}
        for number, (name, future) in enumerate(futures.items(), 1):
            error = future.exception()
            wrong = future.result() if error is None else f"{type(error).__name__}: {error}"
            untrue += wrong is not None
            shown = f"held {number}" if name in hidden else name
            seconds = time.monotonic() - started
            _say(f"{seconds:6.0f} s  {number}/{len(todo)}  {shown}: {wrong or 'as labelled'}")
    _say(f"{len(chosen)} runs in {options.out}, {untrue} not as labelled")
    return 1 if untrue else 0


def list_command(options: argparse.Namespace) -> int:
    """Print the scenarios of a part, and how many there are of each kind."""
    chosen = _chosen(options)
    for s in chosen:
        if s.split == "held" and not options.show_held:
            continue
        kind = s.fault.kind if s.fault else "healthy"
        mark = "*" if s.quick else " "
        _say(f"{mark} {s.split}  {s.name:36s} {kind:24s} {s.arch}, {s.optimizer}")
    for split in SPLITS:
        part = [s for s in chosen if s.split == split]
        faults = Counter(s.fault.kind for s in part if s.fault)
        _say(f"{split}: {len(part) - faults.total()} healthy, {faults.total()} with faults")
    return 0


def score_command(options: argparse.Namespace) -> int:
    """Score predictions against a folder of recordings."""
    runs = load_runs(options.runs)
    result = score(runs, load_predictions(options.predictions))
    held = any(run.split == "held" for run in runs.values())
    for line in report(result, per_run=options.per_run and (not held or options.show_held)):
        _say(line)
    if options.json:
        options.json.write_text(json.dumps(result.summary(), indent=1))
    return 0


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    return [
        s
        for s in all_scenarios()
        if options.split in (s.split, "both")
        and (not options.only or s.name in options.only)
        and (s.quick or not options.quick)
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def part(command: argparse.ArgumentParser, default: str) -> None:
        command.add_argument("--split", choices=(*SPLITS, "both"), default=default)
        command.add_argument("--only", nargs="+", metavar="NAME", help="these scenarios")
        command.add_argument("--quick", action="store_true", help="the quick part of the zoo")
        command.add_argument("--show-held", action="store_true", help="name the runs of `held`")

    listing = commands.add_parser("list", help="print the scenarios; * marks the quick part")
    part(listing, "both")
    listing.set_defaults(command=list_command)
    running = commands.add_parser("run", help="train, check each label, and record")
    part(running, "look")
    running.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    running.add_argument("--jobs", type=int, default=1, help="processes, a core each")
    running.add_argument("--seed", type=int, help="another seed than the scenario's own")
    running.add_argument("--again", action="store_true", help="also what FOLDER has already")
    running.set_defaults(command=run_command)
    scoring = commands.add_parser("score", help="score predictions, a JSON object a line")
    scoring.add_argument("runs", type=Path, help="folder of recordings")
    scoring.add_argument("predictions", type=Path, help="JSONL")
    scoring.add_argument("--per-run", action="store_true", help="also a line for each run")
    scoring.add_argument("--show-held", action="store_true", help="lines for runs of `held` too")
    scoring.add_argument("--json", type=Path, help="write the figures to this file")
    scoring.set_defaults(command=score_command)
    options = parser.parse_args(arguments)
    code: int = options.command(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
