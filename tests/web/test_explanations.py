"""Explanations in the pages: each kind has one, in short on its incidents."""

from __future__ import annotations

from typing import Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from foreshock_service.incidents.explanations import explained_kinds, explanation_path
from foreshock_service.web.explanation_page import explanation_page
from markdown_it import MarkdownIt
from playwright.sync_api import expect

from tests.web.conftest import SICK, Site, Visit

INDEX = "/incidents/kinds"


def test_an_incident_explains_its_kind(visit: Visit) -> None:
    """What it means, usual causes and what to try, and the way to all of it."""
    page = visit.page
    page.goto(f"{visit.url}/runs/{SICK}/incidents/1")
    card = page.get_by_role("region", name="What it means")
    expect(card).to_contain_text("A tensor keeps doubling")
    headings = card.get_by_role("heading", level=3).all_inner_texts()
    assert headings == ["Usual causes", "What to try"]

    card.get_by_role("link", name="More on this kind of incident").click()

    expect(page.locator("h1")).to_have_text("Explosion")
    expect(page.get_by_role("heading", name="What to look at")).to_be_visible()


def test_every_kind_has_a_page_that_the_index_leads_to(visit: Visit) -> None:
    """And every link on these pages leads to another of them, or out into the world."""
    page = visit.page
    page.goto(visit.url + INDEX)
    anchors = page.locator("main a").all()
    listed = [str(anchor.get_attribute("href")) for anchor in anchors]
    assert listed == sorted(f"{INDEX}/{kind}" for kind in explained_kinds())
    with httpx.Client(base_url=visit.url) as client:
        for path in listed:
            assert client.get(path).status_code == 200
            page.goto(visit.url + path)
            for anchor in page.locator("main a").all():
                href = str(anchor.get_attribute("href"))
                assert href in listed or href.startswith("https://")
                outward = href.startswith("https://")
                assert anchor.get_attribute("rel") == ("noopener noreferrer" if outward else None)


@pytest.mark.parametrize("name", ["nothing", "README", "..%2F..%2Fsettings", "explosion.md"])
def test_a_kind_without_a_page_says_so(site: Site, name: str) -> None:
    """Also a name that would climb out of the folder."""
    answer = httpx.get(f"{site.url}{INDEX}/{name}", headers={"accept": "text/html"})
    assert answer.status_code == 404
    assert explanation_path("nothing") == INDEX


def test_html_inside_the_text_is_shown_and_not_used() -> None:
    """The pages hold none; should one ever, it stays text, and so does a link to a script."""
    for kind in (None, *explained_kinds()):
        page = explanation_page(kind)
        assert "<script" not in "".join([page.intro, *(part.html for part in page.sections)])
    rendered = MarkdownIt("commonmark", {"html": False}).render(
        "<img src=x onerror=alert(1)> [a](javascript:alert(1))"
    )
    assert "<img" not in rendered
    assert "href" not in rendered


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", [INDEX, f"{INDEX}/explosion", f"{INDEX}/non_finite"])
def test_explanations_are_accessible(
    visit: Visit, path: str, theme: Literal["light", "dark"]
) -> None:
    """axe finds nothing to complain of, in either theme, and a phone fits them."""
    page = visit.page
    page.emulate_media(color_scheme=theme)
    page.goto(visit.url + path)
    found = Axe().run(page)
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in found.response["violations"]] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
