"""The series schema: its hash and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from foreshock.errors import WireError
from foreshock.wire import Series, SeriesSchema, schema_from_json

SERIES = Series(
    name="a.weight",
    kind="weight",
    module_type="Linear",
    depth=1,
    numel=6,
    dtype="float32",
    shape=(2, 3),
)


def _document(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(SeriesSchema((SERIES,)).to_json()))
    document["series"][0].update(changes)
    return document


def test_a_schema_comes_back_from_json_with_its_hash() -> None:
    """Both sides name a schema alike, whatever the JSON went through."""
    schema = SeriesSchema((SERIES,))
    again = schema_from_json(json.loads(json.dumps(schema.to_json(), indent=2, sort_keys=True)))
    assert (schema, schema.hash) == (again, again.hash)


def test_a_schema_reckons_its_hash_once() -> None:
    """Each batch asks for it, and the reckoning walks every series."""
    schema = SeriesSchema((SERIES,))
    assert schema.hash is schema.hash


def test_the_hash_depends_on_the_order_of_the_series() -> None:
    """The rows of a frame follow the schema, so another order is another schema."""
    other = replace(SERIES, name="b.weight")
    assert SeriesSchema((SERIES, other)).hash != SeriesSchema((other, SERIES)).hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "loss"}, "kind must be one of"),
        ({"name": ""}, "kind must be one of"),
        ({"name": "x" * 513}, "at most 512"),
        ({"depth": -1}, "whole numbers"),
        ({"numel": 1.5}, "whole numbers"),
        ({"shape": [2, "3"]}, "whole numbers"),
        ({"made_up": 1}, "made_up"),
    ],
)
def test_a_wrong_series_is_refused_with_its_reason(changes: dict[str, Any], message: str) -> None:
    """The sender learns which rule a series breaks."""
    with pytest.raises(WireError, match=message):
        schema_from_json(_document(**changes))


def test_a_series_listed_twice_is_refused() -> None:
    """Two rows for one tensor would be read as two tensors."""
    document = _document()
    document["series"] *= 2
    with pytest.raises(WireError, match="listed twice"):
        schema_from_json(document)


@pytest.mark.parametrize("document", [None, [], "x", {}, {"statistics": ["made_up"], "series": []}])
def test_what_is_no_schema_is_refused(document: Any) -> None:
    """Any other JSON is a WireError."""
    with pytest.raises(WireError):
        schema_from_json(document)
