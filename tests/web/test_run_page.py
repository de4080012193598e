"""The Run page: what is drawn, what keys and pointer do, and what the address keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.factories import ATTEMPT
from tests.web.conftest import CALM, SICK, Site, Visit
from tests.web.seeds import block_schema, exploded, store_incident

NONFINITE_PIXELS = """() => {
  const canvas = document.querySelector("#heatmap canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let i = 0; i < data.length; i += 4) {
    found += Number(data[i] > 170 && data[i + 1] < 60 && data[i + 2] > 150);
  }
  return found;
}"""


def _pixel(page: Page, across: float, down: float) -> list[int]:
    """Red, green, blue of the heatmap at shares of its plot."""
    found: list[int] = page.evaluate(
        """([across, down]) => {
          const canvas = document.querySelector("#heatmap canvas");
          const gutter = parseFloat(getComputedStyle(document.body).getPropertyValue("--gutter"));
          const ratio = canvas.width / canvas.clientWidth;
          const x = gutter * ratio + across * (canvas.width - gutter * ratio);
          const { data } = canvas.getContext("2d").getImageData(x, down * canvas.height, 1, 1);
          return [...data].slice(0, 3);
        }""",
        [across, down],
    )
    return found


SHARP_REQUEST = re.compile(r"/heatmap\?.*columns=(?!1024)")
LANE_PIXELS = """tone => {
  const probe = document.createElement("i");
  probe.style.color = `var(--${tone})`;
  document.body.append(probe);
  const wanted = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number);
  probe.remove();
  const canvas = document.querySelector("#lane canvas");
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const columns = new Set();
  for (let i = 0; i < data.length; i += 4) {
    if ([0, 1, 2].every((k) => Math.abs(data[i + k] - wanted[k]) < 3) && data[i + 3] > 200) {
      columns.add((i / 4) % width / width);
    }
  }
  return [Math.min(...columns), Math.max(...columns)];
}"""


def _painted(page: Page) -> None:
    """Wait until a drawing that was asked for has been made."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def _settled(visit: Visit, path: str) -> Page:
    """Open a run and wait for the sharp window, which comes a moment after the page is ready."""
    with visit.page.expect_response(SHARP_REQUEST):
        page = visit.go(path)
    _painted(page)
    return page


def _open(visit: Visit, path: str) -> None:
    """Open any page and wait until it stays as it is; the Incident page needs no script."""
    if "/incidents/" in path:
        visit.page.goto(visit.url + path)
    elif path == "/":
        visit.go(path)
    else:
        _settled(visit, path)


def test_hot_layers_are_coloured_and_calm_ones_are_not(visit: Visit) -> None:
    """A cell far over its baseline is dark red, a calm one is almost the background."""
    page = _settled(visit, f"/runs/{SICK}")
    hot, calm = _pixel(page, 0.92, 0.5), _pixel(page, 0.3, 0.5)
    assert min(calm) > 240
    assert hot[0] - hot[2] > 50
    assert sum(calm) - sum(hot) > 200


def test_nan_is_seen_at_whole_run_zoom(visit: Visit) -> None:
    """One row of NaN elements among 48 is not pooled away."""
    page = _settled(visit, f"/runs/{SICK}")
    assert page.evaluate(NONFINITE_PIXELS) > 50


def test_verdict_and_facts_head_the_page(visit: Visit) -> None:
    """The first thing to read is which layer went, and how long before the loss."""
    page = visit.go(f"/runs/{SICK}")
    expect(page.locator("#sentence")).to_contain_text("blocks.7.attn.o_proj left its baseline")
    expect(page.locator(".facts")).to_contain_text("36 steps")
    expect(page.locator(".facts")).to_contain_text("400")


def test_first_to_go_lists_the_order_of_departure(visit: Visit) -> None:
    """The list begins with the incident's root, and counts the others from it."""
    page = visit.go(f"/runs/{SICK}")
    lines = page.locator("#tensors button")
    expect(lines.first).to_contain_text("blocks.7.attn.o_proj.weight")
    expect(lines.first).to_contain_text("step 420")
    expect(lines.nth(1)).to_contain_text("+2")


