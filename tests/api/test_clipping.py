"""Shadow clipping through HTTP, of a run that a real client sent."""

from __future__ import annotations

from pathlib import Path

import foreshock
import httpx
import numpy as np
import pytest
import torch
from foreshock.wire import FrameBatch
from foreshock_service.app import build_app
from foreshock_service.clipping.registry import RULES
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store

from tests.factories import make_batch
from tests.fixtures.server import ServeApp, running, send

PATH = "/api/v1/runs/run-1/clipping"
STEPS = 60


def spiky() -> FrameBatch:
    """40 norms of 0.5, one of which is 5."""
    norms = np.full(40, 0.5)
    norms[33] = 5.0
    return make_batch(num_frames=40, scalars={"loss": 1.0, "grad_norm": norms})


def test_a_real_training_is_clipped_where_torch_clipped_it(
    client: httpx.Client, tmp_path: Path
) -> None:
    """The steps whose norm `clip_grad_norm_` found above 1, and by the factor that it took."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    norms = []
    with foreshock.watch(
        model, optimizer, run="run-1", url=str(client.base_url), spool_dir=tmp_path / "spool",
        run_id="run-1", overhead_budget=0,
    ) as watch:  # fmt: skip
        for step in range(STEPS):
            target = 8.0 if step % 20 == 13 else 0.5
            loss = (model(torch.randn(32, 8)) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            watch.grads_ready()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
            optimizer.step()
            watch.step(loss=loss)

    found = {item["algorithm"]: item for item in client.get(PATH).json()["algorithms"]}

    expected = [step for step, norm in enumerate(norms) if norm > 1.0]
    assert 0 < len(expected) < STEPS
    fixed = found["fixed"]
    assert (fixed["num_steps"], fixed["num_clipped"]) == (STEPS, len(expected))
    assert (fixed["first_step"], fixed["last_step"]) == (expected[0], expected[-1])
    assert fixed["min_factor"] == pytest.approx(1.0 / (max(norms) + 1e-6), rel=1e-4)
    assert [name for name, item in found.items() if item["available"]] == list(RULES)
    assert found["agc"]["approximate"]
    assert {t["name"] for t in found["adagc"]["tensors"]} <= {
        name for name, _ in model.named_parameters()
    }


def test_all_rules_are_answered_in_their_order(client: httpx.Client) -> None:
    """With the sentence that says what nobody can tell."""
    send(client, spiky())

    answer = client.get(PATH).json()

    assert [item["algorithm"] for item in answer["algorithms"]] == list(RULES)
    assert "nobody can say" in answer["cannot_tell"]
    assert (answer["from_ord"], answer["to_ord"], answer["note"]) == (0, 40, "")
    zclip = answer["algorithms"][1]
    assert (zclip["num_clipped"], zclip["strongest"][0]["step"]) == (1, 33)
    assert zclip["exact"]


def test_one_rule_takes_its_parameters(client: httpx.Client) -> None:
    """A limit of 0.4 clips everything."""
    send(client, spiky())

    (item,) = client.get(PATH, params={"algorithm": "fixed", "max_norm": 0.4}).json()["algorithms"]

    assert item["parameters"] == {"max_norm": 0.4}
    assert item["clipped_share"] == 1.0


def test_a_part_of_the_run_says_so(client: httpx.Client) -> None:
    """From ord 30 to 35 there are five steps."""
    send(client, spiky())

    answer = client.get(PATH, params={"from": 30, "to": 35, "algorithm": "fixed"}).json()

    assert answer["num_frames"] == 5
    assert "the rules begin there" in answer["note"]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("algorithm=nonsense", 422, "there are fixed, zclip"),
        ("max_norm=2", 422, "say which with `algorithm`"),
        ("algorithm=fixed&max_norm=x", 422, "must be a number"),
        ("algorithm=fixed&max_norm=nan", 422, "must be between"),
        ("algorithm=fixed&max_norm=1e400", 422, "must be between"),
        ("algorithm=fixed&max_norm=1&max_norm=2", 422, "given twice"),
        ("algorithm=fixed&alpha=1", 422, "has no parameter"),
        ("algorithm=zclip&" + "&".join(f"p{i}=1" for i in range(99)), 422, "99 parameters"),
        ("from=9&to=3", 422, "must not be before"),
        ("rank=4", 404, "rank 4"),
        ("rank=-1", 422, "rank"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    client: httpx.Client, query: str, status: int, message: str
) -> None:
    """With a problem that says what to ask instead."""
    send(client, spiky())

    answer = client.get(f"{PATH}?{query}")

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]


def test_an_unknown_run_is_not_found(client: httpx.Client) -> None:
    """Like everywhere."""
    assert client.get("/api/v1/runs/absent/clipping").status_code == 404


def test_one_replay_runs_at_a_time(sqlite_store: Store, tmp_path: Path) -> None:
    """Another is told to come back, and when the first is done it is answered."""
    app = build_app(ServiceSettings(data_dir=tmp_path), sqlite_store)
    with running(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        send(client, spiky())
        with app.state.context.replays:
            busy = client.get(PATH)
        free = client.get(PATH)

    assert (busy.status_code, free.status_code) == (429, 200)
    assert busy.headers["retry-after"] == "1"


def test_it_needs_the_scope_to_read(serve_app: ServeApp) -> None:
    """Like every other look at a run."""
    assert serve_app(require_token=True).get(PATH).status_code == 401
