"""Whatever listens at the service's address, training is the same and no frame is lost."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import foreshock
import pytest
import torch
from foreshock.__main__ import main
from foreshock.settings import load_settings
from foreshock.transport import HttpTransport
from foreshock.wire import decode_batch

from tests.client.identity import Loop, differences, run, unwatched
from tests.client.models import loss_of, perceptron, train
from tests.client.service import little_service

# The only clock: a request may take 60 seconds here, so that a `close` which waits for one fails.
pytestmark = pytest.mark.timeout(30)

NUM_STEPS = 20
LONG_SECONDS, SHORT_SECONDS = 60.0, 0.2
CLOSE_SECONDS = 0.1

Behaviour = Callable[[socket.socket, threading.Event], None]


def _read_request(connection: socket.socket) -> None:
    """Read to the end of the request, so that it is the answer that is wrong, and only it."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += _received(connection)
    head, _, body = text.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields[b"Content-Length"]) - len(body)
    while left > 0:
        left -= len(_received(connection))


def _received(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the client has closed the connection")
    return piece


def _silent(connection: socket.socket, stopped: threading.Event) -> None:
    _read_request(connection)
    stopped.wait()


def _closing(connection: socket.socket, stopped: threading.Event) -> None:
    """Close with a reset while the request is still being sent."""
    connection.recv(16)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _saying(
    answer: bytes, connection: socket.socket, stopped: threading.Event, *, holding: bool = False
) -> None:
    _read_request(connection)
    connection.sendall(answer)
    if holding:
        stopped.wait()


def _repeating(
    first: bytes,
    piece: bytes,
    connection: socket.socket,
    stopped: threading.Event,
    *,
    pause_seconds: float = 0.0,
) -> None:
    """Begin an answer, and never come to its end."""
    _read_request(connection)
    connection.sendall(first)
    while not stopped.wait(pause_seconds):
        connection.sendall(piece)


def _status(status: int, *lines: bytes) -> Behaviour:
    body = b'{"code": "as_told", "detail": "as told"}'
    return partial(_saying, _http(body, *lines, status=status))


def _http(body: bytes, *lines: bytes, status: int = 200) -> bytes:
    fields = [b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(fields) + b"\r\n\r\n" + body


_OK = b"HTTP/1.1 200 OK\r\n"

MAY_PASS: dict[str, Behaviour | None] = {
    "refuses connections": None,
    "never answers": _silent,
    "closes mid-request": _closing,
    "garbage": partial(_saying, bytes(range(256)) * 8),
    "garbage on one line": partial(_saying, b"\xff" * 200_000),
    "half an answer": partial(_saying, _OK + b'Content-Length: 500\r\n\r\n{"seq": 0'),
    "half an answer, held": partial(
        _saying, _OK + b'Content-Length: 500\r\n\r\n{"seq": 0', holding=True
    ),
    "half a header": partial(_saying, _OK + b"Content-Len"),
    "endless body": partial(_repeating, _OK + b"\r\n", b"x" * 65536),
    "endless chunks": partial(
        _repeating, _OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n" * 1000
    ),
    "a byte at a time": partial(_repeating, _OK + b"\r\n", b"x", pause_seconds=0.02),
    "100 for ever": partial(_repeating, b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause_seconds=0.001),
    "huge header": partial(_saying, _OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n"),
    "too many headers": partial(_saying, _OK + b"X: x\r\n" * 500 + b"\r\n"),
    "length below 0": partial(_saying, _OK + b'Content-Length: -1\r\n\r\n{"a": 1}'),
    "other JSON": partial(_saying, _http(b'{"status": "ok"}')),
    "JSON that is no object": partial(_saying, _http(b'["seq"]')),
    "bottomless JSON": partial(_saying, _http(b"[" * 60_000)),
    "redirect": _status(302, b"Location: /"),
    "permanent redirect": _status(308, b"Location: http://127.0.0.1:9/"),
    "401": _status(401),
    "403": _status(403),
    "429": _status(429, b"Retry-After: inf"),
    "500": _status(500),
    "503": _status(503, b"Retry-After: tomorrow"),
}
"""What is over once the right service listens. The first alone has nobody listen."""
FOR_GOOD: dict[str, Behaviour | None] = {"413": _status(413)}
"""What no other try can help."""
HOLDING = ("never answers", "half an answer, held", "a byte at a time", "100 for ever")
"""What does not end by itself."""


@contextmanager
def bad_service(behaviour: Behaviour | None) -> Iterator[int]:
    """Meet every connection in one way while the block runs; the port."""
    stopped = threading.Event()
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def meet(connection: socket.socket) -> None:
        # A client that gives up, or the end of the block, closes it under our hands.
        with suppress(OSError), connection:
            assert behaviour is not None
            behaviour(connection, stopped)

    def accept() -> None:
        while not stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(None)
                connections.append(connection)
                threads.append(threading.Thread(target=meet, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        listener.settimeout(0.02)
        accepting = threading.Thread(target=accept)
        if behaviour is None:
            listener.close()
        else:
            accepting.start()
        try:
            yield port
        finally:
            stopped.set()
            if behaviour is not None:
                accepting.join()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _training(loop: Loop, port: int = 9) -> None:
    """Twenty steps that tell their frames to the port."""
    url = f"http://127.0.0.1:{port}"
    settings = load_settings({"url": url, "request_timeout_seconds": LONG_SECONDS})
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loop.watch(
        model,
        optimizer,
        transport=HttpTransport(settings),
        run_id="unlucky",
        batch_frames=4,
        retry_first_seconds=0.02,
        close_timeout_seconds=CLOSE_SECONDS,
    )
    for index in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, index)
        loss.backward()
        optimizer.step()
        loop.step(loss)


def _let_threads_end() -> None:
    """A request that `close` did not wait for ends with its connection, and frees the spool."""
    for thread in threading.enumerate():
        if thread.name.startswith("foreshock-"):
            thread.join()


def _steps_in(spool_dir: Path, pattern: str) -> list[int]:
    """The steps of the batches on the disk."""
    messages = (path.read_bytes() for path in sorted(spool_dir.rglob(pattern)))
    return sorted(int(step) for message in messages for step in decode_batch(message).steps)


@pytest.mark.parametrize("name", [*MAY_PASS, *FOR_GOOD])
def test_training_is_the_same_and_every_frame_is_kept(name: str, spool_dir: Path) -> None:
    """Losses, weights and generators are those of a training without the client, `close` returns,
    and each frame is on the disk: in the spool, or put aside where it was refused for good."""
    with bad_service({**MAY_PASS, **FOR_GOOD}[name]) as port:
        digest, _ = run(partial(_training, port=port), watched=True)
    _let_threads_end()
    assert differences(unwatched(_training), digest) == []
    waiting = "*.0/*.batch" if name in MAY_PASS else "rejected/*.batch"
    assert _steps_in(spool_dir, waiting) == list(range(NUM_STEPS))
    assert _steps_in(spool_dir, "*.batch") == list(range(NUM_STEPS))


@pytest.mark.parametrize("name", MAY_PASS)
def test_flush_delivers_each_frame_once_to_the_right_service(name: str, spool_dir: Path) -> None:
    """Once the right service listens at the address, `foreshock flush` empties the spool."""
    with bad_service(MAY_PASS[name]) as port:
        run(partial(_training, port=port), watched=True)
    _let_threads_end()
    with little_service(port=port) as service:
        status = main(["flush", "--url", service.url, "--timeout", "20"])
    assert (status, service.store.steps) == (0, list(range(NUM_STEPS)))
    assert list(spool_dir.iterdir()) == []


@pytest.mark.parametrize("name", [*HOLDING, "refuses connections", "closes mid-request", "429"])
def test_a_running_training_finds_the_right_service(name: str) -> None:
    """A request to the wrong one is given up in time, though the other side goes on; frames from
    before and after the change arrive once, in order."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with bad_service(MAY_PASS[name]) as port:
        watch = foreshock.watch(
            model,
            optimizer,
            url=f"http://127.0.0.1:{port}",
            batch_seconds=0.02,
            retry_first_seconds=0.02,
            retry_max_seconds=0.1,
            request_timeout_seconds=SHORT_SECONDS,
        )
        train(model, optimizer, watch, num_steps=5)
        assert not watch.flush(0.05)
    with little_service(port=port) as service:
        train(model, optimizer, watch, num_steps=5)
        assert watch.flush(20)
        watch.close()
    assert service.store.steps == list(range(10))
    assert [event.kind for event in service.store.events] == ["started", "finished"]


@pytest.mark.parametrize("name", HOLDING)
def test_a_request_that_does_not_end_is_given_up(name: str) -> None:
    """However the other side goes on, `request_timeout_seconds` ends it, and another try comes."""
    behaviour = MAY_PASS[name]
    assert behaviour is not None
    came_again = threading.Semaphore(0)

    def counting(connection: socket.socket, stopped: threading.Event) -> None:
        came_again.release()
        behaviour(connection, stopped)

    with bad_service(counting) as port:
        watch = foreshock.watch(
            perceptron(),
            url=f"http://127.0.0.1:{port}",
            batch_seconds=0.02,
            retry_first_seconds=0.02,
            request_timeout_seconds=SHORT_SECONDS,
            close_timeout_seconds=CLOSE_SECONDS,
        )
        watch.step(loss=1.0)
        assert came_again.acquire(timeout=20)
        assert came_again.acquire(timeout=20)
        watch.close()
