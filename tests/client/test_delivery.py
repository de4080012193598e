"""Frames reach the service exactly once, whatever it does, and training never notices."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import foreshock
import pytest
import torch
from foreshock.watching import Watch

from tests.client.models import perceptron, train
from tests.client.service import little_service

QUICK: dict[str, Any] = {
    "batch_seconds": 0.02,
    "retry_first_seconds": 0.02,
    "request_timeout_seconds": 2.0,
}


def _watched(url: str, num_steps: int = 5, **settings: Any) -> Watch:
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = foreshock.watch(model, optimizer, url=url, **{**QUICK, **settings})
    train(model, optimizer, watch, num_steps=num_steps)
    return watch


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _left(spool_dir: Path) -> list[str]:
    return sorted(path.name for path in spool_dir.rglob("*.batch"))


def test_a_run_reaches_a_service(spool_dir: Path) -> None:
    """Schema, frames and events arrive over HTTP, and the spool is empty and gone afterwards."""
    with little_service() as service:
        watch = _watched(service.url)
        watch.close()
    assert service.store.steps == [0, 1, 2, 3, 4]
    assert [e.kind for e in service.store.events] == ["started", "finished"]
    assert list(spool_dir.iterdir()) == []


def test_the_token_and_the_encoding_are_sent() -> None:
    """The service sees the bearer token, the media type and zstd."""
    with little_service() as service:
        _watched(service.url, token="secret").close()
    path, headers = service.requests[0]
    assert path == "/api/v1/frames"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/vnd.foreshock.frames"
    assert headers["Content-Encoding"] == "zstd"


@pytest.mark.parametrize(
    "behaviour",
    [500, 503, 429, 401, 403, 404, 301, None, b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhi"],
    ids=str,
)
def test_a_service_that_fails_for_a_while_loses_nothing(
    behaviour: int | bytes | None, spool_dir: Path
) -> None:
    """Errors that may pass, hang-ups and strangers only delay: every frame arrives once."""
    with little_service(behaviour, behaviour, behaviour) as service:
        watch = _watched(service.url)
        assert watch.flush(30)
        watch.close()
    assert service.store.steps == [0, 1, 2, 3, 4]
    assert _left(spool_dir) == []


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_for_good_is_put_aside_and_counted(status: int, spool_dir: Path) -> None:
    """A refused batch does not block the ones behind it, and the service learns the count."""
    with little_service(status) as service:
        watch = _watched(service.url)
        assert watch.flush(30)
        watch.note("afterwards")
        watch.close()
    assert len(list(spool_dir.rglob("rejected/*.batch"))) == 1
    assert service.store.batches[-1].counters.batches_rejected == 1


def test_an_absent_service_costs_nothing_but_disk(spool_dir: Path) -> None:
    """With nobody listening training ends normally, and the frames wait in the spool."""
    watch = _watched(f"http://127.0.0.1:{_free_port()}", close_timeout_seconds=0.3)
    assert not watch.flush(0.1)
    watch.close()
    assert _left(spool_dir) != []


def test_the_next_watch_sends_what_was_left_behind(spool_dir: Path) -> None:
    """Frames of a run that ended while the service was away arrive with the next run."""
    port = _free_port()
    first = _watched(f"http://127.0.0.1:{port}", run_id="first", close_timeout_seconds=0.2)
    first.close()
    with little_service(port=port) as service:
        second = _watched(service.url, run_id="second")
        assert second.flush(30)
        # The outbox looks for orphans once its own batches are sent, so a second round is enough.
        for _ in range(200):
            if not list(spool_dir.glob("first.*/*.batch")):
                break
            second.note("waiting")
            second.flush(1)
        second.close()
    sent = [int(s) for b in service.store.batches if b.origin.run == "first" for s in b.steps]
    assert sent == [0, 1, 2, 3, 4]


def test_a_resent_batch_is_the_same_message() -> None:
    """An acknowledgement that is lost leads to the same sequence number again, stored once."""
    with little_service() as service:
        watch = _watched(service.url)
        assert watch.flush(30)
        accept = service.store.post_frames
        lost = iter([True])

        def forgetful(message: bytes) -> object:
            answer = accept(message)
            return None if next(lost, False) else answer

        service.store.post_frames = forgetful  # type: ignore[method-assign, assignment]
        watch.note("twice")
        assert watch.flush(30)
        watch.close()
    assert [e.kind for e in service.store.events] == ["started", "note", "finished"]
    assert service.store.num_posts > len(service.store.batches)
