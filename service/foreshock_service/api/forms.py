"""What a page's form sends, read with a bound."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from fastapi import Request

from foreshock_service.errors import BadRequest, TooLarge, Unsupported

MAX_FORM_BYTES: Final = 8192
MAX_FORM_FIELDS: Final = 8
FORM_TYPE: Final = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """The fields by name, the last value of each.

    Raises:
        Unsupported: it is no form.
        TooLarge: it is longer than any of ours.
        BadRequest: it is damaged, or has too many fields.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != FORM_TYPE:
        raise Unsupported(f"Content-Type {given or 'none'!r}: send {FORM_TYPE}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            raise TooLarge(f"the form is over {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=MAX_FORM_FIELDS)
    except ValueError as error:
        raise BadRequest(
            f"the form must be URL-encoded, with at most {MAX_FORM_FIELDS} fields"
        ) from error
    return {name: values[-1] for name, values in fields.items()}
