"""Queue, spool, log and memory stay inside their bounds, and what they drop is counted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreshock.logs import OncePer
from foreshock.sender.batching import Batcher
from foreshock.sender.frames import Frame
from foreshock.spool import Spool
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer
from foreshock.wire import STATISTICS, ClientCounters, Event, FrameBatch, Origin, decode_batch

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

    outbox._batcher.store = hang  # type: ignore[method-assign, assignment]
    watch.note("into the trap")
    threading.Thread(target=watch.flush, args=(0.0,)).start()
    assert hanging.wait(20)
    for _ in range(20):
        watch.step(loss=1.0)
    assert not watch.flush(0.0)  # which completes the last frame
    go.set()
    assert watch.flush(20)
    watch.close()
    assert transport.steps == [16, 17, 18, 19]
    assert transport.batches[-1].counters.frames_dropped == 16


LONG_RUN = """
import collections, gc, json, os, sys, threading, torch, foreshock
from pathlib import Path
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer

class Absent(RecordingTransport):
    '''Away until told, and then a service that forgets what it has counted.'''
    back = False
    num_frames = 0
    last = None
    def post_schema(self, document):
        return Answer(status=200)
    def post_frames(self, message):
        if not self.back:
            return Answer(status=0)
        from foreshock.wire import decode_batch
        batch = decode_batch(message)
        Absent.num_frames += len(batch.steps)
        Absent.last = batch.counters
        return Answer(status=200)

transport, spool_dir = Absent(), Path(sys.argv[1])
model = torch.nn.Linear(1, 1, bias=False)
max_bytes = 4 << 20
watch = foreshock.watch(model, transport=transport, spool_dir=spool_dir, run_id="long",
                        spool_max_bytes=max_bytes, activation_every=0, activation_grad_every=0,
                        gradient_every=0, weight_every=16, update_every=0, histogram_every=0,
                        batch_frames=64, retry_max_seconds=0.5, overhead_budget=0.0)
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
def disk():
    return sum(f.stat().st_blocks * 512 for f in spool_dir.rglob("*") if f.is_file())
def alive():
    gc.collect()
    return collections.Counter(type(o).__name__ for o in gc.get_objects())
measured, most = [], 0
for step in range(100_000):
    watch.step(loss=1.0)
    if step % 64 == 0:
        while len(watch._parts.outbox._frames) > 128:
            threading.Event().wait(0.001)
    if step % 2_000 == 0:
        most = max(most, disk())
    if step in (50_000, 99_999):
        measured.append((rss(), alive()))
grown = {name: count - measured[0][1][name] for name, count in measured[1][1].items()
         if count - measured[0][1][name] > 1000}
transport.back = True
arrived = watch.flush(60)
watch.note("the last word")
watch.close()
print(json.dumps({"grown": grown, "rss": measured[1][0] - measured[0][0], "disk": most,
                  "arrived": arrived, "stored": Absent.num_frames,
                  "dropped": Absent.last.frames_dropped}))
"""


def test_a_hundred_thousand_steps_without_a_service_stay_inside_the_bounds(
    tmp_path: Path,
) -> None:
    """With the spool full, neither memory, nor objects, nor the disk grow any more; when the
    service is back, every frame is stored or counted as dropped."""
    done = subprocess.run(
        [sys.executable, "-c", LONG_RUN, str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["grown"] == {}
    assert told["rss"] < 8 << 20
    # The batches, and one file that is being written.
    assert told["disk"] <= (4 << 20) + 64 * BLOCK
    assert told["arrived"]
    assert told["dropped"] > 0
    assert told["stored"] + told["dropped"] == 100_000


def _overfull(folder: Path) -> tuple[Batcher, list[FrameBatch]]:
    """A batcher that has stored twice what its spool holds, and what is in the spool."""
    spool = Spool(folder, max_bytes=4 * BLOCK)
    batcher = Batcher(
        Origin(run="full", attempt=1),
        spool,
        lambda: ClientCounters(frames_dropped=batcher.num_dropped),
        lambda part, error: None,
        first_seq=0,
        once_per=OncePer(),
    )
    started = Event(kind="started", wall_time=0.0, data={"name": "named"})
    for step in range(8):
        frame = Frame(
            step=step,
            wall_time=0.0,
            flags=0,
            scalars={"loss": 1.0},
            schema=None,
            stats=np.zeros((0, len(STATISTICS)), np.float32),
        )
        batcher.store([frame], [started] if step == 0 else [])
    kept = [decode_batch(path.read_bytes()) for path in sorted(folder.glob("*.batch"))]
    spool.close()
    return batcher, kept


def test_the_batch_that_others_made_room_for_counts_them(tmp_path: Path) -> None:
    """So that the count is at the service even where no batch follows."""
    batcher, kept = _overfull(tmp_path / "a")
    assert [int(batch.steps[0]) for batch in kept] == [4, 5, 6, 7]
    assert kept[-1].counters.frames_dropped == batcher.num_dropped == 4


def test_a_run_keeps_its_name_when_its_first_batch_is_dropped(tmp_path: Path) -> None:
    """What the run says of itself travels again with the batch that the first made room for."""
    _, kept = _overfull(tmp_path / "a")
    assert [e.data["name"] for batch in kept for e in batch.events] == ["named"]
