"""`foreshock demo`: two real trainings, one of them sick, on a service of their own."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
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
    parser.add_argument("--seed", type=_seed, default=0, help="of weights and batches (0)")
    parser.add_argument("--steps", type=_steps, default=360, help="of each run (360)")
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
    # Loaded by name: `foreshock --help` on a trainer must neither wait for torch nor need tqdm.
    story = importlib.import_module("foreshock.demo.story")
    options = story.Options(
        seed=arguments.seed,
        num_steps=arguments.steps,
        port=arguments.port,
        keep_serving=arguments.keep or (sys.stdout.isatty() and not arguments.exit),
    )
    try:
        status: int = story.tell_story(options)
    except ForeshockError as error:
        print(f"foreshock demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


command = Command(
    name="demo",
    help="train a healthy and a sick model here and see the incident come before the loss",
    add_arguments=_add_arguments,
    run=_run,
)
