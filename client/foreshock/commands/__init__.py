"""Sub-commands of `foreshock`, found through the entry-point group `foreshock.commands`.

An entry point is named as its sub-command and points to a function
`command(arguments: Sequence[str]) -> int`: it gets what follows the sub-command's name, parses it
with its own `argparse` parser (`prog="foreshock <name>"`), and returns the exit status. The first
line of its docstring is its line in `foreshock --help`. Nothing heavy may be imported by the module
that holds it, because `foreshock --help` loads them all.
"""
