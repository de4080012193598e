"""The job that Foreshock is for, from the training loop to the pager, through kills of the service.

One training with a real fault is watched over HTTP by one real service. The service is killed in
mid-training, and once more after it has told of the incident; each time it is started again on the
same folder and port. The story is played once, and each test reads one page of it.
"""

from __future__ import annotations

import html
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from foreshock.demo.server import free_port
from foreshock.demo.text import library_text
from foreshock.demo.training import MISTYPED_QKV_FACTOR, Recipe, train
from foreshock_service.api.envelope import unpack
from prometheus_client.parser import text_string_to_metric_families

from tests.main_job.service import KillableService, Receiver, receiving

RUN = "sick-0"
NUM_STEPS = 240
"""Enough for the fault to be told; its loss moves later, so that the incident is still early."""
KILL_AT_STEP = 30
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the service says of the run at one moment."""

    run: dict[str, Any]
    incidents: list[dict[str, Any]]
    page: str
    open_incidents: float
    steps: list[int]
    losses: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What the training saw, and what was told before and after the last kill."""

    losses: list[float]
    before: Told
    after: Told
    receiver: Receiver
    num_opened_before: int


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Train the demo's sick recipe while its service is killed and comes back, twice."""
    folder = tmp_path_factory.mktemp("main-job")
    with receiving() as receiver:
        service = KillableService(folder, port=free_port(), webhook_url=receiver.url)
        try:
            yield _play(service, receiver, folder / "spool")
        finally:
            service.kill()


def _play(service: KillableService, receiver: Receiver, spool_dir: Path) -> Story:
    recipe = Recipe(run=RUN, seed=0, num_steps=NUM_STEPS, qkv_factor=MISTYPED_QKV_FACTOR)
    losses: list[float] = []

    def training() -> None:
        losses.extend(train(recipe, text_B=library_text(), url=service.url, spool_dir=spool_dir))

    with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
        service.start()
        thread = threading.Thread(target=training)
        thread.start()
        try:
            _wait(lambda: _newest_step(client) >= KILL_AT_STEP)
            service.kill()
            assert thread.is_alive(), "the kill must fall into the training"
            service.start()
        finally:
            thread.join()
        _wait(lambda: _run(client).get("detected_ord", 0) >= NUM_STEPS)
        _wait(lambda: bool(receiver.opened()))
        before, num_opened = _told(client), len(receiver.opened())
        service.kill()
        service.start()
        _wait(lambda: _run(client).get("detected_ord", 0) >= NUM_STEPS)
        # Two rounds of detection and delivery: time in which a second telling would go out.
        time.sleep(1.0)
        after = _told(client)
    return Story(
        losses=losses, before=before, after=after, receiver=receiver, num_opened_before=num_opened
    )


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not until():
        assert time.monotonic() < deadline, "the service did not get there"
        time.sleep(0.05)


def _run(client: httpx.Client) -> dict[str, Any]:
    answer = client.get(f"/api/v1/runs/{RUN}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return {}
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def _newest_step(client: httpx.Client) -> int:
    head = _run(client).get("head")
    return head["step"] if head else -1


def _told(client: httpx.Client) -> Told:
    answer = client.get(f"/api/v1/runs/{RUN}/scalars", params={"names": "loss", "columns": 1024})
    _, arrays = unpack(answer.raise_for_status().content)
    incidents = client.get(f"/api/v1/runs/{RUN}/incidents").raise_for_status().json()["incidents"]
    return Told(
        run=_run(client),
        incidents=incidents,
        page=client.get(f"/runs/{RUN}").raise_for_status().text,
        open_incidents=_open_incidents(client.get("/metrics").raise_for_status().text),
        steps=arrays["steps"].tolist(),
        losses=arrays["mean"][0].tolist(),
    )


def _open_incidents(metrics: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == "foreshock_run_incidents_open" and sample.labels["run"] == RUN
    )


def _headline(page: str) -> str:
    found = re.search(r'<h1 id="sentence">(.*?)</h1>', page, re.DOTALL)
    assert found is not None
    return html.unescape(found[1]).strip()


@pytest.fixture(params=["before the last kill", "after it"])
def told(request: pytest.FixtureRequest, story: Story) -> Told:
    """What the service said, before it was killed the last time and after."""
    return story.before if request.param == "before the last kill" else story.after


def test_every_step_is_stored_exactly_once(story: Story, told: Told) -> None:
    """No kill loses a frame or stores one twice, and the losses are those of the training."""
    assert told.steps == list(range(NUM_STEPS))
    assert told.losses == pytest.approx(story.losses, rel=1e-6)
    assert told.run["head"]["counters"]["frames_dropped"] == 0


def test_the_fault_is_one_incident_that_names_the_guilty_layer(told: Told) -> None:
    """The QKV weights, whose learning rate was mistyped, are told first; nothing else is told."""
    (incident,) = told.incidents
    assert incident["state"] == "open"
    assert ".attn.qkv" in incident["root_series"]
    assert "(first attn.qkv)" in incident["sentence"]


def test_the_page_is_headed_by_the_sentence(told: Told) -> None:
    """The page as the server sends it, before any script runs, says what the API says."""
    assert _headline(told.page) == told.incidents[0]["sentence"]


def test_prometheus_counts_the_incident(told: Told) -> None:
    """An alert rule on open incidents of the run fires."""
    assert told.open_incidents == 1


def test_the_pager_is_told_of_the_incident(story: Story) -> None:
    """The signed delivery is about the incident of the API, and every signature was right."""
    (incident,) = story.before.incidents
    _, message = story.receiver.opened()[0]
    assert message["run"]["id"] == RUN
    for field in ("number", "kind", "root_series", "onset_step"):
        assert message["incident"][field] == incident[field]
    # The number that the logits reached has grown since; what happened and where has not.
    assert message["sentence"].partition(" and ")[0] == incident["sentence"].partition(" and ")[0]
    assert "(first attn.qkv)" in message["sentence"]
    assert story.receiver.refused == []


def test_the_pager_is_told_once(story: Story) -> None:
    """One delivery before the last kill; a repetition after it would carry the same id."""
    assert story.num_opened_before == 1
    assert len({delivery for delivery, _ in story.receiver.opened()}) == 1


def test_a_kill_changes_nothing_that_was_told(story: Story) -> None:
    """The incident comes back from the disk word for word."""
    assert story.after.incidents == story.before.incidents
