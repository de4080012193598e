"""What published clipping rules would have done to the gradients of a run."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from foreshock_service.api.access import MayRead
from foreshock_service.api.context import InContext
from foreshock_service.api.parameters import From, Rank, RunId, To
from foreshock_service.clipping.account import CANNOT_TELL, ShadowResult
from foreshock_service.clipping.registry import values_of
from foreshock_service.errors import Busy, Unprocessable
from foreshock_service.pipeline.clipping import shadow_clipping, span_of

router = APIRouter(tags=["clipping"])

MAX_FRAMES: Final = 20_000
MAX_VALUES: Final = 64_000_000
"""Frames times series times statistics of one answer: 256 MB that are read and forgotten."""
MAX_PARAMETERS: Final = 16

_OWN: Final = ("algorithm", "from", "to", "rank")


class ClippedStepView(BaseModel):
    """A step that would have been clipped, by which factor, and which tensor most."""

    step: int
    factor: float
    tensor: str | None
    healthy: bool


class ClippedTensorView(BaseModel):
    """A tensor that would have been clipped, and on how many steps."""

    name: str
    num_steps: int
    min_factor: float


class ClippingView(BaseModel):
    """What one rule would have done.

    Factors are what gradients would have been multiplied by, of clipped steps only.
    `false_clip_rate` is the share of clipped steps among the healthy ones, those outside of every
    incident. A rule that is not `available` says what it needs in its sentence.
    """

    algorithm: str
    parameters: dict[str, float]
    available: bool
    exact: bool
    approximate: list[str]
    sentence: str
    num_steps: int
    num_clipped: int
    clipped_share: float | None
    num_healthy: int
    num_healthy_clipped: int
    false_clip_rate: float | None
    num_non_finite: int
    num_by: dict[str, int]
    first_step: int | None
    last_step: int | None
    min_factor: float | None
    median_factor: float | None
    poisoned_step: int | None
    num_poisoned: int
    strongest: list[ClippedStepView]
    tensors: list[ClippedTensorView]


class ClippingReport(BaseModel):
    """Every rule over the frames [from_ord, to_ord) of a rank; at `from_ord` the rules begin, so
    that only with 0 it is what they would have done in the run."""

    rank: int
    from_ord: int
    to_ord: int
    end_ord: int
    num_frames: int
    note: str
    cannot_tell: str
    algorithms: list[ClippingView]


@router.get("/runs/{run}/clipping", summary="Shadow clipping")
def get_clipping(
    run: RunId,
    request: Request,
    context: InContext,
    _actor: MayRead,
    algorithm: Annotated[
        str | None, Query(max_length=64, description="One rule; default: all, as published.")
    ] = None,
    from_ord: From = None,
    to_ord: To = None,
    rank: Rank = 0,
) -> ClippingReport:
    """When, and by how much, each rule would have clipped.

    With `algorithm`, every further query parameter is one of that rule's:
    `?algorithm=zclip&z_threshold=3`. At most 20,000 frames, or as many as have 64 million values,
    are read: the newest, or those from `from` on. One replay runs at a time; others are told to
    come back.
    """
    if from_ord is not None and to_ord is not None and to_ord < from_ord:
        raise Unprocessable(f"from {from_ord} to {to_ord}: `to` must not be before `from`")
    chosen = _chosen(request, algorithm)
    span = span_of(
        context.store, run, rank, from_ord=from_ord, to_ord=to_ord,
        max_frames=MAX_FRAMES, max_values=MAX_VALUES,
    )  # fmt: skip
    if not context.replays.acquire(blocking=False):
        raise Busy("another replay is being computed: ask again in a moment")
    try:
        report = shadow_clipping(context.store, run, rank, span, chosen=chosen)
    finally:
        context.replays.release()
    return ClippingReport(
        rank=rank,
        from_ord=report.span.from_ord,
        to_ord=report.span.to_ord,
        end_ord=report.span.end_ord,
        num_frames=report.num_frames,
        note=report.span.note(),
        cannot_tell=CANNOT_TELL,
        algorithms=[_view(result) for result in report.results],
    )


def _chosen(request: Request, algorithm: str | None) -> dict[str, dict[str, float]] | None:
    given = [(key, text) for key, text in request.query_params.multi_items() if key not in _OWN]
    if algorithm is None:
        if given:
            raise Unprocessable(
                f"{given[0][0][:64]!r} is a parameter of a rule: say which with `algorithm`"
            )
        return None
    if len(given) > MAX_PARAMETERS:
        raise Unprocessable(f"{len(given)} parameters: no rule has more than {MAX_PARAMETERS}")
    values: dict[str, float] = {}
    for key, text in given:
        if key in values:
            raise Unprocessable(f"{key[:64]!r} is given twice: give it once")
        try:
            values[key] = float(text)
        except ValueError:
            raise Unprocessable(f"{key[:64]} must be a number, and is {text[:64]!r}") from None
    try:
        values_of(algorithm, values)
    except ValueError as error:
        raise Unprocessable(str(error)) from error
    return {algorithm: values}


def _view(result: ShadowResult) -> ClippingView:
    fields: dict[str, Any] = {
        name: getattr(result, name)
        for name in ClippingView.model_fields
        if name not in ("exact", "approximate", "strongest", "tensors")
    }
    return ClippingView(
        exact=result.available and not result.approximate,
        approximate=list(result.approximate),
        strongest=[
            ClippedStepView.model_validate(item, from_attributes=True) for item in result.strongest
        ],
        tensors=[
            ClippedTensorView.model_validate(item, from_attributes=True) for item in result.tensors
        ],
        **fields,
    )
