"""`foreshock serve`: the whole service in one process."""

from __future__ import annotations

import argparse
import signal
import socket
import sys

import uvicorn
from foreshock.commands import Command
from sqlalchemy.exc import SQLAlchemyError

from foreshock_service.app import build_app, open_store
from foreshock_service.commands.arguments import add_database_arguments, settings_from
from foreshock_service.errors import ServiceError
from foreshock_service.logs import set_up_logging
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store
from foreshock_service.store.tokens import count_usable_tokens

GRACE_SECONDS = 10
"""Open requests get this long after SIGTERM; orchestrators commonly kill after 30."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (FORESHOCK_HOST, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port, 0 for a free one (FORESHOCK_PORT, 8712)")
    add_database_arguments(parser)


def _run(args: argparse.Namespace) -> int:
    settings = settings_from(args)
    if settings is None:
        return 2
    set_up_logging()
    try:
        store = open_store(settings)
    except (ServiceError, SQLAlchemyError, OSError) as error:
        return _refuse(f"the database cannot be used: {error}")
    try:
        return _serve(settings, store)
    finally:
        store.close()


def _serve(settings: ServiceSettings, store: Store) -> int:
    with store.read() as session:
        open_to_nobody = settings.tokens_required() and not count_usable_tokens(session)
    if open_to_nobody:
        return _refuse(
            f"listening on {settings.host} needs tokens, and there is none. Make one with\n\n"
            f"    foreshock token create --scope admin --name me{_database_arguments(settings)}\n"
        )
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as error:
        return _refuse(f"cannot listen on {settings.host}:{settings.port}: {error}")
    settings = settings.model_copy(update={"port": listening.getsockname()[1]})
    try:
        app = build_app(settings, store)
    except ValueError as error:
        listening.close()
        return _refuse(str(error))
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    print(f"Foreshock is at {settings.address()}", flush=True)
    server = uvicorn.Server(config)
    # uvicorn raises the signal again once it has shut down; an orderly end has status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listening])
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    # Bound here, not by uvicorn, so that the port is known before the line that names it.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except OSError:
        listening.close()
        raise
    return listening


def _database_arguments(settings: ServiceSettings) -> str:
    if settings.database_url is not None:
        return " --database-url ..."
    return f" --data-dir {settings.data_dir}"


def _refuse(reason: str) -> int:
    print(f"foreshock: {reason}", file=sys.stderr)
    return 1


command = Command(
    name="serve",
    help="run the service and its dashboard",
    add_arguments=_add_arguments,
    run=_run,
)
