"""Access tokens: only their SHA-256 is kept, so that a copy of the database opens nothing."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, func, insert, select, update

from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import token

SCOPES: Final = ("ingest", "read", "admin")
"""`ingest`: send frames. `read`: look, acknowledge, resolve and silence. `admin`: both."""
PREFIX: Final = "fsh_"
"""Lets secret scanners recognise a token that was committed by mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token; its secret is shown once, when it is made."""

    token_id: int
    name: str
    scopes: tuple[str, ...]
    created_at: float
    last_used_at: float | None
    revoked_at: float | None

    def allows(self, scope: str) -> bool:
        """Whether this token may do what `scope` names."""
        return scope in self.scopes or "admin" in self.scopes


def create_token(session: WriteSession, *, name: str, scopes: Iterable[str], now: float) -> str:
    """Make a token and return its secret, which cannot be read again.

    Raises:
        ValueError: no scope, or one that does not exist; or a name that is empty or too long.
    """
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(SCOPES):
        raise ValueError(f"scopes {', '.join(wanted) or 'none'}: choose from {', '.join(SCOPES)}")
    if not name.strip() or len(name) > 128:
        raise ValueError("a token needs a name of 1 to 128 characters, to know it by later")
    secret = PREFIX + secrets.token_urlsafe(32)
    session.connection.execute(
        insert(token).values(
            name=name.strip(), hash=_hash(secret), scopes=wanted, created_at=float(now)
        )
    )
    return secret


def find_token(session: ReadSession, secret: str) -> Token | None:
    """The token with this secret that is not revoked; None when there is none."""
    statement = select(token).where(token.c.hash == _hash(secret), token.c.revoked_at.is_(None))
    row = session.connection.execute(statement).one_or_none()
    return None if row is None else _token(row)


def list_tokens(session: ReadSession) -> list[Token]:
    """Every token, revoked ones too, in the order of making."""
    rows = session.connection.execute(select(token).order_by(token.c.token_id))
    return [_token(row) for row in rows]


def count_usable_tokens(session: ReadSession) -> int:
    """How many tokens still open something."""
    statement = select(func.count()).select_from(token).where(token.c.revoked_at.is_(None))
    return int(session.connection.execute(statement).scalar_one())


def revoke_token(session: WriteSession, token_id: int, *, now: float) -> bool:
    """Make a token useless from now on; False when there is no usable token with this id."""
    statement = (
        update(token)
        .where(token.c.token_id == token_id, token.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return session.connection.execute(statement).rowcount == 1


def touch_token(session: WriteSession, token_id: int, *, now: float) -> None:
    """Note that a token was used."""
    session.connection.execute(
        update(token).where(token.c.token_id == token_id).values(last_used_at=now)
    )


def _hash(secret: str) -> str:
    # A plain hash suffices: the secret has 256 random bits, so there is nothing to guess slowly.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _token(row: Row[Any]) -> Token:
    fields = {key: value for key, value in row._asdict().items() if key != "hash"}
    return Token(**{**fields, "scopes": tuple(fields["scopes"])})
