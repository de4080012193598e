"""Binary answers of a run that was sent through the front door."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from foreshock.wire import STATISTICS
from foreshock_service.api.codes import NAN, LogRange, decode_absolute
from foreshock_service.api.envelope import pack, unpack

from tests.factories import make_batch, make_schema, make_stats
from tests.fixtures.server import send

HEATMAP = "/api/v1/runs/run-1/heatmap"


def test_an_envelope_comes_back_as_it_was() -> None:
    """Also arrays of odd sizes and no rows."""
    arrays = {
        "a": np.arange(3, dtype=np.uint8),
        "b": np.arange(6.0).reshape(2, 3),
        "c": np.zeros((0, 4), np.uint16),
    }

    header, found = unpack(pack({"mode": "x"}, arrays))

    assert header["mode"] == "x"
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_heatmap_is_what_was_sent(client: httpx.Client) -> None:
    """Rows are the series of the kind, columns the frames, values the statistic to 0.1 %."""
    schema = make_schema(num_layers=3)
    stats = make_stats(5, 9)
    send(client, make_batch(schema=schema, stats=stats, num_frames=5), schema)

    answer = client.get(HEATMAP, params={"kind": "gradient", "statistic": "std"})

    header, arrays = unpack(answer.content)
    values = decode_absolute(arrays["codes"], LogRange(lo=header["lo"], hi=header["hi"]))
    expected = stats[:, 3:6, STATISTICS.index("std")].T
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    assert arrays["series"].tolist() == [3, 4, 5]
    assert arrays["steps"].tolist() == [0, 1, 2, 3, 4]


def test_a_nan_survives_pooling_into_one_column(client: httpx.Client) -> None:
    """One NaN element in one frame of a hundred colours the only column."""
    schema = make_schema(num_layers=2, kinds=("gradient",))
    stats = make_stats(100, 2)
    stats[37, 1, STATISTICS.index("nan_count")] = 1
    send(client, make_batch(schema=schema, stats=stats, num_frames=100), schema)

    answer = client.get(HEATMAP, params={"kind": "gradient", "statistic": "std", "columns": 1})

    codes = unpack(answer.content)[1]["codes"]
    assert (codes[1] == NAN).any()
    assert not (codes[0] == NAN).any()


def test_scalars_tell_a_nan_from_nothing(client: httpx.Client) -> None:
    """A NaN loss is marked, and a name that was never logged is empty."""
    loss = np.array([1.0, np.nan, 3.0, 4.0])
    send(client, make_batch(scalars={"loss": loss}))

    answer = client.get("/api/v1/runs/run-1/scalars", params={"names": "loss,absent"})

    header, arrays = unpack(answer.content)
    assert header["names"] == ["loss", "absent"]
    np.testing.assert_array_equal(arrays["max"][0], loss)
    assert arrays["nonfinite"].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_one_series_has_its_range_and_its_columns(client: httpx.Client) -> None:
    """`from` and `to` are ords, the second exclusive."""
    schema = make_schema(num_layers=2, kinds=("weight",))
    stats = make_stats(10, 2)
    send(client, make_batch(schema=schema, stats=stats, num_frames=10), schema)

    answer = client.get(
        "/api/v1/runs/run-1/series/1", params={"statistic": "mean", "from": 2, "to": 6}
    )

    header, arrays = unpack(answer.content)
    assert (header["from"], header["to"]) == (2, 6)
    np.testing.assert_array_equal(arrays["mean"], stats[2:6, 1, STATISTICS.index("mean")])


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("heatmap", {}, 422),
        ("heatmap", {"kind": "colour"}, 422),
        ("heatmap", {"kind": "gradient", "statistic": "beauty"}, 422),
        ("heatmap", {"kind": "gradient", "statistic": "std", "mode": "deviation"}, 422),
        ("heatmap", {"kind": "gradient", "columns": 0}, 422),
        ("heatmap", {"kind": "gradient", "columns": 10**9}, 422),
        ("heatmap", {"kind": "gradient", "from": "NaN"}, 422),
        ("heatmap", {"kind": "gradient", "from": 9, "to": 3}, 422),
        ("heatmap", {"kind": "gradient", "to": 10**30}, 422),
        ("heatmap", {"kind": "gradient", "rank": 5}, 404),
        ("series/999", {}, 404),
        ("series/-1", {}, 422),
        ("scalars", {"names": ",".join(map(str, range(100)))}, 422),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    client: httpx.Client, path: str, params: dict[str, str | int], status: int
) -> None:
    """With a problem that says what to ask instead."""
    schema = make_schema()
    send(client, make_batch(schema=schema), schema)

    answer = client.get(f"/api/v1/runs/run-1/{path}", params=params)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize("path", ["", "/series", "/heatmap?kind=gradient", "/scalars", "/live"])
def test_an_unknown_run_is_not_found(client: httpx.Client, path: str) -> None:
    """Everywhere alike."""
    assert client.get(f"/api/v1/runs/absent{path}").status_code == 404
