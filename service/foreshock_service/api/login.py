"""How a browser presents its token: once, to a page that keeps it where scripts cannot read it."""

from __future__ import annotations

from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from foreshock_service.api.access import COOKIE, identify
from foreshock_service.api.context import Context, InContext
from foreshock_service.api.forms import read_form
from foreshock_service.errors import Forbidden, Unauthorized
from foreshock_service.store.audit import record

router = APIRouter(tags=["login"], include_in_schema=False)

COOKIE_SECONDS: Final = 30 * 86_400
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Log in to Foreshock</title>
<link rel="stylesheet" href="/static/base.css">
</head>
<body>
<main>
<h1>Foreshock</h1>
<p>This service asks for a token. Whoever runs it makes one with
<code>foreshock token create --scope read</code>.</p>
<p role="alert">{error}</p>
<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""


@router.get("/login")
async def login_page(next: Annotated[str, Query(max_length=2048)] = "/") -> HTMLResponse:
    """The form; `next` is where to go afterwards."""
    return _page(local_path(next), "")


@router.post("/login")
async def log_in(request: Request, context: InContext) -> Response:
    """Keep a token that may read as a cookie which only this service's own pages send."""
    form = await read_form(request)
    secret, wanted = form.get("token", ""), local_path(form.get("next", "/"))
    try:
        await run_in_threadpool(_check, context, secret)
    except (Unauthorized, Forbidden) as error:
        return _page(wanted, str(error), status=error.status)
    answer = RedirectResponse(wanted, 303)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
        path="/",
    )
    return answer


@router.post("/logout")
async def log_out() -> Response:
    """Forget the token in this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def local_path(path: str) -> str:
    """`path` when it stays on this service, else `/`: a login must not send people elsewhere."""
    # Browsers read a backslash as a slash, and drop control characters, so both could hide `//`.
    clean = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if clean and path.isprintable() else "/"


def _check(context: Context, secret: str) -> None:
    token = identify(context, secret)
    if not token.allows("read"):
        raise Forbidden(f"the token {token.name!r} may not read", code="scope_missing")
    with context.store.write() as session:
        record(session, actor=token.name, action="login", target="browser", now=context.clock())


def _page(wanted: str, error: str, *, status: int = 200) -> HTMLResponse:
    html = _PAGE.format(next=escape(wanted, quote=True), error=escape(error))
    return HTMLResponse(html, status_code=status)
