"""A real server over a real database, and a real browser before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from foreshock.wire import CONTENT_TYPE, SeriesSchema, encode_batch
from foreshock_service.app import build_app
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.schema import upgrade
from foreshock_service.store.session import Store
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.factories import ATTEMPT, make_batch
from tests.web.seeds import block_schema, exploded, messages, store_baselines, store_incident

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SICK, CALM, DONE = "lm-1b3-d125", "lm-400m-wsd", "lm-1b3-baseline"
HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True, slots=True)
class Site:
    """The server under test: where it is, its database, and how a client posts to it."""

    url: str
    store: Store

    def post(
        self,
        run: str,
        *,
        schema: SeriesSchema,
        num_frames: int,
        first: int = 0,
        attempt: int = ATTEMPT,
    ) -> None:
        """Send calm frames of a run, as a client does."""
        batches = messages(run, schema=schema, num_frames=num_frames, first=first, attempt=attempt)
        self._send(schema, batches)

    def seed(
        self, run: str, *, num_frames: int, sick: bool = False, finished: bool = False
    ) -> None:
        """Send a whole run."""
        schema = block_schema()
        self._send(
            schema,
            messages(run, schema=schema, num_frames=num_frames, sick=sick, finished=finished),
        )

    def seed_scalars(self, run: str, *, num_frames: int) -> None:
        """Send a run that logs a loss and no tensor."""
        batch = make_batch(run, num_frames=num_frames)
        self._send(None, [encode_batch(batch)])

    def _send(self, schema: SeriesSchema | None, batches: list[bytes]) -> None:
        with httpx.Client(base_url=f"{self.url}/api/v1") as client:
            if schema is not None:
                client.post("/schemas", json=schema.to_json()).raise_for_status()
            for batch in batches:
                headers = {"content-type": CONTENT_TYPE}
                client.post("/frames", content=batch, headers=headers).raise_for_status()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a sick run, a calm one, a finished one and one with hostile names.

    Detection and the watch for silent runs sleep, so that the incidents are those that a test put
    there.
    """
    url = f"sqlite:///{_folder(tmp_path_factory) / 'foreshock.db'}"
    upgrade(url)
    store = Store(url)
    settings = ServiceSettings(port=0, detect_interval_seconds=86_400, silent_seconds=0)
    server = uvicorn.Server(
        uvicorn.Config(build_app(settings, store), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    found = Site(f"http://127.0.0.1:{port}", store)
    found.seed(SICK, num_frames=600, sick=True)
    found.seed(CALM, num_frames=200)
    found.seed(DONE, num_frames=120, finished=True)
    found.post("hostile", schema=block_schema(HOSTILE), num_frames=40)
    for run, num_frames in ((SICK, 600), (CALM, 200)):
        store_baselines(store, run, num_frames, block_schema())
    store_incident(store, SICK, exploded())
    store_incident(store, "hostile", exploded(prefix=HOSTILE))
    yield found
    server.should_exit = True
    thread.join(10)
    store.close()


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("site")


@pytest.fixture(scope="session")
def playwright_driver() -> Iterator[Playwright]:
    """Playwright's own process."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def browser(playwright_driver: Playwright) -> Iterator[Browser]:
    """One Chromium for all tests."""
    browser = playwright_driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
    yield browser
    browser.close()


@dataclass(slots=True)
class Visit:
    """A page of the site and what went wrong on it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)

    def go(self, path: str) -> Page:
        """Open a page and wait until its scripts say that it is ready."""
        self.page.goto(self.url + path)
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past, on a desktop screen."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    yield context
    context.close()


@pytest.fixture
def visit(context: BrowserContext, site: Site) -> Iterator[Visit]:
    """A page on which any error of a script or of the security policy fails the test."""
    visit = Visit(context.new_page(), site.url)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on(
        "console",
        lambda said: visit.errors.append(said.text) if said.type == "error" else None,
    )
    yield visit
    assert visit.errors == []
