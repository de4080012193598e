"""`foreshock token`: make, list and revoke the tokens that open a service."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from datetime import UTC, datetime

from foreshock.commands import Command
from sqlalchemy.exc import SQLAlchemyError

from foreshock_service.app import open_store
from foreshock_service.commands.arguments import add_database_arguments, settings_from
from foreshock_service.errors import ServiceError
from foreshock_service.store.audit import record
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import SCOPES, create_token, list_tokens, revoke_token


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help="make a token and print it once")
    create.add_argument("--name", default="token", help="to know it by later")
    create.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        required=True,
        help="ingest: send frames; read: look, acknowledge, resolve; admin: both",
    )
    revoke = actions.add_parser("revoke", help="make a token useless from now on")
    revoke.add_argument("token_id", type=int, help="its number in `foreshock token list`")
    for action in (create, revoke, actions.add_parser("list", help="show every token")):
        add_database_arguments(action)


def _run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    if settings is None:
        return 2
    try:
        store = open_store(settings)
    except (ServiceError, SQLAlchemyError, OSError) as error:
        print(f"foreshock: the database cannot be used: {error}", file=sys.stderr)
        return 1
    try:
        return _ACTIONS[args.action](store, args)
    finally:
        store.close()


def _create(store: Store, args: argparse.Namespace) -> int:
    now = time.time()
    try:
        with store.write() as session:
            secret = create_token(session, name=args.name, scopes=args.scope, now=now)
            record(
                session,
                actor=_operator(),
                action="token.create",
                target=args.name,
                now=now,
                detail={"scopes": sorted(set(args.scope))},
            )
    except ValueError as error:
        print(f"foreshock: {error}", file=sys.stderr)
        return 2
    print(secret)
    print("Keep it now: only its hash is stored.", file=sys.stderr)
    return 0


def _list(store: Store, _args: argparse.Namespace) -> int:
    with store.read() as session:
        tokens = list_tokens(session)
    print(f"{'id':>4}  {'name':<24} {'scopes':<18} {'made':<17} {'last used':<17} state")
    for token in tokens:
        print(
            f"{token.token_id:>4}  {token.name:<24} {','.join(token.scopes):<18} "
            f"{_when(token.created_at):<17} {_when(token.last_used_at):<17} "
            f"{'usable' if token.revoked_at is None else 'revoked'}"
        )
    return 0


def _revoke(store: Store, args: argparse.Namespace) -> int:
    now = time.time()
    with store.write() as session:
        done = revoke_token(session, args.token_id, now=now)
        if done:
            record(
                session,
                actor=_operator(),
                action="token.revoke",
                target=str(args.token_id),
                now=now,
            )
    if not done:
        print(f"foreshock: there is no usable token {args.token_id}", file=sys.stderr)
        return 1
    print(f"token {args.token_id} is revoked")
    return 0


def _operator() -> str:
    # A container may run under a number that has no name.
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


_ACTIONS = {"create": _create, "list": _list, "revoke": _revoke}

command = Command(
    name="token",
    help="make, list and revoke access tokens",
    add_arguments=_add_arguments,
    run=_run,
)
