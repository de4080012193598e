"""Who may ask: the Host header, the Origin of a change, and the headers that bind a browser.

A service on loopback is not private: any page in a browser on the same machine can send it
requests. A page cannot forge its Host or Origin header, so these two are checked always.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foreshock_service.api.problems import problem_of
from foreshock_service.errors import BadRequest, Forbidden
from foreshock_service.settings import ServiceSettings

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_BINDING_HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: under it browsers send `Origin: null` with the forms of our own pages.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


class BrowserGuard:
    """Middleware around everything: refuses foreign hosts and origins, binds every answer."""

    def __init__(self, app: ASGIApp, *, settings: ServiceSettings) -> None:
        self._app = app
        self._names = known_hosts(settings)
        # Bound to every address, we cannot know which one people type; a rebinding attack needs a
        # name, so a bare address is safe.
        self._any_address = settings.host in ("0.0.0.0", "::", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then pass it on with the headers added to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_bound(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _BINDING_HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._check(scope["method"], Headers(scope=scope))
            _check_address(scope["path"], scope["query_string"])
        except (BadRequest, Forbidden) as error:
            await problem_of(error)(scope, receive, send_bound)
            return
        await self._app(scope, receive, send_bound)

    def _check(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        name = host_name(host)
        if not self._knows(name):
            raise Forbidden(
                f"the Host header {host[:200]!r} is not a name of this service: add "
                f"{name[:200] or 'it'!r} to FORESHOCK_ALLOWED_HOSTS if it should be",
                code="unknown_host",
            )
        origin = headers.get("origin")
        if method in SAFE_METHODS or origin is None:
            return
        if urlsplit_netloc(origin) != host.lower():
            raise Forbidden(
                "changes are accepted only from the service's own pages: this request came from "
                f"{origin[:200]!r}",
                code="foreign_origin",
            )

    def _knows(self, name: str) -> bool:
        return name in self._names or (self._any_address and _is_address(name))


def known_hosts(settings: ServiceSettings) -> frozenset[str]:
    """Host names, without port, under which this service may be addressed."""
    names = {host_name(host) for host in settings.allowed_hosts}
    names.add(settings.host.strip("[]").lower())
    if settings.public_url:
        names.add(host_name(urlsplit_netloc(settings.public_url)))
    return LOOPBACK_NAMES | frozenset(names - {""})


def host_name(host: str) -> str:
    """The name in a Host header, lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    # An IPv6 address written without brackets has several colons and no port.
    return host if host.count(":") > 1 else host.partition(":")[0]


def urlsplit_netloc(url: str) -> str:
    """`host:port` of a URL, lower case; empty for what is no URL."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _check_address(path: str, query: bytes) -> None:
    # Refused here for every route: PostgreSQL cannot compare with a text that holds a NUL.
    if "\0" in path or b"%00" in query or b"\0" in query:
        raise BadRequest("the address holds a NUL character (%00): leave it out")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
