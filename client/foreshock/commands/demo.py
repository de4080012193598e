"""`foreshock demo`: two real trainings, one of them sick, on a service of their own; or one of the
zoo's."""

from __future__ import annotations

import argparse
import functools
import importlib
import importlib.util
import os
import sys

from foreshock.commands import Command
from foreshock.errors import ForeshockError

MIN_STEPS = 60
"""Fewer steps than this end within the warm-up and show nothing."""
NEEDED = ("torch", "tqdm", "foreshock_service")


def _steps(text: str) -> int:
    steps = int(text)
    if not MIN_STEPS <= steps <= 100_000:
        raise argparse.ArgumentTypeError(f"must lie between {MIN_STEPS} and 100000, not {steps}")
    return steps


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 65535, not {port}")
    return port


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 2**32:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 4294967295, not {seed}")
    return seed


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a small transformer twice, once with a mistyped learning-rate schedule, and watch "
        "Foreshock name the layer before the loss moves. Needs no GPU and no network."
    )
    parser.add_argument(
        "scenario", nargs="?", help="train this scenario of the zoo instead (see --list)"
    )
    parser.add_argument("--list", action="store_true", help="print the zoo's scenarios and end")
    parser.add_argument("--show-held", action="store_true", help="with --list: the held half too")
    parser.add_argument(
        "--seed", type=_seed, help="of weights and batches (0; of a scenario, its own)"
    )
    parser.add_argument("--steps", type=_steps, help="of each run (360; a scenario has its own)")
    parser.add_argument("--port", type=_port, default=0, help="of the dashboard (a free one)")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--keep", action="store_true", help="serve on until Ctrl-C")
    ending.add_argument("--exit", action="store_true", help="end when both runs have ended")


def _run(arguments: argparse.Namespace) -> int:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"foreshock demo: not installed: {', '.join(missing)}; "
            "pip install 'foreshock[demo]' torch",
            file=sys.stderr,
        )
        return 2
    wrong = _misused(arguments)
    if wrong:
        print(f"foreshock demo: {wrong}", file=sys.stderr)
        return 2
    try:
        return _zoo(arguments) if _of_the_zoo(arguments) else _story(arguments)
    except ForeshockError as error:
        print(f"foreshock demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _of_the_zoo(arguments: argparse.Namespace) -> bool:
    return arguments.list or arguments.scenario is not None


def _misused(arguments: argparse.Namespace) -> str | None:
    """What goes together with a scenario or a list, and what does not."""
    if arguments.list and arguments.scenario is not None:
        return "give a scenario's name or --list, not both"
    if arguments.show_held and not arguments.list:
        return "--show-held goes with --list; a scenario of either half runs by its name"
    if arguments.steps is not None and _of_the_zoo(arguments):
        return "--steps is for the demo without a name: a scenario has its own number of steps"
    return None


# Loaded by name: `foreshock --help` on a trainer must neither wait for torch nor need tqdm.


def _story(arguments: argparse.Namespace) -> int:
    story = importlib.import_module("foreshock.demo.story")
    options = story.Options(
        seed=arguments.seed or 0,
        num_steps=360 if arguments.steps is None else arguments.steps,
        port=arguments.port,
        keep_serving=_keeps_serving(arguments),
    )
    status: int = story.tell_story(options)
    return status


def _zoo(arguments: argparse.Namespace) -> int:
    zoo = importlib.import_module("foreshock.demo.zoo")
    try:
        scenarios = zoo.load_zoo(zoo.checkout())
        if arguments.list:
            _print_all("\n".join(zoo.listing(scenarios, show_held=arguments.show_held)))
            return 0
        scenario = zoo.scenario_of(arguments.scenario, scenarios)
    except zoo.NoZooError as error:
        print(f"foreshock demo: {error}", file=sys.stderr)
        return 2
    story = importlib.import_module("foreshock.demo.story")
    live = importlib.import_module("foreshock.demo.live")
    status: int = story.with_service(
        functools.partial(live.play_live, scenario, seed=arguments.seed),
        port=arguments.port,
        keep_serving=_keeps_serving(arguments),
    )
    return status


def _print_all(text: str) -> None:
    """Print to a reader that may have seen enough, as `head` has."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What is still buffered must not meet the closed pipe again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _keeps_serving(arguments: argparse.Namespace) -> bool:
    return bool(arguments.keep or (sys.stdout.isatty() and not arguments.exit))


command = Command(
    name="demo",
    help="train a healthy and a sick model here and see the incident come before the loss",
    add_arguments=_add_arguments,
    run=_run,
)
