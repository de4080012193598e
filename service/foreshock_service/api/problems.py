"""Errors as `application/problem+json`: a stable `code`, and a `detail` that says what to do."""

from __future__ import annotations

import logging
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from foreshock.errors import WireError
from starlette.exceptions import HTTPException

from foreshock_service.errors import BadRequest, Busy, ServiceError, Unauthorized, Unavailable

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
MAX_LISTED = 5
"""Wrong fields named in one answer; the rest are counted."""


class Problem(JSONResponse):
    """One error answer; `type` is `about:blank`, as RFC 9457 has it when `code` says it all."""

    media_type = PROBLEM_TYPE

    def __init__(
        self, status: int, code: str, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        content = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "detail": detail,
        }
        super().__init__(content, status_code=status, headers=headers)


def install_problems(app: FastAPI) -> None:
    """Answer every error of the application, foreseen or not, as a problem."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(WireError, _wire_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)


def problem_of(error: ServiceError) -> Problem:
    """The answer to an error of our own tree."""
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="foreshock"'
    if isinstance(error, Busy | Unavailable):
        headers["Retry-After"] = "1"
    return Problem(error.status, error.code, str(error), headers)


def wants_page(request: Request) -> bool:
    """Whether a person's browser asks, for a page rather than for data."""
    accepts_html = "text/html" in request.headers.get("accept", "")
    return request.method == "GET" and accepts_html and not request.url.path.startswith("/api/")


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    if isinstance(error, Unauthorized) and wants_page(request):
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted, safe='')}", HTTPStatus.SEE_OTHER)
    return problem_of(error)


async def _wire_error(_request: Request, error: Exception) -> Response:
    return problem_of(BadRequest(str(error), code="bad_message"))


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    texts = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in found[:MAX_LISTED]
    ]
    if len(found) > MAX_LISTED:
        texts.append(f"and {len(found) - MAX_LISTED} more")
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", "; ".join(texts))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND and detail == status.phrase:
        detail = f"there is nothing at {request.url.path}; the routes are listed at /openapi.json"
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method} is not possible here: use {allowed}"
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    return Problem(status, code, detail, dict(error.headers or {}))


async def _unforeseen(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "the service failed on this request; its log has the reason",
    )
