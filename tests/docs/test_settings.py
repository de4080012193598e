"""The table of the client's settings says of each what the code says."""

from __future__ import annotations

import re
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
from foreshock.settings import MIB, ClientSettings, load_settings

from tests.docs.markdown import ROOT, section

PAGE: Final = ROOT / "docs" / "configuration.md"
ROW: Final = re.compile(
    r"^\| `(\w+)` \| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE
)
TYPES: Final[dict[Any, str]] = {
    bool: "yes or no",
    str: "text",
    int: "whole number",
    float: "number",
    Path: "path",
}
ROWS: Final = {found[0]: found[1:] for found in ROW.findall(section(PAGE, "Client"))}


def written(default: Any) -> str | None:
    """How the page writes a default; None where only words can say what happens."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, int) and default >= MIB:
        return f"{default // MIB} MiB"
    if isinstance(default, int | float):
        return f"{default:g}"
    return None if default is None else f"`{default}`"


def test_every_setting_has_a_row() -> None:
    """Exactly the fields that there are, in their order."""
    assert list(ROWS) == [field.name for field in fields(ClientSettings)]


@pytest.mark.parametrize("field", fields(ClientSettings), ids=lambda field: str(field.name))
def test_a_row_says_what_the_code_does(field: Any) -> None:
    """Variable, type and default agree with the field, and its meaning is not empty."""
    variable, kind, default, meaning = (cell.strip() for cell in ROWS[field.name])
    hint = typing.get_type_hints(ClientSettings)[field.name]
    plain = next((t for t in (hint, *typing.get_args(hint)) if t in TYPES), None)
    assert variable == f"FORESHOCK_{field.name.upper()}"
    assert kind == (TYPES[plain] if plain is not None else "patterns")
    assert default == (written(field.default) or default)
    assert (written(field.default) is None) == (field.default is None)
    assert meaning


def test_the_variables_of_the_table_are_read() -> None:
    """Each of them, set to something that cannot be used, is refused by its name; texts take
    anything."""
    values = {"yes or no": "x", "whole number": "x", "number": "x"}
    for variable, kind, _, _ in ROWS.values():
        if kind in values:
            with pytest.raises(ValueError, match=variable):
                load_settings({}, {variable: values[kind]})
