"""The line at the foot of the Run page: what the monitor costs, and what it lost."""

from __future__ import annotations

import re

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from foreshock.wire import CONTENT_TYPE, ClientCounters, Event, encode_batch
from playwright.sync_api import expect

from tests.factories import START_SECONDS, make_batch
from tests.web.conftest import Site, Visit
from tests.web.seeds import block_schema

COUNTERS = ClientCounters(
    frames_measured=40, bytes_sent=3_400_000, overhead_seconds=0.9, background_seconds=0.1,
    training_seconds=40.0,
)  # fmt: skip
WHY = "measuring activations every 8th step: the monitor took 7.1% of the last 64 steps"


def _event(kind: str, step: int, **data: object) -> Event:
    return Event(kind=kind, wall_time=START_SECONDS + step, step=step, data=data)


def _post(
    site: Site,
    run: str,
    *events: Event,
    counters: ClientCounters = COUNTERS,
    seq: int = 0,
    num_frames: int = 40,
) -> None:
    schema = block_schema()
    scalars = {"loss": 2.0, "step_seconds": 1.0, "monitor/seconds": 0.012}
    batch = make_batch(
        run,
        seq=seq,
        first_step=40 * seq,
        num_frames=num_frames,
        schema=schema,
        scalars=scalars,
        events=events,
        counters=counters,
    )
    with httpx.Client(base_url=f"{site.url}/api/v1") as client:
        client.post("/schemas", json=schema.to_json()).raise_for_status()
        headers = {"content-type": CONTENT_TYPE}
        client.post("/frames", content=encode_batch(batch), headers=headers).raise_for_status()


def test_a_healthy_monitor_is_one_quiet_line(visit: Visit, site: Site) -> None:
    """Share of the newest steps, bytes, and nothing that asks for attention."""
    _post(site, "monitor-calm")
    line = visit.go("/runs/monitor-calm").locator("#monitor-line")
    expect(line).to_have_text("Monitor1.2% of the step3.4 MB sentnothing lost")
    expect(line.locator("[data-wrong]")).to_have_count(0)


def test_what_was_lost_is_marked_and_explained(visit: Visit, site: Site) -> None:
    """Drops, refusals and errors come first in the line, and the errors' text when it is opened."""
    error = _event("client_error", 7, part="update", error="MemoryError: <img src=x>")
    lost = ClientCounters(
        frames_dropped=1200, batches_rejected=1, errors=1, training_seconds=40.0, bytes_sent=10
    )
    _post(site, "monitor-lost", error, counters=lost)
    page = visit.go("/runs/monitor-lost")
    expect(page.locator("#monitor-line [data-wrong]")).to_have_text(
        ["1,200 frames dropped", "1 batch refused", "1 client error"]
    )
    page.locator("#monitor-line").click()
    expect(page.locator("#monitor-facts")).to_contain_text("Error at step 7")
    expect(page.locator("#monitor-facts")).to_contain_text("update: MemoryError: <img src=x>")


def test_a_thinned_run_says_since_when_and_why_until_it_returns(visit: Visit, site: Site) -> None:
    """The step at which thinning began, not the newest change; gone once all is as it was set."""
    told = [
        _event("cadence", step, message=WHY, thinned=True, every={"activation": every})
        for step, every in ((9, 8), (30, 16))
    ]
    _post(site, "monitor-thin", *told)
    page = visit.go("/runs/monitor-thin")
    expect(page.locator("#monitor-line")).to_contain_text("measuring less often since step 9")
    page.locator("#monitor-line").click()
    expect(page.locator("#monitor-facts")).to_contain_text(WHY)
    back = _event("cadence", 70, message="again", thinned=False, every={"activation": 4})
    _post(site, "monitor-thin", back, seq=1)
    expect(page.locator("#head-step")).to_have_text("79")
    expect(page.locator("#monitor-line")).not_to_contain_text("less often")


def test_a_run_that_ends_without_a_frame_is_shown_as_finished(visit: Visit, site: Site) -> None:
    """Its last words alone end it on an open page."""
    _post(site, "monitor-ends")
    own = re.compile("/api/v1/runs/monitor-ends$")
    answered: list[str] = []
    visit.page.on("response", lambda answer: answered.extend(own.findall(answer.url)))
    page = visit.go("/runs/monitor-ends")
    # The page asks at its start, when it begins to listen and when the stream is open.
    while len(answered) < 3:
        page.wait_for_event("response", lambda answer: own.search(answer.url) is not None)
    expect(page.locator("#pulse-word")).to_have_text("live")
    _post(site, "monitor-ends", Event(kind="finished", wall_time=1.0), seq=1, num_frames=0)
    expect(page.locator("#pulse-word")).to_have_text("finished")


@pytest.mark.parametrize("width", [390, 1440])
def test_the_opened_line_is_accessible_and_fits(visit: Visit, site: Site, width: int) -> None:
    """axe finds nothing, and a long text does not scroll a phone sideways."""
    error = _event("client_error", 7, part="activation", error="RuntimeError: " + "x" * 300)
    lost = ClientCounters(frames_dropped=7, errors=1, training_seconds=40.0)
    _post(site, f"monitor-{width}", error, counters=lost)
    visit.page.set_viewport_size({"width": width, "height": 900})
    page = visit.go(f"/runs/monitor-{width}")
    page.locator("#monitor-line").click()
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []
    assert page.evaluate("() => document.documentElement.scrollWidth") == width
