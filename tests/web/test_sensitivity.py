"""The sensitivity of a run on its page: what is in force, who set it, and buttons that set it."""

from __future__ import annotations

from typing import Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from foreshock_service.store.tables import detection_rule
from playwright.sync_api import Browser, expect
from sqlalchemy import delete

from tests.web.conftest import CALM, Site, Visit

PAGE = f"/runs/{CALM}"


@pytest.fixture(autouse=True)
def _without_rules(site: Site) -> None:
    with site.store.write() as session:
        session.connection.execute(delete(detection_rule))


def test_sensitivity_is_set_without_scripts(browser: Browser, site: Site) -> None:
    """For the run, over what its project says; and taken back."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url + PAGE)
    expect(page.locator("#sensitivity summary")).to_have_text("Sensitivity normal by default")

    for form, button, told in (
        ("Project default", "low", "Sensitivity low for the project"),
        ("This run", "high", "Sensitivity high for this run"),
        ("This run", "as project", "Sensitivity low for the project"),
    ):
        page.locator("#sensitivity summary").click()
        forms = page.get_by_role("form", name=f"Sensitivity: {form}")
        forms.get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#sensitivity summary")).to_have_text(told)

    page.locator("#sensitivity summary").click()
    project = page.get_by_role("form", name="Sensitivity: Project default")
    expect(project).to_contain_text("set by local")
    expect(project.get_by_role("button", name="low")).to_have_attribute("aria-pressed", "true")
    context.close()


def test_what_else_is_set_stays_and_is_told(visit: Visit, site: Site) -> None:
    """A button changes the sensitivity alone."""
    address = f"{site.url}/api/v1/runs/{CALM}/detection"
    document = {"disabled": ["plateau"], "thresholds": {"loss": {"sigmas": 8}}}
    httpx.put(address, json=document).raise_for_status()
    page = visit.go(PAGE)
    page.locator("#sensitivity summary").click()
    expect(page.locator("#sensitivity")).to_contain_text("Left out: plateau.")
    expect(page.locator("#sensitivity")).to_contain_text("Set by hand: loss.sigmas.")

    page.get_by_role("form", name="Sensitivity: This run").get_by_text("low").click()

    expect(page.locator("#sensitivity summary")).to_contain_text("low")
    assert httpx.get(address).json()["document"] == {**document, "sensitivity": "low"}


def test_a_level_that_the_page_never_offered_is_refused(visit: Visit) -> None:
    """A forged form sets nothing."""
    answer = visit.page.request.post(
        f"{visit.url}{PAGE}/sensitivity",
        form={"sensitivity": "loud"},
        headers={"origin": visit.url},
    )
    assert answer.status == 400
    page = visit.go(PAGE)
    expect(page.locator("#sensitivity summary")).to_contain_text("normal")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_open_control_is_accessible(visit: Visit, theme: Literal["light", "dark"]) -> None:
    """axe finds nothing to complain of, and a phone fits it."""
    page = visit.page
    page.emulate_media(color_scheme=theme)
    visit.go(PAGE)
    page.locator("#sensitivity summary").click()
    found = Axe().run(page)
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in found.response["violations"]] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
