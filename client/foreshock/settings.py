"""Every setting of the client: an argument, a `FORESHOCK_*` variable, or a default that is right.

This is the only place that reads the environment.
"""

from __future__ import annotations

import difflib
import math
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypedDict

from foreshock.errors import SettingError
from foreshock.wire import MAX_FRAMES, RUN_ID

MIB: Final = 1 << 20
_PREFIX: Final = "FORESHOCK_"
_LAUNCHER_NAMES: Final = {"rank": "RANK", "world": "WORLD_SIZE"}
"""Fields that also have the variable of PyTorch's launchers, read when ours is not set."""
_SELECTIONS: Final = ("include", "exclude")
_YES_NO: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

Predicate = Callable[[str, Any], bool]
"""Says of a name and its module, parameter or observed tensor whether it is meant."""


def _default_spool_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "foreshock" / "spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """Settings of one watch; each field is also the variable `FORESHOCK_<NAME>`."""

    enabled: bool = True
    """False makes `watch` return an object that does nothing."""
    url: str = "http://127.0.0.1:8712"
    """Address of the service."""
    token: str | None = None
    """Bearer token with the scope `ingest`; None where the service asks for none."""
    project: str = "default"
    """Groups runs on the service."""
    run: str | None = None
    """Name of the run for people; the id is made of it."""
    run_id: str | None = None
    """Id of the run; give the same one again to resume a run. None makes a new one."""
    attempt: int | None = None
    """Start time in milliseconds; a later start of the same run must have a larger one."""
    rank: int = 0
    """Rank of this process (also `RANK`)."""
    world: int = 1
    """Number of processes (also `WORLD_SIZE`)."""
    first_step: int = 0
    """Number of the first step; set it when training resumes from a checkpoint."""

    include: tuple[str, ...] | Predicate | None = None
    """Measure only what fits one of these patterns, or what the predicate says yes to."""
    exclude: tuple[str, ...] | Predicate | None = None
    """Leave out what fits one of these; it wins over `include`."""
    gradient_every: int = 1
    """Measure gradients every so many steps; 0: never."""
    weight_every: int = 1
    """Measure weights every so many steps; 0: never."""
    update_every: int = 1
    """Measure updates every so many steps; 0: never, and then no copy of the weights is kept."""
    activation_every: int = 4
    """Measure activations every so many steps; 0: never."""
    activation_grad_every: int = 4
    """Measure gradients of activations every so many steps; 0: never."""
    histogram_every: int = 32
    """Send exponent histograms with every so-manieth frame; 0: never."""
    overhead_budget: float = 0.05
    """Share of the training's time that measuring may take; above it the client measures less
    often, and says so. 0: never."""
    max_series: int = 8192
    """Series beyond this number are not measured; one `client_error` event says so."""

    batch_frames: int = 16
    """Frames of one POST at most."""
    batch_seconds: float = 1.0
    """A frame waits at most this long for others to join its batch."""
    queue_frames: int = 256
    """Frames in memory that wait for the spool; beyond it the oldest are dropped and counted."""
    spool_dir: Path | None = None
    """Folder of batches that are not acknowledged yet; None: `~/.cache/foreshock/spool`."""
    spool_max_bytes: int = 512 * MIB
    """Bound of one process's spool; beyond it the oldest batches are dropped and counted."""
    spool_fsync: bool = False
    """Flush each batch to the disk. Without it a batch survives the death of the process, but the
    last seconds may not survive a power cut."""

    compress: bool = True
    """Send with zstd where the package `zstandard` is installed (`pip install foreshock[zstd]`)."""
    request_timeout_seconds: float = 10.0
    """How long the service may take to answer; nobody but the sender's thread waits for it."""
    retry_first_seconds: float = 0.5
    """Pause after a first failure; it doubles up to `retry_max_seconds`, with jitter."""
    retry_max_seconds: float = 30.0
    """Longest pause between two tries."""
    close_timeout_seconds: float = 5.0
    """How long `close` waits for the service; what is left stays in the spool for the next run."""

    def __post_init__(self) -> None:
        """Raises: SettingError: a value cannot be used."""
        _check_types(self)
        _check_ranges(self)
        if not self.url.startswith(("http://", "https://")) or " " in self.url:
            raise SettingError(
                f"url {self.url!r}: give the service's address as http://host:port or https://host"
            )
        if self.run_id is not None and not RUN_ID.fullmatch(self.run_id):
            raise SettingError(
                f"run_id {self.run_id!r}: use letters, digits, '.', '_' or '-', at most 128, "
                "beginning with a letter or digit"
            )
        if self.rank >= self.world:
            raise SettingError(f"rank {self.rank}: must be below world, which is {self.world}")

    def spool_folder(self) -> Path:
        """The spool folder in force."""
        return self.spool_dir if self.spool_dir is not None else _default_spool_dir()


