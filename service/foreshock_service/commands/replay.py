"""`foreshock replay`: stored runs under another configuration, and in the shadow of clipping."""

from __future__ import annotations

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import Final

from foreshock.commands import Command
from sqlalchemy.exc import SQLAlchemyError

from foreshock_service.clipping.registry import RULES, values_of
from foreshock_service.commands.arguments import (
    INTERRUPTED,
    add_database_arguments,
    closed,
    detection_config,
    settings_from,
)
from foreshock_service.commands.replay_output import ReplayOutput
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.errors import NotFound, ServiceError, Unprocessable
from foreshock_service.pipeline.clipping import shadow_clipping, span_of
from foreshock_service.pipeline.replay import config_in_force, replay_run
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import head, runs
from foreshock_service.store.schema import check_current
from foreshock_service.store.session import Store

DEFAULT_BUDGET: Final = 1.0
"""Alerts per 1000 steps. A sound run should have none; this is what a person can look at."""
RUNS_AT_ONCE: Final = 500

Chosen = dict[str, dict[str, float]]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read stored runs again under another configuration of detection; nothing is written. Exit "
        "status: 0 within the budget, 1 above it, 2 something could not be replayed, 130 "
        "interrupted, 141 nobody reads the output any more."
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="a run's id, or a name that one has")
    parser.add_argument("--all", action="store_true", help="every run of the database")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="another configuration, as TOML"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=DEFAULT_BUDGET,
        metavar="N",
        help=f"alerts per 1000 steps that are accepted (default: {DEFAULT_BUDGET:g})",
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help="write the new notifications, one a line; - for stdout, sentences then go to stderr",
    )
    parser.add_argument(
        "--clipping", action="store_true", help="replay published clipping rules instead"
    )
    parser.add_argument(
        "--algorithm",
        action="append",
        choices=list(RULES),
        help="with --clipping: this rule only; may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="with one --algorithm: one of its parameters",
    )
    parser.add_argument("--rank", type=int, help="with --clipping: default the lowest rank")
    add_database_arguments(parser)


def _run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    if settings is None:
        return 2
    lines = sys.stderr if args.jsonl == "-" else sys.stdout
    output = ReplayOutput(lines, sys.stderr)
    try:
        status = _replay_or_clip(args, settings, output)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return closed()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ServiceError, SQLAlchemyError, OSError) as error:
        return output.refuse(str(error))


def _replay_or_clip(
    args: argparse.Namespace, settings: ServiceSettings, output: ReplayOutput
) -> int:
    _check(args)
    config = None if args.config is None else detection_config(args.config)
    chosen = _chosen(args)
    store = _open(settings)
    try:
        wanted = _wanted(store, args)
        if args.clipping:
            return _clip(store, wanted, args, chosen, output)
        return _replay(store, wanted, args, config, output)
    finally:
        store.close()


def _check(args: argparse.Namespace) -> None:
    if bool(args.runs) == args.all:
        raise Unprocessable("name the runs to replay, or say --all")
    if not math.isfinite(args.budget) or args.budget < 0:
        raise Unprocessable(f"--budget must be a number from 0 up, and is {args.budget}")
    if args.clipping and (args.config or args.jsonl):
        raise Unprocessable("--clipping replays no detection: leave out --config and --jsonl")
    if not args.clipping and (args.algorithm or args.set or args.rank is not None):
        raise Unprocessable("--algorithm, --set and --rank belong to --clipping")


def _chosen(args: argparse.Namespace) -> Chosen | None:
    if not args.algorithm:
        if args.set:
            raise Unprocessable("--set needs --algorithm: it is a parameter of one rule")
        return None
    names = list(dict.fromkeys(args.algorithm))
    if args.set and len(names) > 1:
        raise Unprocessable("--set needs one --algorithm only: which is meant?")
    values: dict[str, float] = {}
    for text in args.set:
        name, _, number = text.partition("=")
        try:
            values[name] = float(number)
        except ValueError:
            raise Unprocessable(f"--set {text}: write NAME=VALUE with a number") from None
    try:
        values_of(names[0], values)
    except ValueError as error:
        raise Unprocessable(str(error)) from error
    return {name: dict(values) for name in names}


def _open(settings: ServiceSettings) -> Store:
    """The database as it is: a replay makes none, and migrates none."""
    if settings.database_url is None and not (settings.data_dir / "foreshock.db").is_file():
        raise NotFound(
            f"there is no database in {settings.data_dir}: say where with --data-dir or "
            "--database-url"
        )
    store = Store(settings.url())
    try:
        check_current(store)
    except BaseException:
        store.close()
        raise
    return store


def _wanted(store: Store, args: argparse.Namespace) -> list[str]:
    with store.read() as session:
        if not args.all:
            found = [runs.find(session, text).run_id for text in args.runs]
            return list(dict.fromkeys(found))
        every: list[str] = []
        while True:
            page = runs.list_runs(session, limit=RUNS_AT_ONCE, offset=len(every))
            every += [item.run.run_id for item in page]
            if len(page) < RUNS_AT_ONCE:
                break
    if not every:
        raise NotFound("the database has no runs")
    return every


def _replay(
    store: Store,
    wanted: list[str],
    args: argparse.Namespace,
    config: EngineConfig | None,
    output: ReplayOutput,
) -> int:
    name = None if args.config is None else str(args.config)
    last = 0 if config is None else 1
    with output.notifications(args.jsonl) as write:
        for run_id in wanted:
            configs = [config_in_force(store, run_id), *([] if config is None else [config])]

            def told(which: int, rank: int, change: IncidentChange, run_id: str = run_id) -> None:
                if which == last:
                    write(run_id, rank, change)

            replay = replay_run(
                store, run_id, configs, on_change=told, on_progress=partial(output.at, run_id)
            )
            output.replayed(replay, name)
    return output.budget(args.budget)


def _clip(
    store: Store,
    wanted: list[str],
    args: argparse.Namespace,
    chosen: Chosen | None,
    output: ReplayOutput,
) -> int:
    for run_id in wanted:
        rank = args.rank
        if rank is None:
            with store.read() as session:
                rank = next(iter(head.ranks(session, run_id)), None)
        if rank is None:
            output.empty(run_id)
            continue
        report = shadow_clipping(
            store,
            run_id,
            rank,
            span_of(store, run_id, rank),
            chosen=chosen,
            on_progress=partial(output.at, run_id, rank),
        )
        output.clipped(run_id, report)
    return 0


command = Command(
    name="replay",
    help="run stored runs through another detection configuration, or through clipping rules",
    add_arguments=_add_arguments,
    run=_run,
)
