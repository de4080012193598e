"""The checks of the settings: what was changed, where, and what was probably meant to be."""

from __future__ import annotations

import urllib.parse
from dataclasses import fields
from typing import Any

from foreshock.doctor.check import Check, Status
from foreshock.settings import ClientSettings, LoadedSettings, misspelt_variables


def check_settings(loaded: LoadedSettings) -> list[Check]:
    """The settings that differ from their defaults, and variables that look like one and are
    none. A token is never shown."""
    changed = [
        f"{field.name}={_shown(field.name, getattr(loaded.settings, field.name))} "
        f"({loaded.sources[field.name]})"
        for field in fields(ClientSettings)
        if field.name in loaded.sources and getattr(loaded.settings, field.name) != field.default
    ]
    checks = [Check("settings", Status.OK, ", ".join(changed) or "all have their defaults")]
    checks += [
        Check("settings", Status.WARNING, f"{variable} is not a setting", f"did you mean {near}?")
        for variable, near in sorted(misspelt_variables().items())
    ]
    if not loaded.settings.enabled:
        checks.append(
            Check(
                "settings",
                Status.PROBLEM,
                f"watch() does nothing: enabled=no ({loaded.sources['enabled']})",
                "unset it where a training should be watched",
            )
        )
    return checks


def shown_url(url: str) -> str:
    """A URL without the name and the password that it may hold."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _shown(name: str, value: Any) -> str:
    if name == "token":
        return "(hidden)"
    return shown_url(value) if name == "url" else str(value)
