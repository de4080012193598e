"""What tools call the step, the loss, the gradient norm and the learning rate, and what we do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from foreshock_service.errors import Unreadable

STEP: Final = "step"
WALL_TIME: Final = "wall_time"
LOSS: Final = "loss"
MAX_COLUMNS: Final = 4096

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    STEP: (
        "step",
        "global_step",
        "train/global_step",
        "trainer/global_step",
        "train_step",
        "train/step",
        "iteration",
        "iterations",
        "iter",
        "num_updates",
        "update",
        "steps",
        "_step",
    ),
    LOSS: (
        "loss",
        "train/loss",
        "train_loss",
        "training_loss",
        "training/loss",
        "loss/train",
        "loss_train",
        "train_loss_step",
        "train/loss_step",
        "total_loss",
        "train/total_loss",
        "loss/total_loss",
        "batch_loss",
        "lm_loss",
        "train/lm_loss",
        "train/ce_loss",
        "train/crossentropyloss",
        "loss_metrics/global_avg_loss",
    ),
    "grad_norm": (
        "grad_norm",
        "train/grad_norm",
        "train_grad_norm",
        "gradient_norm",
        "train/gradient_norm",
        "global_grad_norm",
        "total_grad_norm",
        "train/total_grad_norm",
        "optim/total_grad_norm",
        "gnorm",
        "train/gnorm",
        "grad_norm/global",
        "grad_norm/total",
    ),
    "lr": (
        "lr",
        "learning_rate",
        "train/lr",
        "train/learning_rate",
        "train_lr",
        "optim/lr",
        "optim/learning_rate",
        "optim/learning_rate_group0",
        "lr/0",
    ),
    "log_z": ("log_z", "train/log_z"),
    "attn_logit_max": ("attn_logit_max", "train/attn_logit_max", "max_attention_logit"),
    "loss_scale": ("loss_scale", "train/loss_scale", "loss_scaling"),
    WALL_TIME: ("wall_time", "timestamp", "_timestamp", "unix_time"),
}
"""Each name of ours, and what others call it, the likeliest first; compared as `plain` makes them.

Validation and evaluation losses are never the loss, and neither is `train/train_loss`, which the
Hugging Face Trainer writes once, at the end, with the average of the whole training.
"""

_OURS: Final = {alias: ours for ours, aliases in ALIASES.items() for alias in aliases}
_RANK: Final = {alias: i for aliases in ALIASES.values() for i, alias in enumerate(aliases)}
_SEPARATORS: Final = re.compile(r"[\s.\-]+")


def plain(name: str) -> str:
    """The name as the table has it: lower case, `_` for spaces, dots and hyphens."""
    return _SEPARATORS.sub("_", name.strip().lower())


def ours(name: str) -> str | None:
    """What we call a column or tag, None for one that is not in the table."""
    return _OURS.get(plain(name))


class Binding:
    """Which of a run's columns is which of ours.

    Our name belongs to the first column that claims it, and of several on one row to the likeliest:
    `loss` beats `train_loss` beside it, so that a loss is never made of two. Any other column keeps
    its own name, unless that is one of ours or it is another count of steps.
    """

    def __init__(self) -> None:
        self._bound: dict[str, str] = {}
        self._names: dict[str, str | None] = {}

    def bind(self, columns: Iterable[str]) -> None:
        """Take new columns into account.

        Raises:
            Unreadable: there are more than any log has.
        """
        new = [column for column in columns if column not in self._names]
        if len(self._names) + len(new) > MAX_COLUMNS:
            raise Unreadable(f"more than {MAX_COLUMNS} names: a log has fewer")
        for column in sorted(new, key=lambda column: _RANK.get(plain(column), 0)):
            name = ours(column)
            if name is None:
                self._names[column] = column
            elif self._bound.setdefault(name, column) == column:
                self._names[column] = name
            elif name in (STEP, WALL_TIME) or column in ALIASES:
                self._names[column] = None
            else:
                self._names[column] = column

    def name(self, column: str) -> str | None:
        """What the column is called here; None: nothing, since another one has the name."""
        return self._names[column]

    def has(self, name: str) -> bool:
        """Whether some column has this name of ours."""
        return name in self._bound