def test_who_is_named_need_not_be_the_first_to_leave(visit: Visit, site: Site) -> None:
    """The others are told by their distance from the first, which is never negative."""
    site.seed("late-name", num_frames=600, sick=True)
    incident = exploded()
    first, *others = incident.departures
    later = replace(incident, departures=(replace(first, step=first.step + 6), *others))
    store_incident(site.store, "late-name", later)
    page = _settled(visit, "/runs/late-name")
    steps = page.locator("#tensors button b").all_text_contents()
    assert len(steps) == 5
    assert [text for text in steps[1:] if not re.fullmatch(r"\+\d+", text)] == []


def test_new_frames_arrive_without_reload(visit: Visit, site: Site) -> None:
    """A batch that a client posts moves the page's step, by the live stream alone."""
    site.seed("live", num_frames=80)
    page = visit.go("/runs/live")
    expect(page.locator("#head-step")).to_have_text("79")
    page.evaluate("() => { document.body.dataset.same = 'yes' }")
    site.post("live", schema=block_schema(), num_frames=40, first=80)
    expect(page.locator("#head-step")).to_have_text("119")
    assert page.evaluate("() => document.body.dataset.same") == "yes"


def test_hidden_page_asks_for_nothing(visit: Visit, site: Site) -> None:
    """News that another tab passes on waits until somebody looks, and is then caught up with."""
    site.seed("hidden", num_frames=80)
    own = re.compile("/api/v1/runs/hidden$")
    answered: list[str] = []
    visit.page.on("response", lambda answer: answered.extend(own.findall(answer.url)))
    page = _settled(visit, "/runs/hidden")
    # The page asks at its start, when it begins to listen and when the stream is open.
    while len(answered) < 3:
        page.wait_for_event("response", lambda answer: own.search(answer.url) is not None)
    hide = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, " + (
        "configurable: true }); document.dispatchEvent(new Event('visibilitychange')) }"
    )
    page.evaluate(hide, True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    site.post("hidden", schema=block_schema(), num_frames=40, first=80)
    page.evaluate(
        """() => new Promise((done) => {
          const other = new BroadcastChannel("foreshock-live-hidden");
          const own = new BroadcastChannel("foreshock-live-hidden");
          own.onmessage = done;
          other.postMessage({ news: { upto: 120 } });
        })"""
    )
    assert asked == []
    page.evaluate(hide, False)
    expect(page.locator("#head-step")).to_have_text("119")


def test_incident_is_marked_from_its_onset_to_the_loss(visit: Visit) -> None:
    """The lane draws the marker where the run went wrong, and tells the lead in words."""
    page = _settled(visit, f"/runs/{SICK}")
    expect(page.locator("#lane")).to_have_attribute(
        "aria-label", re.compile("incident 1 at step 420, 36-step lead")
    )
    first, last = page.evaluate(LANE_PIXELS, "critical")
    gutter = page.evaluate(
        "() => parseFloat(getComputedStyle(document.body).getPropertyValue('--gutter'))"
        " / document.querySelector('#lane').clientWidth"
    )
    onset, loss = (gutter + step / 600 * (1 - gutter) for step in (420, 456))
    assert first < onset
    assert last == pytest.approx(loss, abs=0.01)


def test_run_of_scalars_alone_shows_its_loss(visit: Visit, site: Site) -> None:
    """Nothing is asked of layers that were not measured, and nothing is shown of them."""
    site.seed_scalars("scalars", num_frames=60)
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    page = visit.go("/runs/scalars")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#at-loss")).to_have_text(re.compile(r"^1\.\d+$"))
    expect(page.locator("#spoken")).to_have_text(re.compile(r"^step \d+$"))
    expect(page.locator(".detail")).to_contain_text("there are no layers")
    for layered in ("#heatmap", "#profile", "#series", "#metric", "#tensors"):
        expect(page.locator(layered)).to_be_hidden()
    expect(page.locator("#trouble")).to_be_hidden()
    assert not [url for url in asked if "/heatmap?" in url]
    assert Axe().run(page).response["violations"] == []


def test_restart_is_marked_in_the_lane(visit: Visit, site: Site) -> None:
    """A run that resumed from a checkpoint shows where, and from which step it went on."""
    site.post("resumed", schema=block_schema(), num_frames=80)
    site.post("resumed", schema=block_schema(), num_frames=40, first=40, attempt=ATTEMPT + 1)
    page = _settled(visit, "/runs/resumed")
    expect(page.locator("#lane")).to_have_attribute("aria-label", re.compile("restart at step 40"))


def test_arrow_keys_move_the_chosen_cell(visit: Visit) -> None:
    """The map can be read cell by cell without a pointer, and speaks."""
    page = visit.go(f"/runs/{SICK}")
    page.locator("#heatmap").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#series-name")).to_have_text("blocks.7.mlp.up.weight")
    expect(page.locator("#spoken")).to_contain_text("blocks.7.mlp.up.weight, step 420")


def test_address_shows_others_the_same(visit: Visit, context: BrowserContext) -> None:
    """A link copied from a zoomed page opens zoomed, at the same cell."""
    page = visit.go(f"/runs/{SICK}")
    page.keyboard.press("f")
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile(r"view=.*cell=\d+,30"))
    copied = page.url
    other = context.new_page()
    other.goto(copied)
    other.wait_for_selector("html[data-ready]", state="attached")
    expect(other.locator("#series-name")).to_have_text("blocks.7.mlp.up.weight")
    assert other.url == copied