class SettingArguments(TypedDict, total=False):
    """The arguments of `watch` that are settings, but for those that it names itself. Their types
    are those of `ClientSettings`, and None counts as not given; a test holds the two together."""

    enabled: bool | None
    run_id: str | None
    attempt: int | None
    rank: int | None
    world: int | None
    first_step: int | None
    gradient_every: int | None
    weight_every: int | None
    update_every: int | None
    activation_every: int | None
    activation_grad_every: int | None
    histogram_every: int | None
    overhead_budget: float | None
    max_series: int | None
    batch_frames: int | None
    batch_seconds: float | None
    queue_frames: int | None
    spool_dir: Path | str | None
    spool_max_bytes: int | None
    spool_fsync: bool | None
    compress: bool | None
    request_timeout_seconds: float | None
    retry_first_seconds: float | None
    retry_max_seconds: float | None
    close_timeout_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """Settings, and for each that was given where it comes from: `argument`, or a variable."""

    settings: ClientSettings
    sources: dict[str, str]


def load_settings(
    arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> ClientSettings:
    """As `load_with_sources`, without where each comes from."""
    return load_with_sources(arguments, environ).settings


def load_with_sources(
    arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> LoadedSettings:
    """Settings from arguments, then `FORESHOCK_*` variables, then defaults.

    An argument that is None counts as not given. `environ` is the process's environment unless
    given.

    Raises:
        SettingError: a name is unknown, or a value cannot be used.
    """
    environ = os.environ if environ is None else environ
    hints = typing.get_type_hints(ClientSettings)
    for name in arguments:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            meant = f": did you mean {near[0]}?" if near else ""
            raise SettingError(
                f"unknown setting {name}{meant}; the settings are {', '.join(sorted(hints))}"
            )
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for field in fields(ClientSettings):
        name = field.name
        given = arguments.get(name)
        if given is not None:
            values[name] = _from_argument(name, hints[name], given)
            sources[name] = "argument"
            continue
        for variable in (_PREFIX + name.upper(), _LAUNCHER_NAMES.get(name)):
            text = environ.get(variable) if variable else None
            if variable and text:
                values[name] = _from_text(name, variable, hints[name], text)
                sources[name] = variable
                break
    return LoadedSettings(settings=ClientSettings(**values), sources=sources)


def misspelt_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """`FORESHOCK_*` variables that are no setting but look like one, and the one each looks like.

    Those of the service share the prefix, so that a name that is merely unknown says nothing."""
    names = [_PREFIX + field.name.upper() for field in fields(ClientSettings)]
    found: dict[str, str] = {}
    for variable in os.environ if environ is None else environ:
        if variable.startswith(_PREFIX) and variable not in names:
            near = difflib.get_close_matches(variable, names, n=1, cutoff=0.9)
            if near:
                found[variable] = near[0]
    return found


def _wanted(hint: Any) -> type:
    """The type behind `X | None`."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    wanted: type = hint
    return wanted


def _from_argument(name: str, hint: Any, value: Any) -> Any:
    if name in _SELECTIONS:
        return _selection(name, value)
    wanted = _wanted(hint)
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted is float and type(value) is int:
        return float(value)
    return value


def _from_text(name: str, variable: str, hint: Any, text: str) -> Any:
    if name in _SELECTIONS:
        return _selection(variable, text)
    wanted = _wanted(hint)
    try:
        if wanted is bool:
            return _YES_NO[text.strip().lower()]
        return wanted(text)
    except (KeyError, ValueError) as error:
        what = "yes or no" if wanted is bool else f"of type {wanted.__name__}"
        raise SettingError(f"{variable}={text!r}: the value must be {what}") from error


def _selection(name: str, value: Any) -> tuple[str, ...] | Predicate:
    """Patterns, of a text with commas or a sequence of texts; or the predicate as it is."""
    if callable(value):
        predicate: Predicate = value
        return predicate
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence | set | frozenset) or not all(
        isinstance(part, str) and part.strip() for part in value
    ):
        raise SettingError(
            f"{name} must be a pattern such as 'blocks.*.attn', several of them, or a function "
            "of a name and a module or tensor"
        )
    if not value and name.lower().endswith("include"):
        raise SettingError(f"{name} is empty: leave it out to measure everything")
    return tuple(part.strip() for part in value)


def _check_types(settings: ClientSettings) -> None:
    for name, hint in typing.get_type_hints(ClientSettings).items():
        if name in _SELECTIONS:
            continue  # `_selection` has seen to it
        value, wanted = getattr(settings, name), _wanted(hint)
        if value is None and wanted is not hint:
            continue
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise SettingError(
                f"{name} must be of type {wanted.__name__}, not {type(value).__name__}"
            )


def _check_ranges(settings: ClientSettings) -> None:
    positive = ("world", "max_series", "batch_frames", "queue_frames", "spool_max_bytes")
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or value < 0:
            raise SettingError(f"{field.name}={value}: the value must be a number from 0 up")
        above_0 = field.name in positive or isinstance(value, float)
        if value == 0 and above_0 and field.name != "overhead_budget":
            raise SettingError(f"{field.name}=0: the value must be above 0")
    if settings.overhead_budget >= 1:
        raise SettingError(
            f"overhead_budget={settings.overhead_budget}: give a share of the training's time below"
            " 1, such as 0.05, or 0 to measure however much it costs"
        )
    if settings.batch_frames > MAX_FRAMES:
        raise SettingError(f"batch_frames={settings.batch_frames}: at most {MAX_FRAMES}")
