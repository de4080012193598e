"""Queue, spool, log and memory stay inside their bounds, and what they drop is counted."""

from __future__ import annotations

import threading
from typing import Any

import torch
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer

from tests.client.conftest import Attach
from tests.client.models import perceptron, train

BLOCK = 4096


class Held(RecordingTransport):
    """A service that answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Event(), threading.Event()

    def post_frames(self, message: bytes) -> Answer:
        """Keep one batch, once the service answers again."""
        self.asked.set()
        self.go.wait(60)
        return super().post_frames(message)


def _sgd(model: torch.nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_a_full_spool_counts_exactly_what_it_drops(attach: Attach) -> None:
    """Every frame is either stored or counted as dropped, and the run keeps its name although the
    batch that told it is the oldest."""
    transport = Held()
    model = perceptron()
    watch, _ = attach(
        model,
        _sgd(model),
        transport=transport,
        run="named",
        spool_max_bytes=16 * BLOCK,
        batch_frames=1,
    )
    assert transport.asked.wait(20)
    train(model, _sgd(model), watch, num_steps=1)
    for _ in range(20):
        watch.step(loss=1.0)
        watch.flush(0.05)
    transport.go.set()
    assert watch.flush(20)
    watch.note("after")
    watch.close()
    dropped = transport.batches[-1].counters.frames_dropped
    assert dropped > 0
    assert len(transport.steps) == len(set(transport.steps)) == 21 - dropped
    assert [e.data["name"] for e in transport.events if e.kind == "started"] == ["named"]


def test_a_full_queue_counts_exactly_what_it_drops(attach: Attach) -> None:
    """While the disk hangs the queue keeps the newest frames and counts the others."""
    model = perceptron()
    watch, transport = attach(
        model, _sgd(model), queue_frames=4, batch_frames=4, batch_seconds=60.0
    )
    assert watch.flush(20)
    outbox = watch._parts.outbox if watch._parts is not None else None
    assert outbox is not None
    store, hanging, go = outbox._batcher.store, threading.Event(), threading.Event()

    def hang(*batch: Any) -> None:
        hanging.set()
        go.wait(60)
        store(*batch)

    outbox._batcher.store = hang  # type: ignore[method-assign]
    watch.note("into the trap")
    threading.Thread(target=watch.flush, args=(0.0,)).start()
    assert hanging.wait(20)
    for _ in range(20):
        watch.step(loss=1.0)
    go.set()
    assert watch.flush(20)
    watch.close()
    assert transport.steps == [16, 17, 18, 19]
    assert transport.batches[-1].counters.frames_dropped == 16
