"""The seam between the command line and those who add a sub-command to it: an entry point of the
group `foreshock.commands`, `name = "module:command"`, that points to a `Command`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One sub-command of `foreshock`.

    `add_arguments` declares its arguments on a fresh parser; `run` gets what was parsed and
    returns the exit status. Import what is heavy inside the functions' own modules, not here: the
    command line imports every entry point only when that command is asked for.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
