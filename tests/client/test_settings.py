"""Settings come from arguments, then the environment, then defaults; mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from foreshock.errors import SettingError
from foreshock.settings import load_settings


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    """The nearest word counts."""
    environ = {"FORESHOCK_URL": "http://env:1", "FORESHOCK_PROJECT": "env", "RANK": "3"}
    settings = load_settings({"url": "http://argument:1", "world": 4}, environ)
    assert (settings.url, settings.project, settings.rank) == ("http://argument:1", "env", 3)
    assert settings.batch_frames == 16


def test_our_variable_wins_over_the_launchers() -> None:
    """FORESHOCK_RANK corrects a launcher's RANK."""
    environ = {"RANK": "1", "FORESHOCK_RANK": "0", "WORLD_SIZE": "2"}
    settings = load_settings({}, environ)
    assert (settings.rank, settings.world) == (0, 2)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("enabled", "no", False),
        ("batch_seconds", "2", 2.0),
        ("spool_dir", "/tmp/x", Path("/tmp/x")),
        ("attempt", "17", 17),
    ],
)
def test_variables_are_read_by_their_type(name: str, text: str, value: Any) -> None:
    """Each field is the variable FORESHOCK_<NAME>."""
    settings = load_settings({}, {f"FORESHOCK_{name.upper()}": text})
    assert getattr(settings, name) == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"made_up": 1}, "unknown setting made_up"),
        ({"gradent_every": 1}, "did you mean gradient_every"),
        ({"url": "localhost:8712"}, "url"),
        ({"url": 8712}, "url must be of type str"),
        ({"batch_frames": 0}, "batch_frames"),
        ({"batch_frames": 5000}, "at most 4096"),
        ({"batch_frames": True}, "must be of type int"),
        ({"batch_seconds": float("nan")}, "batch_seconds"),
        ({"activation_every": -1}, "activation_every"),
        ({"activation_every": 2.5}, "must be of type int"),
        ({"run_id": "a b"}, "run_id"),
        ({"rank": 2, "world": 2}, "rank 2"),
        ({"first_step": "3"}, "first_step"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    """The message says which setting is wrong and what is allowed."""
    with pytest.raises(SettingError, match=message):
        load_settings(arguments, {})


@pytest.mark.parametrize(
    ("variable", "text"),
    [("FORESHOCK_ENABLED", "maybe"), ("FORESHOCK_RANK", "one"), ("RANK", "x")],
)
def test_a_wrong_variable_is_named(variable: str, text: str) -> None:
    """The message names the variable that was read."""
    with pytest.raises(SettingError, match=f"{variable}='{text}'"):
        load_settings({}, {variable: text})
