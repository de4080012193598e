"""Which modules, parameters and observed tensors are measured, where the user does not want all.

A pattern is a shell-style glob (`fnmatch`) over the name that series have on the pages. It fits a
name if it fits the whole of it or a parent: `blocks.*.attn` is each block's attention with all that
is inside. A predicate is asked about the thing itself, and its parents do not matter.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import nn

from foreshock.errors import SettingError
from foreshock.logs import logger
from foreshock.settings import Predicate

_Choice = tuple[str, ...] | Predicate | None
_MAX_NEAR: Final = 3


class Selection:
    """`include` minus `exclude`; without either, everything."""

    def __init__(self, include: _Choice = None, exclude: _Choice = None) -> None:
        self._include, self._exclude = include, exclude

    def wants(self, name: str, item: nn.Module | torch.Tensor) -> bool:
        """Whether to measure the module, parameter or observed tensor `item`."""
        if self._include is not None and not _fits(self._include, name, item):
            return False
        return not self._exclude or not _fits(self._exclude, name, item)

    def modules(self, modules: Iterable[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
        """Those of the modules that are wanted.

        Raises:
            SettingError: the predicate raised.
        """
        return [(name, module) for name, module in modules if self._ask(name, module)]

    def parameters(self, names: Mapping[nn.Parameter, str]) -> dict[nn.Parameter, str]:
        """Those of the parameters that are wanted.

        Raises:
            SettingError: the predicate raised.
        """
        return {item: name for item, name in names.items() if self._ask(name, item)}

    def warn_of_idle_patterns(self, names: Iterable[str]) -> None:
        """Say of each pattern that fits none of the model's `names` which ones are near."""
        known = list(dict.fromkeys(names))
        for setting, choice in (("include", self._include), ("exclude", self._exclude)):
            for pattern in choice if isinstance(choice, tuple) else ():
                if any(_matches(pattern, name) for name in known):
                    continue
                near = _near(pattern, known)
                meant = f"; near it are {', '.join(near)}" if near else ""
                logger.warning(
                    "%s: no module or parameter that is measured fits the pattern %r%s. Correct "
                    "it, unless it names a tensor that is given to observe()",
                    setting,
                    pattern,
                    meant,
                )

    def _ask(self, name: str, item: nn.Module | torch.Tensor) -> bool:
        try:
            return self.wants(name, item)
        except Exception as error:
            raise SettingError(
                f"the function given as include or exclude failed for {name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _fits(choice: tuple[str, ...] | Predicate, name: str, item: Any) -> bool:
    if isinstance(choice, tuple):
        return any(_matches(pattern, name) for pattern in choice)
    return bool(choice(name, item))


def _matches(pattern: str, name: str) -> bool:
    while True:
        if fnmatch.fnmatchcase(name, pattern):
            return True
        name, dot, _ = name.rpartition(".")
        if not dot:
            return False


def _near(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that the pattern may have meant; for a pattern with a wildcard they are written with
    one, so that a hundred blocks are one suggestion."""
    parents: dict[str, None] = {}
    for name in names:
        while name:
            wild = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) if "*" in pattern else name
            parents[wild] = None
            name = name.rpartition(".")[0]
    return difflib.get_close_matches(pattern, parents, n=_MAX_NEAR, cutoff=0.5)
