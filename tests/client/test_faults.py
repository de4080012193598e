"""A service that answers nonsense, nothing or for ever: training goes on and nothing is lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import foreshock
import pytest
import torch
from foreshock.settings import ClientSettings
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer, HttpTransport, Verdict

from tests.client.conftest import Attach
from tests.client.models import perceptron, train
from tests.client.service import little_service

Behaviour = Callable[[socket.socket], object]


def _read_all(connection: socket.socket) -> None:
    with suppress(TimeoutError):
        connection.settimeout(0.1)
        while connection.recv(1 << 16):
            pass


def _silent(connection: socket.socket) -> None:
    connection.settimeout(20)
    while connection.recv(1 << 16):  # until the client hangs up
        pass


def _answer(text: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        _read_all(connection)
        connection.sendall(text)

    return behave


def _for_ever(start: bytes, part: bytes, pause_seconds: float = 0.0) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        _read_all(connection)
        connection.settimeout(5)
        connection.sendall(start)
        while True:
            connection.sendall(part)
            time.sleep(pause_seconds)

    return behave


def _json(text: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


MISBEHAVIOURS: dict[str, Behaviour] = {
    "hangs up at once": lambda connection: None,
    "hangs up in the request": lambda connection: connection.recv(10),
    "is not HTTP": _answer(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "half a status line": _answer(b"HTTP/1.1 2"),
    "half a body": _answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    "a stranger's JSON": _answer(_json(b'{"ok": true}')),
    "JSON that is no object": _answer(_json(b'["seq"]')),
    "broken JSON": _answer(_json(b'{"seq": 1')),
    "deeply nested JSON": _answer(_json(b"[" * 50_000)),
    "no content": _answer(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "a redirect": _answer(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n"),
    "a retry long from now": _answer(
        b"HTTP/1.1 503 Later\r\nRetry-After: 1e9\r\nContent-Length: 0\r\n\r\n"
    ),
    "a huge header": _answer(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
    "headers for ever": _for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a body for ever": _for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
    "a body for ever, slowly": _for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.05),
    "a header for ever, slowly": _for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
    "continue for ever": _for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing at all": _silent,
}


@contextmanager
def misbehaving(behaviour: Behaviour) -> Iterator[tuple[int, threading.Event]]:
    """Serve connections so on a free port; the port, and whether one connection is over."""
    listening = socket.create_server(("127.0.0.1", 0))
    over, closing = threading.Event(), threading.Event()

    def serve() -> None:
        while not closing.is_set():
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                if not closing.is_set():
                    behaviour(connection)
            over.set()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listening.getsockname()[1]
    try:
        yield port, over
    finally:
        closing.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        listening.close()


@pytest.mark.parametrize("behaviour", MISBEHAVIOURS.values(), ids=MISBEHAVIOURS.keys())
def test_whatever_a_stranger_answers_every_frame_arrives_once(behaviour: Behaviour) -> None:
    """The client gives up the answer, keeps its batches, and delivers them to the real service
    that comes back on the same port."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with misbehaving(behaviour) as (port, over):
        watch = foreshock.watch(
            model,
            optimizer,
            url=f"http://127.0.0.1:{port}",
            batch_seconds=0.02,
            retry_first_seconds=0.02,
            retry_max_seconds=0.1,
            request_timeout_seconds=0.5,
        )
        train(model, optimizer, watch, num_steps=5)
        assert over.wait(30), "the client did not give the answer up"
    with little_service(port=port) as service:
        assert watch.flush(30)
        watch.close()
    assert service.store.steps == [0, 1, 2, 3, 4]


def test_only_an_answer_of_the_service_counts_as_one() -> None:
    """What another server says 200 to is not deleted."""
    with misbehaving(MISBEHAVIOURS["a stranger's JSON"]) as (port, _):
        transport = HttpTransport(ClientSettings(url=f"http://127.0.0.1:{port}"))
        answer = transport.post_frames(b"x")
        transport.close()
    assert answer.verdict is Verdict.LATER
    assert "check the url" in answer.detail


def test_training_never_calls_the_service_or_waits_for_it(attach: Attach) -> None:
    """While the service hangs on its first request, training goes on; every request is made by a
    thread of Foreshock's."""
    training, callers = threading.get_ident(), set()
    asked, go = threading.Event(), threading.Event()

    class Hanging(RecordingTransport):
        def post_schema(self, document: bytes) -> Answer:
            callers.add(threading.get_ident())
            return super().post_schema(document)

        def post_frames(self, message: bytes) -> Answer:
            callers.add(threading.get_ident())
            asked.set()
            go.wait(60)
            return super().post_frames(message)

    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, transport=Hanging(), close_timeout_seconds=30.0)
    assert asked.wait(20)
    train(model, optimizer, watch, num_steps=50)
    assert transport.batches == []
    go.set()
    watch.close()
    assert transport.steps == list(range(50))
    assert callers
    assert training not in callers


@pytest.mark.parametrize("method", ["measure", "measure_update", "finish"])
def test_a_reducer_that_breaks_is_told_once_and_training_is_the_same(
    method: str, attach: Attach, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its part is off after the first failure, and the losses are those of a run that nobody
    watches."""
    torch.manual_seed(0)
    alone = perceptron()
    expected = train(alone, torch.optim.SGD(alone.parameters(), lr=0.1), None, num_steps=6)

    calls: list[str] = []

    def broken(*args: Any, **kwargs: Any) -> None:
        calls.append(method)
        raise RuntimeError("the kernel is broken")

    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, activation_every=0, activation_grad_every=0)
    assert watch._parts is not None
    monkeypatch.setattr(type(watch._parts.recorder._meter.reducer), method, broken)
    losses = train(model, optimizer, watch, num_steps=6)
    watch.close()
    told = [e.data for e in transport.events if e.kind == "client_error"]
    assert torch.equal(torch.stack(losses), torch.stack(expected))
    assert all("the kernel is broken" in data["error"] for data in told)
    assert len(calls) == len(told) == len([r for r in caplog.records if r.levelname == "ERROR"])
    assert transport.events[-1].kind == "finished"
    assert transport.batches[-1].counters.errors == len(told) > 0


def test_without_frames_nothing_is_measured_any_more(
    attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no frame can be made, measuring would only cost, and what it keeps for the end of a
    step would grow."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    assert watch._parts is not None
    outbox = watch._parts.outbox

    def broken(frame: object) -> None:
        raise RuntimeError("no way out")

    monkeypatch.setattr(outbox, "put", broken)
    train(model, optimizer, watch, num_steps=3)
    epoch = watch._parts.recorder._meter.epoch
    watch._parts.recorder._meter.measured.clear()
    train(model, optimizer, watch, num_steps=3)
    assert watch._parts.recorder._meter.measured == set()
    assert watch._parts.recorder._meter.epoch == epoch
    watch.close()
    parts = [e.data["part"] for e in transport.events if e.kind == "client_error"]
    assert parts == ["frame"]
    assert transport.events[-1].kind == "finished"
