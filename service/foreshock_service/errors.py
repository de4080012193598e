"""The service's error tree; each leaf carries the HTTP status and the stable code it answers with.

ServiceError
├── BadRequest          400 malformed, and how to mend it
├── Unauthorized        401 no token, or an unknown one
├── Forbidden           403 a token without the needed scope, or a foreign Host header
├── NotFound            404
├── Conflict            409 (`unknown_schema`, `sequence_reused`, `incident_changed`)
├── TooLarge            413 body or decompressed body over its limit
├── Unsupported         415 content type or encoding
├── Unprocessable       422 well formed, but wrong
├── Unreadable          422 a file that cannot be read as a run, and why
│   └── NoRun           422 a file in which there is no training
├── NotTaken            502 another service does not take what is sent to it
├── Busy                429 come back later
├── Unavailable         503 the database does not answer, or the service is stopping
└── SchemaMismatch      503 the database was made by another version
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """Base: `code` is stable for programs, the message tells a person what to do."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).default_code

    default_code: ClassVar[str] = "internal"


class BadRequest(ServiceError):
    """The request is malformed."""

    status = 400
    default_code = "bad_request"


class Unauthorized(ServiceError):
    """No token was given, or an unknown one."""

    status = 401
    default_code = "unauthorized"


class Forbidden(ServiceError):
    """The token lacks the scope, or the Host header is not ours."""

    status = 403
    default_code = "forbidden"


class NotFound(ServiceError):
    """There is no such thing."""

    status = 404
    default_code = "not_found"


class Conflict(ServiceError):
    """The request does not fit the present state; `code` says which conflict it is."""

    status = 409
    default_code = "conflict"


class TooLarge(ServiceError):
    """The body is over its limit, as sent or decompressed."""

    status = 413
    default_code = "too_large"


class Unsupported(ServiceError):
    """The content type or encoding is not one of ours."""

    status = 415
    default_code = "unsupported_media_type"


class Unprocessable(ServiceError):
    """The request is well formed, and its content is wrong."""

    status = 422
    default_code = "unprocessable"


class Unreadable(ServiceError):
    """A file cannot be read as a run, from here on or at all."""

    status = 422
    default_code = "unreadable"


class NoRun(Unreadable):
    """The file is sound, and there is no training in it: in a folder it is passed over."""

    default_code = "no_run"


class NotTaken(ServiceError):
    """Another Foreshock service, to which this process sends, does not answer or refuses."""

    status = 502
    default_code = "not_taken"


class Busy(ServiceError):
    """Come back later."""

    status = 429
    default_code = "busy"


class Unavailable(ServiceError):
    """The database does not answer, or the service is stopping: come back later."""

    status = 503
    default_code = "unavailable"


class SchemaMismatch(ServiceError):
    """The database is at another revision than this version of the service needs."""

    status = 503
    default_code = "schema_mismatch"
