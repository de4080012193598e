"""What is set of detection for a project or a run, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from foreshock_service.api.access import MayAdminister, MayRead
from foreshock_service.api.body import parse_document, read_body
from foreshock_service.api.context import Context, InContext
from foreshock_service.api.parameters import RunId
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.detection_rules import RuleScope, in_force
from foreshock_service.pipeline import tuning
from foreshock_service.store import detection_rules, runs

router = APIRouter(tags=["detection"])

_EXAMPLE: dict[str, Any] = {
    "sensitivity": "low",
    "disabled": ["plateau"],
    "thresholds": {"loss": {"sigmas": 8}},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}},
    }
}
Project = Annotated[
    str, Path(min_length=1, max_length=128, description="The project's name, as runs give it.")
]


class RuleView(BaseModel):
    """What is set, by whom and when; null where nothing is."""

    document: dict[str, Any] | None
    set_by: str | None
    set_at: float | None


class RunRuleView(RuleView):
    """What is set for one run, and what is in force for it, defaults and project included."""

    effective: dict[str, Any]


@router.get("/projects/{project:path}/detection", summary="What a project sets of detection")
def get_project(project: Project, context: InContext, _actor: MayRead) -> RuleView:
    """The configuration document of a project, for all its runs."""
    return _project_view(context, project)


@router.put(
    "/projects/{project:path}/detection", summary="Set it for a project", openapi_extra=_BODY
)
async def put_project(
    project: Project, request: Request, context: InContext, actor: MayAdminister
) -> RuleView:
    """Set the document for all runs of a project, from their next frames on.

    422 `bad_configuration` says what is wrong with a document; nothing is changed then. It needs
    the scope `admin`: it changes what is told of everybody's runs.
    """
    body = await read_body(request, context.settings)

    def put() -> RuleView:
        document, now = parse_document(body), context.clock()
        tuning.put(context.store, RuleScope.PROJECT, project, document, by=actor, now=now)
        return _project_view(context, project)

    return await run_in_threadpool(put)


@router.delete("/projects/{project:path}/detection", summary="Set nothing for a project")
def delete_project(project: Project, context: InContext, actor: MayAdminister) -> RuleView:
    """The defaults are in force again for runs that set nothing of their own."""
    tuning.remove(context.store, RuleScope.PROJECT, project, by=actor, now=context.clock())
    return _project_view(context, project)


@router.get("/runs/{run}/detection", summary="What a run sets of detection")
def get_run(run: RunId, context: InContext, _actor: MayRead) -> RunRuleView:
    """The configuration document of a run, and what is in force for it."""
    return _run_view(context, run)


@router.put("/runs/{run}/detection", summary="Set it for a run", openapi_extra=_BODY)
async def put_run(run: RunId, request: Request, context: InContext, actor: MayRead) -> RunRuleView:
    """Set the document for one run, from its next frames on; what it leaves out its project says.

    422 `bad_configuration` says what is wrong with a document; nothing is changed then.
    """
    body = await read_body(request, context.settings)

    def put() -> RunRuleView:
        document, now = parse_document(body), context.clock()
        tuning.put(context.store, RuleScope.RUN, run, document, by=actor, now=now)
        return _run_view(context, run)

    return await run_in_threadpool(put)


@router.delete("/runs/{run}/detection", summary="Set nothing for a run")
def delete_run(run: RunId, context: InContext, actor: MayRead) -> RunRuleView:
    """What its project sets is in force again, or the defaults."""
    tuning.remove(context.store, RuleScope.RUN, run, by=actor, now=context.clock())
    return _run_view(context, run)


def _project_view(context: Context, project: str) -> RuleView:
    with context.store.read() as session:
        rule = detection_rules.get(session, RuleScope.PROJECT, project)
    return RuleView(
        document=None if rule is None else dict(rule.document),
        set_by=None if rule is None else rule.set_by,
        set_at=None if rule is None else rule.set_at,
    )


def _run_view(context: Context, run: str) -> RunRuleView:
    with context.store.read() as session:
        of_project, of_run = detection_rules.of_run(session, runs.get(session, run))
    return RunRuleView(
        document=None if of_run is None else dict(of_run.document),
        set_by=None if of_run is None else of_run.set_by,
        set_at=None if of_run is None else of_run.set_at,
        effective=_effective(in_force(of_project, of_run)),
    )


def _effective(document: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return EngineConfig.from_document(document).to_document()
    except ValueError:
        # Set under another version: detection goes by its defaults, and so says this.
        return EngineConfig().to_document()
