"""The Runs page, with and without scripts."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.web.conftest import CALM, DONE, SICK, Site, Visit


def test_headline_counts_what_needs_attention(visit: Visit) -> None:
    """The first line of the page says how many runs somebody should look at."""
    page = visit.go("/")
    expect(page.locator("h1")).to_have_text("Two runs need attention")


def test_runs_stand_in_their_group(visit: Visit) -> None:
    """An open incident, a calm run and a finished one are three groups, in this order."""
    page = visit.go("/")
    titles = [
        text.strip().rsplit(" ", 1)[0] for text in page.locator(".group th").all_inner_texts()
    ]
    assert titles == ["Needs attention", "Running normally", "Finished"]
    for place, run in enumerate((SICK, CALM, DONE)):
        expect(page.locator("tbody").nth(place)).to_contain_text(run)


def test_health_is_a_word_and_a_shape(visit: Visit) -> None:
    """Colour alone tells nobody anything who cannot see it."""
    page = visit.go("/")
    row = page.locator("tr", has_text=SICK)
    expect(row.locator(".health")).to_have_text("Critical")
    assert row.locator(".health svg path").count() == 1


def test_first_sign_is_a_sentence_with_the_layer_in_it(visit: Visit) -> None:
    """The list says which layer went first and how long before the loss."""
    page = visit.go("/")
    sign = page.locator("tr", has_text=SICK).locator(".sign")
    expect(sign.locator("b")).to_have_text("blocks.7.attn.o_proj")
    expect(sign).to_contain_text("36 steps before the loss moved")


def test_page_reads_without_scripts(browser: Browser, site: Site) -> None:
    """Everything but the filter is there when JavaScript is off."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    expect(page.locator("h1")).to_have_text("Two runs need attention")
    expect(page.locator("tr", has_text=SICK).locator(".spark path")).to_have_attribute(
        "d", re.compile("^M")
    )
    expect(page.locator("#filter")).to_be_hidden()
    context.close()


def test_thumbnail_is_a_picture_of_the_sick_layers(visit: Visit) -> None:
    """The thumbnail of the sick run has coloured pixels, that of the calm run next to none."""
    page = visit.go("/")
    count = """image => {
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, index) => index % 4 === 3 && value > 128).length;
    }"""
    sick = page.locator("tr", has_text=SICK).locator("img")
    calm = page.locator("tr", has_text=CALM).locator("img")
    for image in (sick, calm):
        image.scroll_into_view_if_needed()
        image.evaluate("image => image.decode()")
    assert sick.evaluate(count) > 200
    assert calm.evaluate(count) < 20


def test_filter_hides_what_it_does_not_name(visit: Visit) -> None:
    """Words in the filter must all be in a run's name, host or tags."""
    page = visit.go("/")
    page.get_by_label("Filter runs").fill("lm 400m")
    expect(page.locator("tr", has_text=CALM)).to_be_visible()
    expect(page.locator("tr", has_text=SICK)).to_be_hidden()
    expect(page.get_by_text("Needs attention")).to_be_hidden()


def test_filter_says_when_nothing_is_left(visit: Visit) -> None:
    """An empty table without a word looks like a fault."""
    page = visit.go("/")
    page.get_by_label("Filter runs").fill("no such run")
    expect(page.get_by_text("No run has all of these words.")).to_be_visible()


def test_hostile_layer_name_stays_text(visit: Visit) -> None:
    """A layer named like a tag with a script is shown, not run."""
    page = visit.go("/")
    expect(page.locator("tr", has_text="hostile").locator(".sign")).to_contain_text("onerror")
    assert page.locator("img[src='x']").count() == 0


def test_unknown_run_has_a_page_that_says_so(visit: Visit) -> None:
    """A mistyped address leads back, not into a wall of JSON."""
    answer = visit.page.goto(f"{visit.url}/runs/nothing")
    assert answer is not None
    assert answer.status == 404
    expect(visit.page.locator("h1")).to_contain_text("There is no run")
    visit.errors.clear()
