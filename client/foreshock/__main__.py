"""The command `foreshock`: its sub-commands are the entry points of `foreshock.commands`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from foreshock import __version__

_GROUP: Final = "foreshock.commands"
_OF_THE_SERVICE: Final = ("serve", "migrate", "token", "scan", "replay")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    available = {point.name: point for point in entry_points(group=_GROUP)}
    wanted = next((text for text in given if not text.startswith("-")), None)
    if wanted in _OF_THE_SERVICE and wanted not in available:
        sys.stderr.write(
            f"foreshock {wanted} belongs to the service: pip install foreshock-service\n"
        )
        return 2
    parser = argparse.ArgumentParser(
        prog="foreshock",
        description="Find the first layer that went wrong, steps before the loss moves.",
    )
    parser.add_argument("--version", action="version", version=f"foreshock {__version__}")
    choices = parser.add_subparsers(title="commands", dest="command", required=True)
    for name, point in sorted(available.items()):
        # Only the wanted command pays for its imports; the help needs all of them.
        if wanted is None or wanted == name:
            _add(choices, point)
    if wanted is not None and wanted not in available:
        parser.error(f"no command {wanted!r}; there are {', '.join(sorted(available))}")
    parsed = parser.parse_args(given)
    status: int = parsed.run(parsed)
    return status


def _add(choices: Any, point: EntryPoint) -> None:
    try:
        command = point.load()
    except ImportError as error:
        message = f"foreshock {point.name} cannot be used here: {error}\n"
        unusable = choices.add_parser(point.name, help=f"(not usable: {error})")
        unusable.set_defaults(run=lambda _: _refuse(message))
        return
    parser = choices.add_parser(command.name, help=command.help, description=command.help)
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)


def _refuse(message: str) -> int:
    sys.stderr.write(message)
    return 2


if __name__ == "__main__":
    sys.exit(main())
