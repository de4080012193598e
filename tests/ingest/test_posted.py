"""The JSON form: what a person can post by hand."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from foreshock.wire import measured_flag
from foreshock_service.errors import BadRequest, Unprocessable
from foreshock_service.pipeline.header import parse_json
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store

from tests.factories import make_batch, make_schema


def _loss(value: Any = 2.5, **header: Any) -> dict[str, Any]:
    return {
        "origin": {"run": "by-hand"},
        "scalar_names": ["loss"],
        "arrays": {"steps": [100], "scalars": [[value]]},
        **header,
    }


def test_one_loss_is_a_batch(store: Store, ingest: Ingest) -> None:
    """The smallest document is stored; posted twice it is one frame, another one is another."""
    for document in (_loss(), _loss(), _loss(2.4)):
        ingest.submit(parse_json(document, now=123.0)).result(10)
    with store.read() as session:
        frames = read_frames(session, "by-hand", 0, 0, 10)
    assert [(f.step, f.wall_time, dict(f.scalars)) for f in frames] == [
        (100, 123.0, {"loss": 2.5}),
        (100, 123.0, {"loss": 2.4}),
    ]


@pytest.mark.parametrize(
    ("spelled", "value"), [("NaN", np.nan), ("Infinity", np.inf), ("-Infinity", -np.inf)]
)
def test_numbers_that_json_lacks_are_spelled(spelled: str, value: float) -> None:
    """They are values, not gaps."""
    batch = parse_json(_loss(spelled))
    np.testing.assert_array_equal(batch.scalars, [[value]])
    assert batch.scalar_present.tolist() == [[1]]


def test_null_is_a_scalar_that_was_not_logged() -> None:
    """A gap, not a value."""
    assert parse_json(_loss(None)).scalar_present.tolist() == [[0]]


def test_lists_and_base64_give_the_same_batch() -> None:
    """Both are the binary form's arrays."""
    sent = make_batch(schema=make_schema(num_layers=2))
    names = ("steps", "wall_times", "scalars", "stats", "flags", "scalar_present")
    header = {
        "origin": {"run": "run-1", "attempt": 5},
        "schema": sent.schema,
        "scalar_names": list(sent.scalar_names),
        "num_series": 6,
        "num_statistics": 13,
    }
    lists = {name: getattr(sent, name).tolist() for name in names}
    encoded = {name: base64.b64encode(getattr(sent, name).tobytes()).decode() for name in names}
    for arrays in (lists, encoded):
        got = parse_json({**header, "arrays": arrays})
        for name in names:
            np.testing.assert_array_equal(getattr(got, name), getattr(sent, name))


def test_statistics_without_flags_count_as_measured() -> None:
    """Detection reads only what is flagged as measured."""
    schema = make_schema(num_layers=1, kinds=("weight",))
    stats = [[[1.0] * 13]]
    batch = parse_json(
        {"origin": {"run": "r"}, "schema": schema.hash, "arrays": {"steps": [1], "stats": stats}}
    )
    assert batch.flags[0] & measured_flag("weight")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "JSON object"),
        ({}, "origin"),
        (_loss(origin={"run": "no spaces"}), "origin.run"),
        (_loss(origin="me"), "origin"),
        (_loss("abc"), "'abc' is not a number"),
        (_loss(True), "True is not a number"),
        (_loss([1]), "is not a number"),
        (_loss(scalar_names="loss"), "scalar_names"),
        (_loss(scalar_names=["a", "b"]), "shape"),
        (_loss(arrays={"steps": [1.5]}), "whole number"),
        (_loss(arrays={"steps": [1 << 70]}), "out of range"),
        (_loss(arrays={"steps": [-1], "scalars": [[1]]}), "steps"),
        (_loss(arrays={"steps": [1]}), "arrays.scalars"),
        (_loss(arrays={"steps": [1], "scalars": [[1], [2]]}), "shape"),
        (_loss(arrays={"steps": [1, 2], "scalars": [[1], [2, 3]]}), "equal lengths"),
        (_loss(arrays={"steps": [1, 2], "scalars": [[1], 2]}), "equal lengths"),
        (_loss(arrays={"steps": "!!"}), "base64"),
        (_loss(arrays={"steps": "AAAA"}), "whole int64"),
        (_loss(arrays={"step": [1]}), "arrays"),
        (_loss(arrays={"steps": [1], "scalars": [[1]], "flags": [-1]}), "out of range"),
        (_loss(arrays={"steps": [1], "scalars": [[1]], "wall_times": ["NaN"]}), "wall_times"),
        (_loss(arrays={"steps": [1], "scalars": [[1]], "stats": "AAAAAA=="}), "num_series"),
        (_loss(num_series=-1), "num_series"),
        (_loss(num_series=1 << 62, num_statistics=1 << 62), "num_series"),
        (_loss(tables=[{"name": "x"}]), "tables"),
        (_loss(surprise=1), "surprise"),
    ],
)
def test_a_wrong_document_is_told_what_is_wrong(document: Any, said: str) -> None:
    """422 with the array or field, and what it may be."""
    with pytest.raises(Unprocessable, match=said):
        parse_json(document)


def test_a_given_checksum_is_checked() -> None:
    """It need not be given, and is not ignored."""
    with pytest.raises(BadRequest, match="checksum"):
        parse_json(_loss(crc32=1))
