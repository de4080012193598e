"""The checks of the service: is it there, is it one, does it take what we send, what time is it."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import time
import urllib.parse
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from foreshock.doctor.check import Check, Status
from foreshock.doctor.configuration import shown_url
from foreshock.settings import ClientSettings
from foreshock.wire import FORMAT

_QUESTION: Final = "/api/v1/ingest"
_MAX_ANSWER_BYTES: Final = 64 << 10
MAX_SKEW_SECONDS: Final = 5.0
"""A Date header has whole seconds, and the answer takes its time."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    document: dict[str, Any]
    """The JSON object in the body; empty where there is none."""
    location: str
    skew_seconds: float | None
    """This machine's clock minus the service's."""


def check_service(settings: ClientSettings) -> list[Check]:
    """Ask the service whether it would take frames with our token; nothing is stored."""
    try:
        reply = _ask(settings)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return [_unreachable(settings, error)]
    checks = [_identity(settings, reply)]
    if checks[0].status is Status.OK:
        checks.append(_token(settings, reply))
    if reply.skew_seconds is not None:
        checks.append(_clock(reply.skew_seconds))
    return checks


def _ask(settings: ClientSettings) -> _Reply:
    parts = urllib.parse.urlsplit(settings.url)
    secure = parts.scheme == "https"
    factory = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = factory(parts.netloc.rpartition("@")[2], timeout=settings.request_timeout_seconds)
    headers = {"Accept": "application/json"}
    if settings.token:
        headers["Authorization"] = f"Bearer {settings.token}"
    try:
        begun = time.time()
        connection.request("GET", parts.path.rstrip("/") + _QUESTION, headers=headers)
        response = connection.getresponse()
        now = (begun + time.time()) / 2
        text = response.read(_MAX_ANSWER_BYTES)
    finally:
        connection.close()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    return _Reply(
        status=response.status,
        document=document if isinstance(document, dict) else {},
        location=response.getheader("Location") or "",
        skew_seconds=_skew(response.getheader("Date"), now),
    )


def _skew(date: str | None, now: float) -> float | None:
    try:
        return None if date is None else now - (parsedate_to_datetime(date).timestamp() + 0.5)
    except (ValueError, OverflowError):
        return None


def _unreachable(settings: ClientSettings, error: Exception) -> Check:
    """What kept us from an answer, as precisely as the error tells."""
    parts = urllib.parse.urlsplit(settings.url)
    place = parts.netloc.rpartition("@")[2]
    if isinstance(error, socket.gaierror):
        found = f"the name {parts.hostname} is not known here ({error.strerror})"
        advice = "correct FORESHOCK_URL, or this machine's DNS"
    elif isinstance(error, ConnectionRefusedError):
        found = f"nothing listens at {place}"
        advice = "start `foreshock serve` there, or correct FORESHOCK_URL"
    elif isinstance(error, TimeoutError):
        found = f"{place} did not answer in {settings.request_timeout_seconds:g} s"
        advice = "look for a firewall between, or an overloaded service"
    elif isinstance(error, ssl.SSLCertVerificationError):
        found = f"the certificate of {place} is not trusted: {error.verify_message}"
        advice = "give the service a certificate for that name, or SSL_CERT_FILE its authority"
    elif isinstance(error, ssl.SSLError):
        found = f"{place} does not speak TLS ({error.reason or error})"
        advice = "write http:// in FORESHOCK_URL, or put a TLS proxy before the service"
    elif isinstance(error, http.client.HTTPException | ConnectionResetError):
        found = f"{place} does not speak HTTP ({type(error).__name__})"
        advice = "correct the port in FORESHOCK_URL; a TLS port needs https://"
    else:
        found = f"{place} cannot be reached: {error}"
        advice = "correct FORESHOCK_URL, or the network between"
    return Check(
        "service", Status.PROBLEM, found, f"{advice}; until then batches wait in the spool"
    )


def _identity(settings: ClientSettings, reply: _Reply) -> Check:
    url, document = shown_url(settings.url), reply.document
    if 300 <= reply.status < 400:
        advice = f"set FORESHOCK_URL to where it leads: {shown_url(reply.location) or 'unknown'}"
        return Check("service", Status.PROBLEM, f"{url} redirects, which is not followed", advice)
    if reply.status == 200 and document.get("service") == "foreshock":
        if document.get("format") != FORMAT:
            found = f"{url} takes wire format {document.get('format')}, this client sends {FORMAT}"
            return Check("service", Status.PROBLEM, found, "install the same version on both sides")
        return Check("service", Status.OK, f"foreshock {document.get('version')} at {url}")
    code, detail = str(document.get("code", "")), str(document.get("detail", ""))[:500]
    if reply.status in (401, 403) and code in _OF_TOKENS:
        return Check("service", Status.OK, f"a Foreshock service at {url}")
    if code == "unknown_host":
        return Check("service", Status.PROBLEM, f"{url} is not a name of the service", detail)
    if reply.status >= 500:
        found = f"{url} fails: HTTP {reply.status} {detail}".rstrip()
        return Check(
            "service", Status.PROBLEM, found, "look at the log of the service or its proxy"
        )
    return Check(
        "service",
        Status.PROBLEM,
        f"what answers at {url} is not a Foreshock service (HTTP {reply.status})",
        "correct host, port and path in FORESHOCK_URL, or update an old service",
    )


_OF_TOKENS: Final = ("unauthorized", "unknown_token", "scope_missing")


def _token(settings: ClientSettings, reply: _Reply) -> Check:
    if reply.status != 200:
        detail = str(reply.document.get("detail", ""))[:500]
        advice = "make one on the service with `foreshock token create --scope ingest` and set it "
        return Check("token", Status.PROBLEM, detail, advice + "as FORESHOCK_TOKEN")
    if settings.token is None:
        return Check("token", Status.OK, "none is needed")
    if settings.url.startswith("http://") and not _is_local(settings.url):
        found = "accepted, but it travels readable for everybody between"
        return Check("token", Status.WARNING, found, "use https://, behind a TLS proxy")
    return Check("token", Status.OK, "accepted, with the scope ingest")


def _is_local(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _clock(skew_seconds: float) -> Check:
    if abs(skew_seconds) <= MAX_SKEW_SECONDS:
        return Check("clock", Status.OK, "agrees with the service's")
    word = "ahead of" if skew_seconds > 0 else "behind"
    return Check(
        "clock",
        Status.WARNING,
        f"this machine is {abs(skew_seconds):.0f} s {word} the service",
        "synchronise both (NTP): steps get wrong times, and of two starts of a run the later may "
        "count as the earlier",
    )
