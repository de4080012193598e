"""The API against its own description: whatever is sent, no answer is a failure of ours."""

from __future__ import annotations

from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok

from tests.factories import make_batch, make_schema
from tests.fixtures.server import send

NUM_EXAMPLES = 8
"""Requests a route."""


def test_no_request_makes_the_service_fail(client: httpx.Client) -> None:
    """Requests made from /openapi.json, valid and not, on every route but the endless stream."""
    schema = make_schema(num_layers=2)
    send(client, make_batch(schema=schema), schema)
    document = client.get("/openapi.json").json()
    del document["paths"]["/api/v1/runs/{run}/live"]
    described = schemathesis.openapi.from_dict(document)
    tried = 0
    for result in described.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @given(operation.as_strategy())
        @settings(
            max_examples=NUM_EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(base_url=str(client.base_url), checks=[not_a_server_error])

        ask()
        tried += 1
    assert tried >= 14