def test_mode_key_switches_to_absolute_values(visit: Visit) -> None:
    """M goes between the deviation and the values themselves."""
    page = visit.go(f"/runs/{SICK}")
    page.keyboard.press("m")
    expect(page.locator("#show-absolute")).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile("mode=absolute"))


def test_statistic_without_baseline_is_shown_absolute(visit: Visit) -> None:
    """Only the root mean square has a baseline: for another statistic the choice is closed."""
    page = visit.go(f"/runs/{SICK}")
    page.get_by_label("What the map shows").select_option("activation/kurtosis")
    expect(page.locator("#show-deviation")).to_be_disabled()
    expect(page).to_have_url(re.compile("kind=activation&statistic=kurtosis&mode=absolute"))


def test_theme_key_recolours_the_map(visit: Visit) -> None:
    """T changes the page and its canvases, and the choice outlives the page."""
    page = _settled(visit, f"/runs/{SICK}")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    _painted(page)
    assert max(_pixel(page, 0.3, 0.5)) < 60
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_click_pins_and_escape_lets_go(visit: Visit) -> None:
    """A click on the map chooses a series; Esc leaves none chosen."""
    page = visit.go(f"/runs/{SICK}")
    page.locator("#heatmap").click(position={"x": 600, "y": 5})
    expect(page.locator("#series-name")).to_have_text("blocks.0.attn.qkv.weight")
    page.keyboard.press("Escape")
    expect(page.locator("#series-name")).to_have_text("No layer chosen")


def test_hostile_names_stay_text_on_the_run_page(visit: Visit) -> None:
    """Names reach the page through lists, canvases and attributes, and never as markup."""
    page = visit.go("/runs/hostile")
    expect(page.locator("#sentence")).to_contain_text("<img src=x")
    assert page.locator("img[src='x']").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["/", f"/runs/{SICK}", f"/runs/{CALM}", f"/runs/{SICK}/incidents/1"]
)
def test_page_is_accessible(visit: Visit, path: str, theme: Literal["light", "dark"]) -> None:
    """axe finds nothing to complain of, in either theme."""
    page = visit.page
    page.emulate_media(color_scheme=theme)
    _open(visit, path)
    found = Axe().run(page)
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in found.response["violations"]] == []


@pytest.mark.parametrize("path", ["/", f"/runs/{SICK}", f"/runs/{SICK}/incidents/1"])
def test_phone_page_does_not_scroll_sideways(visit: Visit, path: str) -> None:
    """At 390 pixels everything fits the width."""
    page = visit.page
    page.set_viewport_size({"width": 390, "height": 844})
    _open(visit, path)
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390


def test_incident_can_be_acknowledged_without_scripts(visit: Visit, site: Site) -> None:
    """The button is a plain form, and the page then says who has seen it."""
    visit.page.goto(f"{site.url}/runs/hostile/incidents/1")
    visit.page.get_by_role("button", name="Acknowledge").click()
    expect(visit.page.locator(".kicker")).to_contain_text("seen by local")
    expect(visit.page.get_by_role("button", name="Acknowledge")).to_have_count(0)
