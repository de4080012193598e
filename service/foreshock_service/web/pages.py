"""The pages: their addresses, what each reads from the store, and the template that it fills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Protocol
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, StrictUndefined

from foreshock_service.domain.detection_rules import RuleScope
from foreshock_service.errors import NotFound
from foreshock_service.incidents.explanations import PATH
from foreshock_service.pipeline import silencing, triage, tuning
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import incidents, silences
from foreshock_service.store import runs as runs_store
from foreshock_service.store.audit import record
from foreshock_service.store.session import Store
from foreshock_service.web import read
from foreshock_service.web.explanation_page import explanation_page
from foreshock_service.web.incident_page import incident_page
from foreshock_service.web.run_list import run_list_page
from foreshock_service.web.run_page import run_page
from foreshock_service.web.sensitivity import chosen
from foreshock_service.web.silences_page import asked, silence_note, silences_page

STATIC: Final = Path(__file__).parent / "static"
THUMBNAIL_SECONDS: Final = 10
"""A thumbnail may be this old; the Runs page asks for all of them again and again."""
LISTED_SILENCES: Final = 200

_environment = Environment(
    loader=PackageLoader("foreshock_service.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates = Jinja2Templates(env=_environment)
_files = StaticFiles(directory=STATIC)


class PageContext(Protocol):
    """What the composition root keeps in `app.state.context` for pages."""

    @property
    def settings(self) -> ServiceSettings:
        """The settings of the process."""

    @property
    def store(self) -> Store:
        """The database."""

    @property
    def clock(self) -> Callable[[], float]:
        """The time now, in seconds since the epoch."""


def _context(request: Request) -> PageContext:
    context: PageContext = request.app.state.context
    return context


InPage = Annotated[PageContext, Depends(_context)]

assets = APIRouter(include_in_schema=False)
"""Scripts and styles: open to everybody, since the login page needs them and they tell nothing."""


@assets.api_route("/static/{path:path}", methods=["GET", "HEAD"])
async def static_file(path: str, request: Request) -> Response:
    """A file of the package; browsers ask every time and are mostly told that it is unchanged."""
    answer = await _files.get_response(path, request.scope)
    answer.headers["cache-control"] = "no-cache"
    return answer


def build_router(
    may_read: Callable[..., str],
    may_administer: Callable[..., str],
    administers: Callable[..., bool],
    read_form: Callable[..., Awaitable[dict[str, str]]],
) -> APIRouter:
    """The pages, for whoever passes `may_read`, a dependency that returns the actor's name, and
    what counts for a whole project, for `may_administer`, which is offered where `administers`
    says so; `read_form` returns a form's fields."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(may_read)])

    @router.get("/")
    def runs(request: Request, context: InPage) -> Response:
        """The Runs page."""
        now = context.clock()
        with context.store.read() as session:
            facts = read.read_list(session)
            num_silences = len(silences.live(session, now=now))
        page = run_list_page(facts, num_silences=num_silences, now=now)
        return _page(request, "runs.html", page=page)

    @router.get("/runs/{run_id}")
    def run(
        request: Request,
        run_id: str,
        context: InPage,
        incident: Annotated[str, Query(max_length=16)] = "",
        # No annotation as the others have: those are read where `administers` is not known.
        is_admin: bool = Depends(administers),
    ) -> Response:
        """The Run page; `incident` is the number of the one to speak of."""
        return _run(request, context, run_id, incident, "run.html", is_admin=is_admin)

    @router.get("/runs/{run_id}/verdict")
    def verdict(
        request: Request,
        run_id: str,
        context: InPage,
        incident: Annotated[str, Query(max_length=16)] = "",
    ) -> Response:
        """Only the head of the Run page, for a page that goes from one incident to another."""
        return _run(request, context, run_id, incident, "verdict.html")

    @router.get("/runs/{run_id}/thumbnail.png")
    def thumbnail(run_id: str, context: InPage) -> Response:
        """The whole run as a small picture."""
        with context.store.read() as session:
            picture = read.read_thumbnail(session, run_id)
        headers = {"cache-control": f"private, max-age={THUMBNAIL_SECONDS}"}
        return Response(picture, media_type="image/png", headers=headers)

    @router.get("/runs/{run_id}/incidents/{number}")
    def incident(request: Request, run_id: str, number: int, context: InPage) -> Response:
        """The Incident page."""
        try:
            with context.store.read() as session:
                told = read.read_run(session, run_id, number)
                depths = read.read_depths(session, told.head)
                silence = read.read_silence(session, told, now=context.clock())
        except NotFound as error:
            return _missing(request, error)
        assert told.chosen is not None, "read_run raises where the number is unknown"
        page = incident_page(
            told.chosen.incident,
            run=told.run,
            events=told.events,
            depths=depths,
            silence=None if silence is None else silence_note(silence, now=context.clock()),
        )
        verdict = run_page(told, is_admin=False, now=context.clock()).verdict
        return _page(request, "incident.html", page=page, verdict=verdict)

    @router.post("/runs/{run_id}/incidents/{number}/acknowledge")
    def acknowledge(
        run_id: str, number: int, context: InPage, by: str = Depends(may_read)
    ) -> Response:
        """Mark an incident as seen, and show it again."""
        triage.acknowledge(context.store, context.settings, run_id, number, by=by)
        _audit(context, by, "incident.acknowledge", f"{run_id}/{number}")
        return _back(run_id, number)

    @router.post("/runs/{run_id}/incidents/{number}/resolve")
    def resolve(run_id: str, number: int, context: InPage, by: str = Depends(may_read)) -> Response:
        """Close an incident, and show it again."""
        triage.resolve(context.store, context.settings, run_id, number, by=by)
        _audit(context, by, "incident.resolve", f"{run_id}/{number}")
        return _back(run_id, number)

    @router.post("/runs/{run_id}/incidents/{number}/silence")
    def silence(
        run_id: str,
        number: int,
        context: InPage,
        by: str = Depends(may_read),
        form: Mapping[str, str] = Depends(read_form),
    ) -> Response:
        """Silence what the form on the Incident page chose, and show that page again."""
        now = context.clock()
        with context.store.read() as session:
            told = runs_store.get(session, run_id)
            incident = incidents.get_incident(session, run_id, number).incident
        silencing.add(context.store, asked(form, incident, told, now=now), by=by, now=now)
        return _back(run_id, number)

    @router.post("/runs/{run_id}/sensitivity")
    def sensitivity(
        run_id: str,
        context: InPage,
        by: str = Depends(may_read),
        form: Mapping[str, str] = Depends(read_form),
    ) -> Response:
        """Set how sensitive detection is for a run, and show it again."""
        return _set_sensitivity(context, run_id, RuleScope.RUN, chosen(form), by)

    @router.post("/runs/{run_id}/sensitivity/project")
    def project_sensitivity(
        run_id: str,
        context: InPage,
        by: str = Depends(may_administer),
        form: Mapping[str, str] = Depends(read_form),
    ) -> Response:
        """Set it for all runs of a run's project, and show the run again."""
        return _set_sensitivity(context, run_id, RuleScope.PROJECT, chosen(form), by)

    @router.get(PATH)
    def kinds(request: Request) -> Response:
        """The kinds of incidents that are explained."""
        return _page(request, "explanation.html", page=explanation_page(None), index=PATH)

    @router.get(PATH + "/{kind}")
    def kind(request: Request, kind: str) -> Response:
        """What a kind of incident means, where it comes from, and what to try."""
        try:
            page = explanation_page(kind)
        except NotFound as error:
            return _missing(request, error)
        return _page(request, "explanation.html", page=page, index=PATH)

    @router.get("/silences")
    def list_silences(request: Request, context: InPage) -> Response:
        """The Silences page."""
        now = context.clock()
        with context.store.read() as session:
            found = silences.listed(session, now=now, limit=LISTED_SILENCES)
        return _page(request, "silences.html", page=silences_page(found, now=now))

    @router.post("/silences/{silence_id}/end")
    def end_silence(
        silence_id: int, context: InPage, by: str = Depends(may_read)
    ) -> RedirectResponse:
        """End a silence, and show the list again."""
        silencing.end(context.store, silence_id, by=by, now=context.clock())
        return RedirectResponse("/silences", 303)

    return router


