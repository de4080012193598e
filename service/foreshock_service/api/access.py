"""Tokens: who a request comes from, and whether that is enough for the route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from foreshock_service.api.context import Context, InContext
from foreshock_service.errors import Forbidden, Unauthorized
from foreshock_service.store.tokens import Token, find_token, touch_token

COOKIE: Final = "foreshock_token"
TOUCH_SECONDS: Final = 60.0
"""`last_used_at` is written at most this often, or every read would become a write."""
MAX_TOKEN_LENGTH: Final = 256

_bearer = HTTPBearer(auto_error=False, description="`foreshock token create` makes one.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="Set by /login.")

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
Cookie = Annotated[str | None, Security(_cookie)]


def require(scope: str) -> Callable[..., str]:
    """A dependency that lets through whoever holds `scope`, and returns the actor's name.

    Where no tokens are asked for, everybody is `local`.
    """

    def check(request: Request, context: InContext, bearer: Bearer, cookie: Cookie) -> str:
        if not context.settings.tokens_required():
            return "local"
        secret = bearer.credentials if bearer is not None else cookie
        if secret is None:
            raise Unauthorized(
                "a token is needed: send `Authorization: Bearer <token>`; make one with "
                f"`foreshock token create --scope {scope}`"
            )
        token = identify(context, secret)
        if not token.allows(scope):
            raise Forbidden(
                f"the token {token.name!r} may {', '.join(token.scopes)}, and this needs {scope}",
                code="scope_missing",
            )
        if bearer is None and request.method not in ("GET", "HEAD"):
            _check_own_page(request)
        return token.name

    return check


def holds(scope: str) -> Callable[..., bool]:
    """A dependency that tells whether whoever asks holds `scope`, for pages that offer only what
    their reader may do. It refuses nobody: the routes themselves do.
    """

    def check(context: InContext, bearer: Bearer, cookie: Cookie) -> bool:
        if not context.settings.tokens_required():
            return True
        secret = bearer.credentials if bearer is not None else cookie
        return secret is not None and identify(context, secret).allows(scope)

    return check


def identify(context: Context, secret: str) -> Token:
    """The usable token with this secret.

    Raises:
        Unauthorized: there is none.
    """
    token = None
    if len(secret) <= MAX_TOKEN_LENGTH:
        with context.store.read() as session:
            token = find_token(session, secret)
    if token is None:
        raise Unauthorized("this token is unknown or was revoked", code="unknown_token")
    now = context.clock()
    if token.last_used_at is None or now - token.last_used_at > TOUCH_SECONDS:
        with context.store.write() as session:
            touch_token(session, token.token_id, now=now)
    return token


def _check_own_page(request: Request) -> None:
    # The guard has compared Origin with Host; here its absence is refused too, because a cookie
    # travels without the sender knowing.
    if "origin" not in request.headers:
        raise Forbidden(
            "a change made with a cookie needs an Origin header; programs send a Bearer token",
            code="foreign_origin",
        )


MayIngest = Annotated[str, Depends(require("ingest"))]
MayRead = Annotated[str, Depends(require("read"))]
MayAdminister = Annotated[str, Depends(require("admin"))]
