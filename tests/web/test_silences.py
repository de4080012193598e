"""Silences on the pages: made on an incident, told there, and ended on their own page."""

from __future__ import annotations

import time
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from foreshock_service.pipeline import silencing
from foreshock_service.store import silences
from foreshock_service.store.tables import silence
from playwright.sync_api import Browser, expect
from sqlalchemy import delete

from tests.web.conftest import SICK, Site, Visit

INCIDENT = f"/runs/{SICK}/incidents/1"


@pytest.fixture(autouse=True)
def _without_silences(site: Site) -> None:
    with site.store.write() as session:
        session.connection.execute(delete(silence))


def _silence(visit: Visit, reason: str = "") -> None:
    page = visit.page
    page.goto(visit.url + INCIDENT)
    page.locator("summary").click()
    page.get_by_label("How long").select_option("8 hours")
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Silence", exact=True).click()


def test_an_incident_can_be_silenced_without_scripts(browser: Browser, site: Site) -> None:
    """The form is plain; the page then says who silenced it, for how long, and why."""
    context = browser.new_context(java_script_enabled=False)
    _silence(Visit(context.new_page(), site.url), "a known shard")

    said = context.pages[0].locator(".silenced")
    expect(said).to_contain_text("Silenced by local for another 8 h")
    expect(said).to_contain_text("a known shard")
    context.close()
    with site.store.read() as session:
        (made,) = silences.listed(session, now=0)
    assert (made.run, made.kind, made.project) == (SICK, "explosion", None)
    assert made.ends_at - made.starts_at == pytest.approx(8 * 3600)


def test_a_silence_is_listed_and_ended(visit: Visit, site: Site) -> None:
    """The Runs page leads to the list, and the incident says nothing of it afterwards."""
    _silence(visit)
    page = visit.go("/")
    page.get_by_role("link", name="1 silence").click()
    expect(page.locator("h1")).to_have_text("1 silence is in force")
    expect(page.locator(".what")).to_have_text(f"Explosion on run {SICK}")

    page.get_by_role("button", name="End now").click()

    expect(page.locator("h1")).to_have_text("No silence is in force")
    expect(page.get_by_role("button", name="End now")).to_have_count(0)
    page.goto(site.url + INCIDENT)
    expect(page.locator(".silenced")).to_have_count(0)


def test_a_silence_that_begins_later_is_told_apart(visit: Visit, site: Site) -> None:
    """The head counts it by itself; a pattern for every kind reads as what it is."""
    now = time.time()
    later = {"kind": "loss_spike", "starts_at": now + 3600, "ends_at": now + 7200}
    for asked in (later, {"kind": "*", "group": "blocks.*", "ends_at": now + 60}):
        silencing.add(site.store, asked, by="ada", now=now)
    visit.page.goto(f"{visit.url}/silences")
    expect(visit.page.locator("h1")).to_have_text("1 silence is in force, 1 begins later")
    expect(visit.page.locator(".what")).to_have_text(["Everything at blocks.*", "Loss spike"])


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_a_name_is_not_broken(visit: Visit, site: Site, width: int) -> None:
    """Whoever made a silence is read in one line on every screen."""
    now = time.time()
    silencing.add(
        site.store, {"run": SICK, "ends_at": now + 60, "reason": "x " * 200},
        by="ada.lovelace@example.com", now=now,
    )  # fmt: skip
    page = visit.page
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{visit.url}/silences")
    lines = "e => { const r = document.createRange(); r.selectNodeContents(e);"
    lines += " return new Set([...r.getClientRects()].map(b => b.top)).size }"
    assert page.locator("tbody td:nth-child(3)").first.evaluate(lines) == 1


def test_a_hostile_reason_stays_text(visit: Visit) -> None:
    """On both pages."""
    _silence(visit, "<img src=x onerror=alert(1)>")
    expect(visit.page.locator(".silenced")).to_contain_text("<img src=x")
    visit.page.goto(f"{visit.url}/silences")
    expect(visit.page.locator("tbody")).to_contain_text("<img src=x")
    assert visit.page.locator("img").count() == 0


def test_a_form_that_the_page_never_offered_is_refused(visit: Visit) -> None:
    """A forged duration makes no silence."""
    page = visit.page
    page.goto(visit.url + INCIDENT)
    answer = page.request.post(
        f"{visit.url}{INCIDENT}/silence",
        form={"scope": "run", "duration": "9 years"},
        headers={"origin": visit.url},
    )
    assert answer.status == 400
    page.goto(f"{visit.url}/silences")
    expect(page.locator("h1")).to_have_text("No silence is in force")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/silences", INCIDENT])
def test_silenced_pages_are_accessible(
    visit: Visit, path: str, theme: Literal["light", "dark"]
) -> None:
    """axe finds nothing to complain of, with the form open, in either theme; a phone fits them."""
    page = visit.page
    page.emulate_media(color_scheme=theme)
    _silence(visit, "a known shard " * 20)
    page.goto(visit.url + path)
    for summary in page.locator("details > summary").all():
        summary.click()
    found = Axe().run(page)
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in found.response["violations"]] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