def _run(
    request: Request,
    context: PageContext,
    run_id: str,
    incident: str,
    template: str,
    *,
    is_admin: bool = False,
) -> Response:
    try:
        with context.store.read() as session:
            told = read.read_run(session, run_id, _number(incident))
    except NotFound as error:
        return _missing(request, error)
    page = run_page(told, is_admin=is_admin, now=context.clock())
    return _page(request, template, page=page, verdict=page.verdict)


def _number(text: str) -> int | None:
    """The number in an address; an address that somebody has mangled speaks of no incident."""
    return int(text) if text.isascii() and text.isdigit() else None


def _page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    # What a page shows is old in a moment: going back in a browser must not bring up the past.
    return _templates.TemplateResponse(
        request, template, values, status_code=status, headers={"cache-control": "no-store"}
    )


def _missing(request: Request, error: NotFound) -> HTMLResponse:
    message = str(error).partition(":")[0]
    return _page(request, "missing.html", status=404, message=message[0].upper() + message[1:])


def _audit(context: PageContext, by: str, action: str, target: str) -> None:
    with context.store.write() as session:
        record(session, actor=by, action=action, target=target, now=context.clock())


def _set_sensitivity(
    context: PageContext, run_id: str, scope: RuleScope, level: str | None, by: str
) -> Response:
    with context.store.read() as session:
        run = runs_store.get(session, run_id)
    name = run.run_id if scope is RuleScope.RUN else run.project
    tuning.set_sensitivity(context.store, scope, name, level, by=by, now=context.clock())
    return RedirectResponse(f"/runs/{quote(run_id)}", 303)


def _back(run_id: str, number: int) -> RedirectResponse:
    return RedirectResponse(f"/runs/{quote(run_id)}/incidents/{number}", 303)
