"""docs/clipping.md says of every rule what the code does."""

from __future__ import annotations

import re

import pytest
from foreshock_service.api.clipping import MAX_FRAMES, MAX_VALUES
from foreshock_service.api.replay import MAX_VALUES as MAX_REPLAYED
from foreshock_service.clipping.registry import RULES
from foreshock_service.commands.replay import DEFAULT_BUDGET
from foreshock_service.pipeline.replay import LEAST_VALUES

from tests.docs.markdown import ROOT, section

PAGE = ROOT / "docs" / "clipping.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \|(?: (.+?) \|)?$", re.MULTILINE)


def flat(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def test_the_table_has_every_rule_with_what_it_needs() -> None:
    """In the order of the registry, and whether its result is exact."""
    rows = ROW.findall(section(PAGE, "What it needs"))

    assert [row[:3] for row in rows] == [
        (name, "; ".join(rule.needs), "approximate" if rule.approximation else "exact")
        for name, rule in RULES.items()
    ]


@pytest.mark.parametrize("name", list(RULES))
def test_every_rule_has_its_parameters_source_and_limits(name: str) -> None:
    """Each number with its default, its range and its meaning; what is not as published; what
    becomes of NaN and Inf."""
    (text,) = [
        part
        for part in section(PAGE, "Rules").split("\n### ")
        if part.partition("\n")[0].strip() == name
    ]
    rule = RULES[name]

    assert ROW.findall(text) == [
        (key, f"{item.default:g}", f"{item.low:g} to {item.high:g}", item.meaning)
        for key, item in rule.parameters.items()
    ]
    assert f"**Source.** {rule.source}." in flat(text)
    assert f"**Not finite:** {rule.on_non_finite}." in flat(text)
    assert (f"**Approximate:** {rule.approximation}." in flat(text)) == bool(rule.approximation)


def test_the_bounds_are_those_of_the_code() -> None:
    """Of the route, and of the budget."""
    text = flat(PAGE.read_text())

    assert (
        f"at most {MAX_FRAMES:,} frames, or as many as hold {MAX_VALUES // 10**6} million" in text
    )
    replay = flat((ROOT / "docs" / "replay.md").read_text())
    assert f"of the new configuration, {DEFAULT_BUDGET:g} by default" in replay
    assert f"at most {MAX_REPLAYED // 10**6} million statistics" in replay
    assert f"a frame counting as {LEAST_VALUES} at least" in replay
