"""What a run says of itself that rules may use, and that no frame repeats."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_FORMATS: Final = {
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "16": "float16",
    "16mixed": "float16",
    "16true": "float16",
    "fp16mixed": "float16",
    "torchfloat16": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "bf16mixed": "bfloat16",
    "bf16true": "bfloat16",
    "torchbfloat16": "bfloat16",
    "fp8": "float8",
    "float8": "float8",
}
_FORMAT_KEYS: Final = (
    "precision", "dtype", "torch_dtype", "amp_dtype", "autocast", "mixed_precision", "fp16", "bf16",
    "fp8",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Settings of the first optimizer and of the run, None or empty where nobody said.

    `optimizer` is the optimizer's class, or those of several joined by "and", `betas` the decays of
    its averages, `alpha` that of RMSprop's. `number_format` is what the run's configuration says
    that it computes in: float16, bfloat16 or float8.
    """

    optimizer: str = ""
    lr: float | None = None
    eps: float | None = None
    betas: tuple[float, float] | None = None
    alpha: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    number_format: str = ""


def facts_of(info: Mapping[str, Any]) -> RunFacts:
    """From the data of the run's `started` event, which a client may fill as it likes."""
    optimizers = info.get("optimizers")
    first = optimizers[0] if isinstance(optimizers, list) and optimizers else None
    about: Mapping[str, Any] = first if isinstance(first, Mapping) else {}
    settings = about.get("settings")
    if not isinstance(settings, Mapping):
        settings = {}
    config = info.get("config")
    return RunFacts(
        optimizer=" and ".join(_classes(optimizers)),
        lr=_number(settings.get("lr")),
        eps=_number(settings.get("eps")),
        betas=_betas(settings.get("betas")),
        alpha=_number(settings.get("alpha")),
        momentum=_number(settings.get("momentum")),
        weight_decay=_number(settings.get("weight_decay")),
        number_format=_format(config if isinstance(config, Mapping) else {}),
    )


def _classes(optimizers: Any) -> list[str]:
    """The different classes of the optimizers, the first one's first."""
    listed = optimizers if isinstance(optimizers, list) else []
    names = [about.get("class") for about in listed if isinstance(about, Mapping)]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _betas(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list | tuple) or len(value) < 2:
        return None
    first, second = _number(value[0]), _number(value[1])
    if first is None or second is None or not (0 <= first < 1 and 0 <= second < 1):
        return None
    return first, second


def _format(config: Mapping[str, Any]) -> str:
    for key in _FORMAT_KEYS:
        value = config.get(key)
        if value is True and key in _FORMATS:
            return _FORMATS[key]
        if isinstance(value, str | int) and not isinstance(value, bool):
            plain = "".join(c for c in str(value)[:32].lower() if c.isalnum())
            if plain in _FORMATS:
                return _FORMATS[plain]
    return ""
