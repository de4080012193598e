"""`python -m foreshock_service`: the same as `foreshock serve`."""

from __future__ import annotations

import argparse
import sys

from foreshock_service.commands.serve import command


def main() -> int:
    """Parse the arguments of `serve` and run it."""
    parser = argparse.ArgumentParser(prog="foreshock-service", description=command.help)
    command.add_arguments(parser)
    return command.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
